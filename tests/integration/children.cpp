// What runs beside a handler: children of the connection, coroutines that nobody waits for, and the
// waits for the peer's leaving and for a drain.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/co_spawn.hpp>
#include <asio/experimental/awaitable_operators.hpp>

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::children
{
struct ends
{
    test::mailbox<std::error_code> codes;
    test::mailbox<std::string> words;
    test::gate gate;
};

inline void ignore(const std::exception_ptr&)
{}

/// Nobody's child: reads until that ends.
inline asio::awaitable<void> read_once(connection& conn, ends& state)
{
    char byte = 0;
    std::error_code error;
    co_await conn.read_some(asio::buffer(&byte, 1), error);
    state.codes.put(error);
}

inline asio::awaitable<void> write_much(connection& conn, ends& state)
{
    const std::string much(32 << 20, 'm');
    std::error_code error;
    co_await conn.write(asio::buffer(much), error);
    state.codes.put(error);
}

inline asio::awaitable<void> wait_readable(connection& conn, ends& state)
{
    std::error_code error;
    const bool more = co_await conn.readable(error);
    state.words.put(more ? "more" : "no more");
    state.codes.put(error);
}

template <typename Child>
void spawn_raw(connection& conn, Child child, ends& state)
{
    asio::co_spawn(conn.get_executor(), child(conn, state), ignore);
}
} // namespace test::children

using namespace test::children;

namespace
{
asio::awaitable<void> abandons_a_read(connection& conn, ends& state)
{
    spawn_raw(conn, read_once, state);
    co_await state.gate.wait();
    conn.abort();
}

asio::awaitable<void> abandons_a_write(connection& conn, ends& state)
{
    spawn_raw(conn, write_much, state);
    co_await state.gate.wait();
}

asio::awaitable<void> abandons_a_wait(connection& conn, ends& state)
{
    spawn_raw(conn, wait_readable, state);
    co_await state.gate.wait();
}
} // namespace

TEST_CASE(
    "an operation that outlives the handler ends before its connection is freed",
    "[children][network]")
{
    const auto protocol = test::either();
    const auto linger = GENERATE(0ms, 3000ms);
    using script = asio::awaitable<void> (*)(connection&, ends&);
    const auto index = GENERATE(0, 1, 2);
    const script scripts[] = {abandons_a_read, abandons_a_write, abandons_a_wait};
    CAPTURE(test::name_of(protocol), linger.count(), index);
    ends state;
    auto config = test::local_config(protocol);
    config.linger = linger;
    config.tls_close_timeout = linger;
    test::running_server running(test::scripted{scripts[index], &state}, config);
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    CHECK(state.codes.take() == errc::connection_closed);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
}

TEST_CASE("a context that dies with operations pending frees their connections", "[children]")
{
    ends state;
    const auto protocol = test::either();
    {
        asio::io_context context(1);
        auto run = [](connection& conn, ends& own) -> asio::awaitable<void> {
            spawn_raw(conn, read_once, own);
            conn.spawn(write_much(conn, own));
            co_await conn.closed();
        };
        tcp_server server(context, test::scripted<ends>{run, &state}, test::local_config(protocol));
        server.start();
        std::thread thread([&] { context.run(); });
        const test::peer client(server.local_endpoint().port(), protocol);
        REQUIRE(test::eventually([&] { return server.stats().handlers == 1; }));
        context.stop();
        thread.join();
    } // LeakSanitizer looks at what is left
    CHECK(state.codes.size() == 0);
}

namespace
{
asio::awaitable<void> echo_child(connection& conn, ends& state)
{
    char byte = 0;
    while (const std::size_t n = co_await conn.read_some(asio::buffer(&byte, 1))) {
        co_await conn.write(asio::buffer(&byte, n));
    }
    state.words.put("child");
}

asio::awaitable<void> leaves_it_to_a_child(connection& conn, ends& state)
{
    conn.spawn(echo_child(conn, state));
    state.words.put("handler");
    co_return;
}
} // namespace

TEST_CASE(
    "a connection is not closed before the handler's children have returned", "[children][network]")
{
    const auto protocol = test::either();
    ends state;
    test::running_server running(
        test::scripted{leaves_it_to_a_child, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(state.words.take() == "handler");
    for (const std::string byte : {"a", "b", "c"}) {
        client.send(byte);
        CHECK(client.receive(1) == byte);
    }
    CHECK(running.server.stats().handlers == 1);
    client.finish();
    CHECK(state.words.take() == "child");
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK(test::eventually([&] { return running.server.stats().handlers == 0; }));
}

namespace
{
asio::awaitable<void> fails_when_told(test::gate& gate)
{
    co_await gate.wait();
    throw std::runtime_error("the child");
}

asio::awaitable<void> has_a_failing_child(connection& conn, ends& state)
{
    conn.spawn(fails_when_told(state.gate));
    conn.spawn(read_once(conn, state));
    co_await conn.closed();
    state.words.put("handler");
}
} // namespace

TEST_CASE("an exception that leaves a child is the handler's", "[children][network]")
{
    ends state;
    test::running_server running(test::scripted{has_a_failing_child, &state});
    running.start();
    test::client client(running.port());
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    CHECK(state.words.take() == "handler");
    CHECK(state.codes.take() == errc::connection_closed);
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_failed);
    REQUIRE(running.log.errors().size() == 1);
    CHECK(running.log.errors().front().what.find("the child") != std::string::npos);
}

namespace
{
asio::awaitable<void> throws_beside_a_child(connection& conn, ends& state)
{
    conn.spawn(read_once(conn, state));
    co_await state.gate.wait();
    throw std::runtime_error("the handler");
}
} // namespace

TEST_CASE("a handler that throws ends its children's operations", "[children][network]")
{
    ends state;
    test::running_server running(test::scripted{throws_beside_a_child, &state});
    running.start();
    test::client client(running.port());
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    CHECK(state.codes.take() == errc::connection_closed);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_failed);
    CHECK(running.log.errors().size() == 1);
}

namespace
{
asio::awaitable<void> wait_for_all_three(connection& conn, ends& state)
{
    co_await conn.closed();
    state.words.put("closed");
    co_await conn.drain_begun();
    state.words.put("drain");
    const bool more = co_await conn.readable();
    state.words.put(more ? "readable" : "not readable");
}

asio::awaitable<void> leaves_waiters(connection& conn, ends& state)
{
    conn.spawn(wait_for_all_three(conn, state));
    conn.spawn(wait_readable(conn, state));
    co_await state.gate.wait();
}
} // namespace

TEST_CASE("when the handler returns, what its children wait for completes", "[children][network]")
{
    const auto protocol = test::either();
    ends state;
    test::running_server running(
        test::scripted{leaves_waiters, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    std::vector<std::string> words;
    for (int i = 0; i < 4; ++i) {
        words.push_back(state.words.take());
    }
    std::sort(words.begin(), words.end());
    CHECK(words == std::vector<std::string>{"closed", "drain", "no more", "not readable"});
    CHECK_FALSE(state.codes.take());
    client.tcp().close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
/// Works without reading, and stops when its client leaves.
asio::awaitable<void> works(connection& conn, ends& state)
{
    state.words.put("working");
    co_await conn.closed();
    state.words.put("left");
}
} // namespace

TEST_CASE(
    "closed() notices that the peer has gone, also behind unread input",
    "[children][closed][network]")
{
    const auto protocol = test::either();
    const auto how = GENERATE(as<std::string>{}, "fin", "fin behind input", "reset", "stopped");
    CAPTURE(test::name_of(protocol), how);
    ends state;
    test::running_server running(test::scripted{works, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(state.words.take() == "working");
    if (how == "fin") {
        client.tcp().finish();
    } else if (how == "fin behind input") {
        client.send("nobody reads this");
        client.tcp().finish();
    } else if (how == "reset") {
        client.tcp().reset();
    } else {
        REQUIRE(running.server.close_connection(running.log.connections().front().id));
    }
    CHECK(state.words.take() == "left");
    client.tcp().close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
asio::awaitable<void> says_which(connection& conn, ends& state)
{
    using namespace asio::experimental::awaitable_operators;
    state.words.put("working");
    const auto which = co_await (conn.drain_begun() || conn.closed());
    state.words.put(which.index() == 0 ? "drain" : "closed");
    co_await state.gate.wait();
    co_await conn.write(asio::buffer("done", 4));
}
} // namespace

TEST_CASE(
    "data and a drain do not end closed(), and a drain ends drain_begun()",
    "[children][closed][network]")
{
    ends state;
    test::running_server running(test::scripted{says_which, &state});
    running.start();
    test::client client(running.port());
    CHECK(state.words.take() == "working");
    client.send("data");
    auto drain = running.shutdown(10s);
    CHECK(state.words.take() == "drain");
    state.gate.open();
    CHECK(client.receive_rest().bytes == "done");
    client.close();
    const auto report = test::report_of(drain);
    CHECK(report.drained == 1);
    CHECK(report.stragglers.empty());
}

namespace
{
asio::awaitable<void> watches_again_and_again(connection& conn, ends& state)
{
    using namespace asio::experimental::awaitable_operators;
    for (int round = 0; round < 100; ++round) {
        asio::steady_timer timer(conn.get_executor(), 0ms);
        const auto which = co_await (timer.async_wait(asio::use_awaitable) || conn.closed());
        if (which.index() != 0) {
            state.words.put("closed");
        }
    }
    state.words.put("watched");
    co_await conn.closed();
    state.words.put("left");
}
} // namespace

TEST_CASE("a wait for the peer's leaving can be given up", "[children][closed][network]")
{
    ends state;
    test::running_server running(test::scripted{watches_again_and_again, &state});
    running.start();
    test::client client(running.port());
    CHECK(state.words.take() == "watched");
    client.close();
    CHECK(state.words.take() == "left");
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
asio::awaitable<void> overlaps_reads(connection& conn, ends& state)
{
    conn.spawn(read_once(conn, state));
    char byte = 0;
    std::error_code error;
    co_await asio::post(conn.get_executor(), asio::use_awaitable); // the child's read is pending
    co_await conn.read_some(asio::buffer(&byte, 1), error);
    state.codes.put(error);
    const bool more = co_await conn.readable(error);
    state.codes.put(error);
    state.words.put(more ? "more" : "no more");
}

asio::awaitable<void> overlaps_writes(connection& conn, ends& state)
{
    conn.spawn(write_much(conn, state));
    std::error_code error;
    co_await asio::post(conn.get_executor(), asio::use_awaitable);
    co_await conn.write(asio::buffer("x", 1), error);
    state.codes.put(error);
}
} // namespace

TEST_CASE("a second read while one is pending is refused", "[connection][overlap][network]")
{
    const auto protocol = test::either();
    ends state;
    test::running_server running(
        test::scripted{overlaps_reads, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(state.codes.take() == std::errc::operation_in_progress);
    CHECK(state.codes.take() == std::errc::operation_in_progress);
    CHECK(state.words.take() == "no more");
    client.send("x");
    CHECK_FALSE(state.codes.take()); // the first one was not disturbed
}

TEST_CASE(
    "a second write while one is pending is refused and cuts nothing",
    "[connection][overlap][network]")
{
    const auto protocol = test::either();
    ends state;
    test::running_server running(
        test::scripted{overlaps_writes, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(state.codes.take() == std::errc::operation_in_progress);
    const auto received = client.receive_rest();
    CHECK(received.bytes.size() == std::size_t(32) << 20);
    CHECK(received.bytes.find_first_not_of('m') == std::string::npos);
    CHECK_FALSE(state.codes.take());
}

namespace
{
asio::awaitable<void> says_why(connection& conn, ends& state)
{
    std::string why = "slow subscriber";
    conn.close(why);
    why = "something else";
    conn.close("too late");
    state.words.put("closed");
    co_return;
}
} // namespace

TEST_CASE("a handler's word for closing is in the closed event", "[connection][close][network]")
{
    ends state;
    test::mailbox<std::string> whys;
    test::running_server running(test::scripted{says_why, &state});
    running.server.on_connection([&](const connection_event& event) {
        if (event.kind == connection_event_kind::closed) {
            whys.put(std::string(event.why));
        } else if (!event.why.empty() && event.kind != connection_event_kind::close_write) {
            whys.put("early");
        }
    });
    running.start();
    test::client client(running.port());
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    CHECK(whys.take() == "slow subscriber");
}

namespace
{
asio::awaitable<void> aborts_after_an_error(connection& conn, ends& state)
{
    char byte = 0;
    std::error_code error;
    co_await conn.read_some(asio::buffer(&byte, 1), error);
    state.codes.put(error);
    conn.abort();
}
} // namespace

TEST_CASE(
    "what ended a connection first stays the reason when the handler aborts", "[connection][close]")
{
    ends state;
    test::running_server running(test::scripted{aborts_after_an_error, &state});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    client.reset();
    CHECK(state.codes.take() == asio::error::connection_reset);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_reset);
    CHECK(running.log.closed().front().code == asio::error::connection_reset);
}
