// Handlers that are still there when their connection is long gone: they end once, and what they
// still do touches nobody else.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <stdexcept>
#include <string>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
struct late_closer
{
    test::gate gate;
    test::mailbox<std::uint64_t> ended;
};

/// The first ten connections are served by handlers that come back when they are long closed.
struct closes_late
{
    late_closer* state;
    int old = 10;

    asio::awaitable<void> operator()(connection& connection)
    {
        return old-- > 0 ? come_back(connection, *state) : test::echo(connection);
    }

    static asio::awaitable<void> come_back(connection& connection, late_closer& state)
    {
        co_await state.gate.wait();
        char buffer[64];
        std::error_code error;
        co_await connection.read_some(asio::buffer(buffer), error);
        co_await connection.readable(error);
        co_await connection.write(asio::buffer("not yours", 9), error);
        co_await connection.shutdown_send();
        connection.expires_after(1ms);
        connection.close();
        connection.abort();
        state.ended.put(connection.id());
    }
};
} // namespace

TEST_CASE(
    "what an old handler still does never touches a newer connection", "[handler][parity][network]")
{
    const auto how =
        GENERATE(as<std::string>{}, "restart", "deadline", "close_connection", "reset");
    CAPTURE(how);
    late_closer state;
    auto config = test::local_config();
    config.linger = 0ms; // descriptors are free for others at once
    test::running_server running(closes_late{&state}, config);
    running.start();
    std::vector<test::client> old;
    for (int i = 0; i < 10; ++i) {
        old.emplace_back(running.port());
    }
    REQUIRE(running.log.wait_for(connection_event_kind::opened, 10));
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 10; }));
    if (how == "restart") {
        running.server.close();
    } else if (how == "deadline") {
        running.shutdown(0ms).get();
    } else if (how == "close_connection") {
        for (const auto& event : running.log.connections()) {
            running.server.close_connection(event.id);
        }
    }
    if (how != "reset") {
        REQUIRE(running.log.wait_for(connection_event_kind::closed, 10));
    }
    for (auto& client : old) {
        client.reset();
    }
    if (running.server.is_gone()) {
        running.on_shard([&] { running.server.start(); });
    }
    const auto port = running.on_shard([&] { return running.port(); });
    std::vector<test::client> fresh;
    for (int i = 0; i < 10; ++i) {
        fresh.emplace_back(port);
        fresh.back().send("still ");
    }
    for (auto& client : fresh) {
        CHECK(client.receive(6) == "still ");
    }
    state.gate.open();
    for (int i = 0; i < 10; ++i) {
        state.ended.take();
    }
    for (auto& client : fresh) {
        client.send("here");
        client.finish();
        const auto rest = client.receive_rest();
        CHECK(rest.bytes == "here");
        CHECK(rest.end == test::stream_end::finished);
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 20));
    running.stop();
    CHECK(running.server.stats().closed_by(close_reason::peer_closed) == 10);
    CHECK(running.log.errors().empty());
    for (const auto& closed : running.log.closed()) {
        CHECK(running.log.of(closed.id).back().kind == connection_event_kind::closed);
    }
}

namespace
{
asio::awaitable<void> read_late(connection& connection, test::gate& gate)
{
    co_await gate.wait();
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1)); // throws shutdown_timeout
}

asio::awaitable<void> throw_late(connection&, test::gate& gate)
{
    co_await gate.wait();
    throw std::runtime_error("late");
}
} // namespace

TEST_CASE(
    "a handler that outlives the drain ends once, as a straggler", "[handler][drain][network]")
{
    test::gate gate;
    const bool fails = GENERATE(false, true);
    CAPTURE(fails);
    test::running_server running(test::scripted{fails ? throw_late : read_late, &gate});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    REQUIRE(test::eventually([&] { return gate.waiting() == 1; }));
    const auto report = running.shutdown(50ms).get();
    REQUIRE(report.stragglers.size() == 1);
    CHECK(report.stragglers.front().id == running.log.closed().front().id);
    CHECK(report.drained == 0);
    CHECK(report.took >= 50ms);
    CHECK(running.server.state() == server_state::stopped);
    CHECK(client.receive_rest().end != test::stream_end::timed_out);
    gate.open();
    if (fails) {
        CHECK(running.log.wait_for_errors());
    }
    running.stop();
    REQUIRE(running.log.closed().size() == 1);
    CHECK(running.log.closed().front().reason == close_reason::shutdown_timeout);
    CHECK(running.log.closed().front().code == errc::shutdown_timeout);
    CHECK(running.log.connections().back().kind == connection_event_kind::closed);
    CHECK(running.server.stats().closed_by(close_reason::shutdown_timeout) == 1);
    CHECK(running.server.stats().closed == 1);
    CHECK(running.log.errors().size() == (fails ? 1 : 0));
}
