// A server's life: its states, every way into and out of them, and calls at the wrong moment.
// Addresses are in addresses.cpp, what a drain does to connections in drain.cpp.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::code_thrown_by;
using test::eventually;

namespace
{
asio::awaitable<void> wait_at_gate(connection&, test::gate& gate)
{
    co_await gate.wait();
}

asio::awaitable<void> hold(connection& connection)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
}

bool echoes(std::uint16_t port)
{
    test::client client(port);
    client.send("hello");
    return client.receive(5) == "hello";
}

std::vector<server_event_kind> kinds(const test::event_log& log)
{
    std::vector<server_event_kind> kinds;
    for (const auto& event : log.servers()) {
        // The kernel's own limit on the listen queue depends on the machine.
        if (event.kind != server_event_kind::limit_reached) {
            kinds.push_back(event.kind);
        }
    }
    return kinds;
}

using steps = std::vector<server_event_kind>;
} // namespace

TEST_CASE("a server is created, runs, stops and runs again", "[lifecycle][network]")
{
    test::running_server running(test::echo);
    auto& server = running.server;
    CHECK(server.state() == server_state::created);
    CHECK_FALSE(server.is_running());
    CHECK_FALSE(server.is_gone());
    CHECK(server.local_endpoint().port() == 0);

    running.start();
    CHECK(server.state() == server_state::running);
    CHECK(server.is_running());
    CHECK_FALSE(server.is_gone());
    CHECK(echoes(running.port()));

    for (int round = 0; round < 3; ++round) {
        server.close();
        CHECK_FALSE(server.is_running());
        CHECK(server.is_gone());
        REQUIRE(eventually([&] { return server.state() == server_state::stopped; }));
        CHECK(server.is_gone());

        running.on_shard([&] { server.start(); });
        CHECK(server.is_running());
        CHECK_FALSE(server.is_gone());
        CHECK(echoes(running.on_shard([&] { return running.port(); })));
    }
    running.stop();
    CHECK(server.state() == server_state::stopped);
    CHECK(running.log.count(server_event_kind::listening) == 4);
    CHECK(running.log.count(server_event_kind::stopped) == 4);
    CHECK(running.log.count(server_event_kind::draining) == 0);
    CHECK(server.stats().accepted == 4); // counters survive a restart
    CHECK(server.stats().closed == 4);
    CHECK(running.log.errors().empty());
}

TEST_CASE("a server drains until its last handler has returned", "[lifecycle][drain]")
{
    test::gate gate;
    test::running_server running(test::scripted{wait_at_gate, &gate});
    running.start();
    auto& server = running.server;
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));

    auto report = running.shutdown(1min);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    CHECK(server.state() == server_state::draining);
    CHECK_FALSE(server.is_running());
    CHECK(server.is_gone());
    CHECK(server.open_connections() == 1);
    CHECK(code_thrown_by([&] {
              test::client late(running.port());
          }) == std::errc::connection_refused);
    CHECK(code_thrown_by([&] {
              running.on_shard([&] { server.start(); });
          }) == errc::already_running);
    CHECK(report.wait_for(0s) == std::future_status::timeout);

    client.finish();
    gate.open();
    const auto result = test::report_of(report);
    CHECK(result.drained == 1);
    CHECK(result.closed_idle == 0);
    CHECK(result.stragglers.empty());
    CHECK(server.state() == server_state::stopped);
    CHECK(
        kinds(running.log) ==
        steps{
            server_event_kind::listening, server_event_kind::draining, server_event_kind::stopped});

    running.on_shard([&] { server.start(); });
    CHECK(server.state() == server_state::running);
}

TEST_CASE("opening a server that is open is refused and changes nothing", "[lifecycle][network]")
{
    test::running_server running(test::echo);
    auto& server = running.server;
    server.open();
    CHECK(server.state() == server_state::created);
    const auto port = running.port();
    CHECK(port != 0);
    CHECK(code_thrown_by([&] { server.open(); }) == errc::already_running);

    running.start(); // opened already: start() accepts
    CHECK(server.is_running());
    CHECK(running.on_shard([&] {
        return code_thrown_by([&] { server.open(); });
    }) == errc::already_running);
    CHECK(running.on_shard([&] {
        return code_thrown_by([&] { server.start(); });
    }) == errc::already_running);
    CHECK(running.port() == port);
    CHECK(echoes(port));
    CHECK(kinds(running.log) == steps{server_event_kind::listening});
}

TEST_CASE("clients that come between open() and start() are served", "[lifecycle][network]")
{
    test::running_server running(test::echo);
    running.server.open();
    test::client early(running.port());
    early.send("early");
    CHECK(running.server.open_connections() == 0);
    running.start();
    CHECK(early.receive(5) == "early");
}

TEST_CASE("setters throw from open() until the server has stopped", "[lifecycle][network]")
{
    test::running_server running(test::echo);
    auto& server = running.server;
    const auto refused = [&] {
        return std::vector<std::error_code>{
            code_thrown_by([&] { server.on_error({}); }),
            code_thrown_by([&] { server.on_connection({}); }),
            code_thrown_by([&] { server.on_server({}); }),
            code_thrown_by([&] { server.on_socket({}); }),
            code_thrown_by([&] { server.set_address("127.0.0.1:0"); })};
    };
    const std::vector<std::error_code> all(5, errc::already_running);
    server.open();
    CHECK(refused() == all);
    running.start();
    CHECK(running.on_shard(refused) == all);
    CHECK(echoes(running.port()));
    CHECK(running.log.wait_for(connection_event_kind::closed)); // the hooks are still there

    server.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    CHECK(running.on_shard(refused) == std::vector<std::error_code>(5));
    const auto heard = running.log.connections().size();
    running.on_shard([&] { server.start(); });
    CHECK(echoes(running.on_shard([&] { return running.port(); })));
    CHECK(test::wait_until_idle(server));
    CHECK(running.log.connections().size() == heard); // an empty function removed them
}

TEST_CASE("closing or draining before the first accept stops the server", "[lifecycle]")
{
    const bool opened = GENERATE(false, true);
    const bool drains = GENERATE(false, true);
    CAPTURE(opened, drains);
    test::running_server running(hold);
    auto& server = running.server;
    if (opened) {
        server.open();
    }
    running.run();
    if (drains) {
        auto first = running.shutdown(1min);
        const auto report = test::report_of(first);
        CHECK(report.drained == 0);
        CHECK(report.closed_idle == 0);
        CHECK(report.stragglers.empty());
        auto again = running.shutdown(1min);
        test::report_of(again);
    } else {
        server.close();
        server.close();
    }
    CHECK(eventually([&] { return server.state() == server_state::stopped; }));
    if (opened) {
        const auto port = running.on_shard([&] { return running.port(); });
        CHECK(code_thrown_by([&] { test::client late(port); }) == std::errc::connection_refused);
    }
    running.on_shard([&] { server.start(); });
    CHECK(server.is_running());
    test::client client(running.on_shard([&] { return running.port(); }));
    CHECK(running.log.wait_for(connection_event_kind::opened));
}

TEST_CASE(
    "a close that comes before start() does not stop what starts later", "[lifecycle][network]")
{
    test::running_server running(test::echo);
    running.server.close(); // nothing runs the context yet
    running.start();
    running.on_shard([] {}); // the close has had its turn
    CHECK(running.server.is_running());
    CHECK(code_thrown_by([&] { echoes(running.port()); }) == std::error_code());
}

TEST_CASE("closing or draining while the server starts is not lost", "[lifecycle]")
{
    test::running_server running(hold);
    auto& server = running.server;
    std::future<drain_report> report;
    const bool drains = GENERATE(false, true);
    CAPTURE(drains);
    server.on_server([&](const server_event& event) {
        if (event.kind == server_event_kind::listening) {
            if (drains) {
                report = running.shutdown(1min);
            } else {
                server.close();
            }
        }
    });
    running.start();
    if (drains) {
        CHECK(test::report_of(report).drained == 0);
    }
    CHECK(eventually([&] { return server.state() == server_state::stopped; }));
    CHECK(code_thrown_by([&] {
              test::client late(running.on_shard([&] { return running.port(); }));
          }) == std::errc::connection_refused);
}

TEST_CASE(
    "listen() completes when the server has stopped, whoever stopped it", "[lifecycle][network]")
{
    const bool drains = GENERATE(false, true);
    CAPTURE(drains);
    test::running_server running(test::echo);
    running.run();
    auto& server = running.server;
    auto over = asio::co_spawn(running.context, server.listen(), asio::use_future);
    REQUIRE(running.log.wait_for(server_event_kind::listening));
    REQUIRE(eventually([&] { return server.is_running(); }));
    CHECK(echoes(running.on_shard([&] { return running.port(); })));
    CHECK(over.wait_for(0s) == std::future_status::timeout);

    auto second = asio::co_spawn(running.context, server.listen(), asio::use_future);
    REQUIRE(second.wait_for(test::patience) == std::future_status::ready);
    CHECK(code_thrown_by([&] { second.get(); }) == errc::already_running);
    CHECK(over.wait_for(0s) == std::future_status::timeout);

    std::optional<std::future<drain_report>> report;
    if (drains) {
        report = running.shutdown(1min);
    } else {
        server.close();
    }
    REQUIRE(over.wait_for(test::patience) == std::future_status::ready);
    over.get();
    CHECK(server.state() == server_state::stopped);

    auto again = asio::co_spawn(running.context, server.listen(), asio::use_future);
    REQUIRE(running.log.wait_for(server_event_kind::listening, 2));
    REQUIRE(eventually([&] { return server.is_running(); }));
    CHECK(echoes(running.on_shard([&] { return running.port(); })));
    server.close();
    CHECK(again.wait_for(test::patience) == std::future_status::ready);
}
