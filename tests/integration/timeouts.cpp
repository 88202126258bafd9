#include "support/catch.hpp"
#include "support/error_list.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

// Silence, lifetime and the handler's own deadline. Pre-open: pre_open.cpp; stalled writes: write_timeout.cpp.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using std::chrono::milliseconds;
using clock_type = std::chrono::steady_clock;

namespace test::timeouts
{
/// Writes a byte every so often, `times` times, and then waits for the client.
struct ticking_handler
{
    error_list* errors;
    milliseconds interval;
    int times;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        asio::steady_timer timer(connection.get_executor());
        for (int tick = 0; tick < times; ++tick) {
            timer.expires_after(interval);
            co_await timer.async_wait(asio::use_awaitable);
            co_await connection.write(asio::buffer(".", 1));
        }
        char byte = 0;
        std::error_code error;
        co_await connection.read_some(asio::buffer(&byte, 1), error);
        errors->add(error);
    }
};

/// Works on something else until it is woken, and then asks for input.
struct busy_handler
{
    error_list* errors;
    std::atomic<asio::steady_timer*>* work;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        asio::steady_timer timer(connection.get_executor(), 1h);
        *work = &timer;
        std::error_code error;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
        char byte = 0;
        error.clear();
        co_await connection.read_some(asio::buffer(&byte, 1), error);
        errors->add(error);
        error.clear();
        co_await connection.write(asio::buffer(&byte, 1), error);
        errors->add(error);
        errors->add(
            connection.is_open() ? std::error_code() : make_error_code(errc::connection_closed));
    }
};

/// A deadline for each message; the message says how long, in milliseconds, for the next one.
struct deadline_handler
{
    error_list* errors;
    milliseconds first;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        std::int64_t next = first.count();
        std::error_code error;
        for (;;) {
            connection.expires_after(milliseconds(next));
            if (co_await connection.read(asio::buffer(&next, sizeof next), error) == 0 || error) {
                break;
            }
            co_await connection.write(asio::buffer("!", 1), error);
        }
        errors->add(error);
    }
};

inline std::string message(milliseconds next)
{
    const std::int64_t count = next.count();
    return {reinterpret_cast<const char*>(&count), sizeof count};
}

/// Calls `attempt` until this process was fairly scheduled meanwhile: it returns the longest pause that the machine
/// made of the pauses that the test asked for.
template <typename Attempt>
void with_fair_scheduling(milliseconds bearable, Attempt attempt)
{
    for (int tries = 0; tries < 5; ++tries) {
        if (attempt() < bearable) {
            return;
        }
    }
    SKIP_TEST("this machine is too busy for a statement about time");
}
} // namespace test::timeouts

using namespace test::timeouts;

TEST_CASE(
    "a connection that stays silent is closed after the idle timeout, not before",
    "[idle][network]")
{
    const auto how = GENERATE(
        test::reading::read_some, test::reading::read, test::reading::readable,
        test::reading::asio_read_some);
    auto config = test::local_config();
    config.idle_timeout = 200ms;
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors, how}, config);
    running.start();

    const auto begin = clock_type::now();
    test::client client(running.port());
    const auto rest = client.receive_rest();
    CHECK(clock_type::now() - begin >= 200ms);
    CHECK(rest.end == test::stream_end::finished);

    CHECK(errors.wait() == errc::idle_timeout);
    CHECK(errors.wait() == std::errc::timed_out);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto closed = running.log.closed().front();
    CHECK(closed.reason == close_reason::idle_timeout);
    CHECK(closed.code == errc::idle_timeout);
    CHECK(closed.code == std::errc::timed_out);
    CHECK(closed.age >= 200ms);
    CHECK(running.server.stats().closed_by(close_reason::idle_timeout) == 1);
    CHECK(running.log.errors().empty()); // a timeout of ours is a reason, not an error
}

TEST_CASE(
    "under TLS a timeout ends the connection with close_notify and FIN", "[idle][tls][network]")
{
    const auto linger = GENERATE(3000ms, 0ms);
    INFO("linger " << linger.count());
    auto config = test::local_config();
    config.tls = test::make_tls();
    config.idle_timeout = 200ms;
    config.linger = linger;
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors}, config);
    running.start();

    test::tls_client client{test::client(running.port())};
    const auto begin = clock_type::now();
    client.send("hello"); // a byte in: the time starts again
    const auto rest = client.receive_rest();
    CHECK(clock_type::now() - begin >= 200ms);
    CHECK(rest.close_notify);
    CHECK(rest.below.bytes.empty());
    CHECK(rest.below.end == test::stream_end::finished);
    CHECK(errors.wait() == errc::idle_timeout);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::idle_timeout);
}

TEST_CASE("bytes from the client reset the idle timeout", "[idle][network]")
{
    constexpr milliseconds timeout = 400ms;
    with_fair_scheduling(timeout / 2, [&] {
        auto config = test::local_config();
        config.idle_timeout = timeout;
        test::error_list errors;
        test::running_server running(test::dropping_handler{&errors}, config);
        running.start();
        test::client client(running.port());
        auto last = clock_type::now();
        clock_type::duration longest_pause{};
        for (int byte = 0; byte < 10; ++byte) { // a second, and nothing is ever sent back
            std::this_thread::sleep_for(100ms);
            const auto now = clock_type::now();
            client.try_send("x");
            longest_pause = std::max(longest_pause, now - last);
            last = now;
        }
        const auto pause = std::chrono::ceil<milliseconds>(longest_pause);
        if (pause < timeout / 2) {
            CHECK(client.receive_rest().end == test::stream_end::finished);
            CHECK(clock_type::now() - last >= timeout);
            CHECK(errors.wait() == errc::idle_timeout);
            client.close();
            REQUIRE(running.log.wait_for(connection_event_kind::closed));
            CHECK(running.log.closed().front().bytes_read == 10);
        }
        return pause;
    });
}

TEST_CASE("bytes to the client reset the idle timeout", "[idle][network]")
{
    auto config = test::local_config();
    config.idle_timeout = 400ms;
    test::error_list errors;
    test::running_server running(ticking_handler{&errors, 100ms, 10}, config);
    running.start();
    const auto begin = clock_type::now();
    test::client client(running.port());
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == std::string(10, '.'));
    CHECK(rest.end == test::stream_end::finished);
    CHECK(clock_type::now() - begin >= 1400ms);
    CHECK(errors.wait() == errc::idle_timeout);
}

TEST_CASE(
    "a handler that works on something else is not activity, and cannot keep the socket",
    "[idle][network]")
{
    auto config = test::local_config();
    config.idle_timeout = 200ms;
    config.linger = 300ms;
    test::error_list errors;
    std::atomic<asio::steady_timer*> work = nullptr;
    test::running_server running(busy_handler{&errors, &work}, config);
    running.start();

    const auto begin = clock_type::now();
    test::client client(running.port());
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(clock_type::now() - begin >= 200ms);
    // The handler sleeps on, and the client does not close: the socket is closed nevertheless.
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(errors.size() == 0);
    CHECK(running.server.open_connections() == 0);
    const auto closed = running.log.closed().front();
    CHECK(closed.reason == close_reason::idle_timeout);
    CHECK(closed.code == errc::idle_timeout);
    CHECK(closed.age >= 500ms);

    running.on_shard([&] { work.load()->cancel(); });
    CHECK(errors.wait(0) == errc::idle_timeout);
    CHECK(errors.wait(1) == errc::idle_timeout);
    CHECK(errors.wait(2) == errc::connection_closed); // is_open() says no
    running.stop();
    CHECK(running.log.closed().size() == 1);
    CHECK(running.log.connections().back().kind == connection_event_kind::closed);
}

TEST_CASE("a connection ends at its lifetime, however busy it is", "[lifetime][network]")
{
    auto config = test::local_config();
    config.max_lifetime = 300ms;
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors}, config);
    running.start();
    const auto begin = clock_type::now();
    test::client client(running.port());
    const auto limit = begin + test::patience;
    while (errors.size() == 0 && clock_type::now() < limit) {
        client.try_send("x");
        std::this_thread::sleep_for(1ms);
    }
    CHECK(errors.wait() == errc::max_lifetime);
    CHECK(errors.wait() == std::errc::timed_out);
    CHECK(clock_type::now() - begin >= 270ms); // 10 % of jitter
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::max_lifetime);
    CHECK(running.log.closed().front().code == errc::max_lifetime);
}

TEST_CASE("connections of one moment do not end in one moment", "[lifetime][network]")
{
    auto config = test::local_config();
    config.max_lifetime = 1s;
    config.linger = 0ms;
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors}, config);
    running.start();
    std::vector<test::client> clients;
    for (int number = 0; number < 50; ++number) {
        clients.emplace_back(running.port());
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, clients.size()));
    auto shortest = clock_type::duration::max();
    auto longest = clock_type::duration::zero();
    for (const auto& end : running.log.closed()) {
        CHECK(end.reason == close_reason::max_lifetime);
        CHECK(end.age >= 900ms);
        shortest = std::min(shortest, end.age);
        longest = std::max(longest, end.age);
    }
    CHECK(longest - shortest >= 80ms);
}

TEST_CASE("expires_after ends the pending operation and the connection", "[expires_after][network]")
{
    auto config = test::local_config();
    test::error_list errors;
    test::running_server running(deadline_handler{&errors, 200ms}, config);
    running.start();
    const auto begin = clock_type::now();
    test::client client(running.port());
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(clock_type::now() - begin >= 200ms);
    CHECK(errors.wait() == errc::deadline_exceeded);
    CHECK(errors.wait() == std::errc::timed_out);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::deadline_exceeded);
    CHECK(running.log.closed().front().code == errc::deadline_exceeded);
}

TEST_CASE("expires_after may be set anew, earlier, later, or off", "[expires_after][network]")
{
    auto config = test::local_config();
    test::error_list errors;
    const auto first =
        GENERATE(milliseconds(1h), 0ms, -1ms, milliseconds::max(), milliseconds::min());
    INFO("first " << first.count());
    test::running_server running(deadline_handler{&errors, first}, config);
    running.start();
    test::client client(running.port());
    std::this_thread::sleep_for(50ms); // what is off or far away must not end it meanwhile
    const auto exchange = [&](milliseconds next) {
        client.send(message(next));
        CHECK(client.receive(1) == "!");
    };
    exchange(milliseconds(2h));  // later
    exchange(milliseconds(30s)); // earlier: due before anything that was scheduled
    exchange(0ms);               // off
    exchange(5s);
    exchange(milliseconds::max());
    std::this_thread::sleep_for(50ms);
    const auto begin = clock_type::now();
    exchange(100ms);
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(clock_type::now() - begin >= 100ms);
    CHECK(errors.wait() == errc::deadline_exceeded);
}

TEST_CASE(
    "expires_after that was set off or moved does not fire at the old time",
    "[expires_after][network]")
{
    const auto next = GENERATE(0ms, milliseconds(1h));
    auto config = test::local_config();
    test::error_list errors;
    test::running_server running(deadline_handler{&errors, 5s}, config);
    running.start();
    test::client moved(running.port());
    moved.send(message(1000ms));
    moved.receive(1);
    moved.send(message(next)); // well before the second are over, unless the machine stands still
    const bool in_time = moved.receive(1) == "!";
    REQUIRE(in_time);
    // A second connection's deadline, set later for a later time, tells that the old time has passed.
    test::client witness(running.port());
    witness.send(message(1100ms));
    witness.receive(1);
    CHECK(witness.receive_rest().end == test::stream_end::finished);
    CHECK(errors.wait() == errc::deadline_exceeded);
    moved.send(message(100ms));
    CHECK(moved.receive(1) == "!");
}

TEST_CASE("with every timeout at zero a silent connection stays", "[idle][lifetime][network]")
{
    auto config = test::local_config();
    config.pre_open_timeout = 0ms;
    config.idle_timeout = 0ms;
    config.write_timeout = 0ms;
    config.max_lifetime = 0ms;
    test::running_server running(test::echo, config);
    running.start();
    test::client client(running.port());
    client.send("a");
    CHECK(client.receive(1) == "a");
    std::this_thread::sleep_for(300ms);
    client.send("b");
    CHECK(client.receive(1) == "b");
    CHECK(running.log.closed().empty());
}
