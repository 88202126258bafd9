// What may serve a connection, every way in which a handler ends, and what each end is called.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
asio::awaitable<void> return_at_once(connection&)
{
    co_return;
}

// -- what may be a handler --------------------------------------------------------------------------

template <typename Result, typename... Parameters>
using function = Result (*)(Parameters...);

struct move_only
{
    asio::awaitable<void> operator()(connection&);
    std::unique_ptr<int> state;
};

static_assert(connection_handler<function<asio::awaitable<void>, connection&>>);
static_assert(connection_handler<function<asio::awaitable<void>, const connection&>>);
static_assert(connection_handler<std::function<asio::awaitable<void>(connection&)>>);
static_assert(connection_handler<move_only>);
static_assert(connection_handler<decltype([](auto& any) { return return_at_once(any); })>);
static_assert(!connection_handler<function<asio::awaitable<int>, connection&>>);
static_assert(!connection_handler<function<asio::awaitable<void>>>);
static_assert(!connection_handler<function<asio::awaitable<void>, connection>>);
static_assert(!connection_handler<function<asio::awaitable<void>, connection&, int>>);
static_assert(!connection_handler<function<void, connection&>>);
static_assert(!connection_handler<int>);

// -- handlers that end ------------------------------------------------------------------------------

asio::awaitable<void> read_to_the_end(connection& connection)
{
    char buffer[64];
    while (co_await connection.read_some(asio::buffer(buffer)) != 0) {
    }
}

asio::awaitable<void> read_then_throw(connection& connection)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
    throw std::runtime_error("out of cheese");
}

asio::awaitable<void> read_then_throw_42(connection& connection)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
    throw 42;
}

asio::awaitable<void> read_then_throw_code(connection& connection)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
    throw std::system_error(std::make_error_code(std::errc::no_space_on_device), "log");
}

asio::awaitable<void> throw_before_suspending(connection& connection)
{
    if (connection.id() != 0) {
        throw std::runtime_error("too early");
    }
    co_return;
}

asio::awaitable<void> throw_without_a_coroutine(connection&)
{
    throw std::runtime_error("no coroutine was made");
}

asio::awaitable<void> close_then_throw(connection& connection)
{
    connection.close();
    throw std::runtime_error("after closing");
    co_return;
}

asio::awaitable<void> close_when_the_peer_has_finished(connection& connection)
{
    co_await read_to_the_end(connection);
    connection.close();
}

asio::awaitable<void> read_exactly_two(connection& connection)
{
    char buffer[2];
    co_await connection.read(asio::buffer(buffer));
}

asio::awaitable<void> swallow_the_error(connection& connection)
{
    char buffer[64];
    std::error_code error;
    while (co_await connection.read_some(asio::buffer(buffer), error) != 0) {
    }
}

enum class leaves
{
    not_at_all,
    with_a_byte,
    by_finishing,
    after_a_byte,
    by_reset,
};

struct ending_case
{
    const char* name;
    asio::awaitable<void> (*handler)(connection&);
    leaves client;
    close_reason reason;
    std::error_code code;
    std::string reported; // empty: no error event
};

const errc failed = errc::handler_failed;

std::vector<ending_case> ending_cases()
{
    const std::error_code none;
    const std::error_code reset = asio::error::connection_reset;
    const auto full = std::make_error_code(std::errc::no_space_on_device);
    using enum close_reason;
    using enum leaves;
    return {
        {"returns", return_at_once, not_at_all, handler_returned, none, ""},
        {"reads to the end", read_to_the_end, by_finishing, peer_closed, none, ""},
        {"reads until a reset", read_to_the_end, by_reset, peer_reset, reset, ""},
        {"swallows a reset", swallow_the_error, by_reset, peer_reset, reset, ""},
        {"is cut inside a message", read_exactly_two, after_a_byte, peer_closed, none, ""},
        {"throws", read_then_throw, with_a_byte, handler_failed, failed, "out of cheese"},
        {"throws 42", read_then_throw_42, with_a_byte, handler_failed, failed, "handler"},
        {"throws a code", read_then_throw_code, with_a_byte, handler_failed, full, "log"},
        {"throws, peer gone", read_then_throw, after_a_byte, handler_failed, failed, "cheese"},
        {"throws early", throw_before_suspending, not_at_all, handler_failed, failed, "too early"},
        {"is no coroutine", throw_without_a_coroutine, not_at_all, handler_failed, failed, "made"},
        {"closes, then throws", close_then_throw, not_at_all, handler_returned, none, "closing"},
        {"closes at the end", close_when_the_peer_has_finished, by_finishing, peer_closed, none,
         ""},
    };
}
} // namespace

TEST_CASE("each way in which a handler ends is told apart", "[handler]")
{
    const auto index = static_cast<std::size_t>(GENERATE(range(0, 13)));
    const auto cases = ending_cases();
    REQUIRE(cases.size() == 13);
    const ending_case& expected = cases[index];
    INFO("a handler that " << expected.name);

    test::running_server running(expected.handler);
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    switch (expected.client) {
    case leaves::not_at_all:
        break;
    case leaves::with_a_byte:
        client.send("x");
        break;
    case leaves::by_finishing:
        client.send("xyz");
        client.finish();
        break;
    case leaves::after_a_byte:
        client.send("x");
        client.finish();
        break;
    case leaves::by_reset:
        client.reset();
        break;
    }
    if (expected.client != leaves::by_reset) {
        CHECK(client.receive_rest().end == test::stream_end::finished);
        client.close();
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    running.stop(); // nothing comes after that

    const auto steps = running.log.connections();
    REQUIRE(running.log.closed().size() == 1);
    CHECK(steps.back().kind == connection_event_kind::closed);
    CHECK(to_string(steps.back().reason) == to_string(expected.reason));
    CHECK(steps.back().code == expected.code);
    const auto stats = running.server.stats();
    CHECK(stats.closed == 1);
    CHECK(stats.open == 0);
    CHECK(stats.closed_by(expected.reason) == 1);

    const auto errors = running.log.errors();
    CHECK(stats.errors == errors.size());
    if (expected.reported.empty()) {
        CHECK(errors.empty());
    } else {
        REQUIRE(errors.size() == 1);
        CHECK(errors.front().what.find(expected.reported) != std::string::npos);
        CHECK(errors.front().connection_id == steps.back().id);
        CHECK(errors.front().remote == steps.back().remote);
        CHECK(errors.front().code != std::error_code());
        if (expected.reason == close_reason::handler_failed) {
            CHECK(errors.front().code == expected.code);
        }
    }
}

TEST_CASE(
    "a handler that fails brings down neither its server nor its neighbours", "[handler][network]")
{
    struct fails_when_told
    {
        static asio::awaitable<void> serve(connection& connection)
        {
            char byte = 0;
            while (co_await connection.read_some(asio::buffer(&byte, 1)) != 0) {
                if (byte == '!') {
                    throw 42;
                }
                co_await connection.write(asio::buffer(&byte, 1));
            }
        }
    };
    test::running_server running(&fails_when_told::serve);
    running.start();
    test::client good(running.port());
    for (int i = 0; i < 50; ++i) {
        test::client bad(running.port());
        bad.send("!");
        CHECK(bad.receive_rest().bytes.empty());
    }
    good.send("x");
    CHECK(good.receive(1) == "x");
    CHECK(running.log.wait_for_errors(50));
    CHECK(running.server.stats().closed_by(close_reason::handler_failed) == 50);
    CHECK(running.server.is_running());
}

TEST_CASE("a null handler is refused by the constructor", "[handler]")
{
    asio::io_context context;
    const auto code_of = [&](auto handler) -> std::error_code {
        try {
            tcp_server server(context, std::move(handler), test::local_config());
        } catch (const std::system_error& error) {
            return error.code();
        }
        return {};
    };
    asio::awaitable<void> (*nothing)(connection&) = nullptr;
    CHECK(code_of(nothing) == errc::invalid_handler);
    CHECK(code_of(std::function<asio::awaitable<void>(connection&)>()) == errc::invalid_handler);
    CHECK(code_of(&return_at_once) == std::error_code());
    CHECK(
        code_of(std::function<asio::awaitable<void>(connection&)>(&return_at_once)) ==
        std::error_code());
}

namespace
{
struct counting_handler
{
    std::unique_ptr<int> calls = std::make_unique<int>(0);

    asio::awaitable<void> operator()(connection& connection)
    {
        const char answer = static_cast<char>('0' + ++*calls);
        co_await connection.write(asio::buffer(&answer, 1));
    }
};

asio::awaitable<void> say_1(connection& connection)
{
    co_await connection.write(asio::buffer("1", 1));
}

/// What two clients, one after the other, hear from a server of `handler`.
template <typename Handler>
std::string heard_from(Handler handler)
{
    test::running_server<Handler> running(std::move(handler));
    running.start();
    std::string heard = test::client(running.port()).receive_rest().bytes;
    return heard + test::client(running.port()).receive_rest().bytes;
}
} // namespace

TEST_CASE("functions, lambdas and functors with state serve connections", "[handler][network]")
{
    CHECK(heard_from(&say_1) == "11");
    CHECK(heard_from([](connection& c) { return say_1(c); }) == "11");
    CHECK(heard_from([](auto& c) -> asio::awaitable<void> { co_await say_1(c); }) == "11");
    CHECK(heard_from(std::function<asio::awaitable<void>(connection&)>(&say_1)) == "11");
    CHECK(heard_from(counting_handler()) == "12"); // move-only; one object for all connections

    // A coroutine lambda that captures: the server keeps it, so its captures stay.
    const auto answer = std::make_shared<std::string>(100, 'x');
    auto lambda = [answer](connection& c) -> asio::awaitable<void> {
        co_await c.write(asio::buffer(*answer));
    };
    CHECK(heard_from(std::move(lambda)) == std::string(200, 'x'));
}
