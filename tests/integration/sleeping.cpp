// Sleeps and deadlines on the real kernel. What depends on time to the tick is in
// simulation/sleeping.cpp.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/sleep.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <string>
#include <system_error>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::naps
{
struct state
{
    std::string how;
    test::mailbox<std::error_code> ends;
};

inline asio::awaitable<void> nap(connection& conn, state& of)
{
    std::error_code error;
    co_await sleep_for(conn, of.how == "time" ? 30ms : 1h, error);
    of.ends.put(error);
}

inline asio::awaitable<void> wait(connection& conn, state& of)
{
    asio::steady_timer timer(conn.get_executor(), of.how == "time" ? 30ms : 1h);
    std::error_code error;
    co_await timer.async_wait(asio::bind_cancellation_slot(
        conn.deadline().slot(), asio::redirect_error(asio::use_awaitable, error)));
    of.ends.put(error);
}

inline asio::awaitable<void> serve(connection& conn, state& of)
{
    std::error_code ignored; // the test may have gone on before this has
    co_await conn.write(asio::buffer("ready", 5), ignored);
    if (of.how == "expires_after") {
        conn.expires_after(50ms);
    }
    conn.spawn(nap(conn, of));
    co_await nap(conn, of);
}

inline asio::awaitable<void> serve_timers(connection& conn, state& of)
{
    std::error_code ignored; // the test may have gone on before this has
    co_await conn.write(asio::buffer("ready", 5), ignored);
    if (of.how == "expires_after") {
        conn.expires_after(50ms);
    }
    conn.spawn(wait(conn, of));
    co_await wait(conn, of);
}
} // namespace test::naps

TEST_CASE("sleeps and what is bound to a deadline end with their connection", "[sleep]")
{
    const auto protocol = test::either();
    const bool are_timers = GENERATE(false, true);
    test::naps::state of;
    of.how =
        GENERATE(as<std::string>{}, "time", "expires_after", "close_connection", "reset", "server");
    CAPTURE(test::name_of(protocol), are_timers, of.how);
    test::running_server running(
        test::scripted{are_timers ? test::naps::serve_timers : test::naps::serve, &of},
        test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(client.receive(5) == "ready");
    if (of.how == "close_connection") {
        const auto id = running.log.connections().front().id;
        REQUIRE(running.server.close_connection(id));
    } else if (of.how == "reset") {
        client.reset();
    } else if (of.how == "server") {
        running.server.close();
    }
    const std::error_code expected =
        of.how == "time"            ? std::error_code()
        : are_timers                ? asio::error::make_error_code(asio::error::operation_aborted)
        : of.how == "reset"         ? asio::error::make_error_code(asio::error::connection_reset)
        : of.how == "expires_after" ? make_error_code(errc::deadline_exceeded)
                                    : make_error_code(errc::server_closed);
    for (int who = 0; who < 2; ++who) {
        const std::error_code told = of.ends.take();
        CHECK(static_cast<bool>(told) == static_cast<bool>(expected));
        CHECK((!told || told == expected));
    }
}
