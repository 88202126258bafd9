// Stopping a server at awkward moments: from many threads, from its own hooks, by its destructor.
// The ordinary life is in lifecycle.cpp.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
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
} // namespace

TEST_CASE("close() and shutdown() from many threads at once stop a server once", "[lifecycle]")
{
    for (int round = 0; round < 10; ++round) {
        test::running_server running(hold);
        running.start();
        auto& server = running.server;
        std::vector<test::client> clients;
        for (int i = 0; i < 5; ++i) {
            clients.emplace_back(running.port());
        }
        REQUIRE(running.log.wait_for(connection_event_kind::opened, clients.size()));

        std::atomic<bool> may_go = false;
        std::atomic<int> drained = 0;
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([&] {
                while (!may_go) {
                }
                server.close();
                server.close();
            });
            threads.emplace_back([&] { // in a context of its own
                asio::io_context own;
                auto report = asio::co_spawn(own, server.shutdown(1min), asio::use_future);
                while (!may_go) {
                }
                own.run();
                report.get();
                ++drained;
            });
            threads.emplace_back([&] {
                while (!may_go) {
                }
                while (server.state() != server_state::stopped) {
                    static_cast<void>(server.stats());
                    static_cast<void>(server.open_connections());
                    server.close_connection(1);
                }
            });
        }
        may_go = true;
        for (auto& thread : threads) {
            thread.join();
        }
        CHECK(drained == 3);
        CHECK(server.state() == server_state::stopped);
        CHECK(server.open_connections() == 0);
        CHECK(running.log.count(server_event_kind::stopped) == 1);
        CHECK(running.log.count(connection_event_kind::closed) == clients.size());
        for (auto& client : clients) {
            CHECK(client.receive_rest().end != test::stream_end::timed_out);
        }
    }
}

TEST_CASE("a drain without end waits for its handlers", "[lifecycle][drain]")
{
    test::gate gate;
    test::running_server running(test::scripted{wait_at_gate, &gate});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    auto report = running.shutdown(std::chrono::milliseconds::max());
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    CHECK(report.wait_for(100ms) == std::future_status::timeout);
    CHECK(running.server.state() == server_state::draining);
    client.finish();
    gate.open();
    REQUIRE(report.wait_for(test::patience) == std::future_status::ready);
    CHECK(report.get().drained == 1);
}

TEST_CASE("a server may be started again by the hook that hears of its end", "[lifecycle]")
{
    test::running_server running(test::echo);
    auto& server = running.server;
    std::atomic<int> stops = 0;
    server.on_server([&](const server_event& event) {
        if (event.kind == server_event_kind::stopped && ++stops == 1) {
            server.start();
        }
    });
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    server.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    REQUIRE(eventually([&] { return server.is_running(); }));
    CHECK(echoes(running.on_shard([&] { return running.port(); })));
    CHECK(stops == 1);
}

namespace
{
struct either
{
    test::gate* gate;
    int calls = 0;

    asio::awaitable<void> operator()(connection& connection)
    {
        return ++calls == 1 ? hold(connection) : wait_at_gate(connection, *gate);
    }
};
} // namespace

TEST_CASE("destroying a running server closes everything", "[lifecycle]")
{
    const bool context_goes_on = GENERATE(true, false);
    CAPTURE(context_goes_on);
    test::event_log log;
    test::gate gate;
    std::optional<test::client> reading;
    std::optional<test::client> gated;
    std::future<void> listening;
    std::uint16_t port = 0;
    {
        asio::io_context context(1);
        auto server =
            std::make_unique<tcp_server<either>>(context, either{&gate}, test::local_config());
        log.attach(*server);
        listening = asio::co_spawn(context, server->listen(), asio::use_future);
        while (!server->is_running()) {
            REQUIRE(context.run_one_for(test::patience) == 1);
        }
        port = server->local_endpoint().port();
        reading.emplace(port);
        while (log.count(connection_event_kind::opened) < 1) {
            REQUIRE(context.run_one_for(test::patience) == 1);
        }
        gated.emplace(port);
        while (gate.waiting() < 1) {
            REQUIRE(context.run_one_for(test::patience) == 1);
        }
        server.reset();
        CHECK(log.count(connection_event_kind::closed) == 2);
        CHECK(log.count(server_event_kind::stopped) == 1);
        CHECK(code_thrown_by([&] { test::client late(port); }) == std::errc::connection_refused);
        if (context_goes_on) {
            gate.open();
            // Nothing of the server is left: the context runs out of work by itself.
            const auto limit = std::chrono::steady_clock::now() + test::patience;
            context.run_until(limit);
            CHECK(context.stopped());
            CHECK(listening.wait_for(0s) == std::future_status::ready);
        }
    }
    CHECK(reading->receive_rest().end != test::stream_end::timed_out);
    CHECK(gated->receive_rest().end != test::stream_end::timed_out);
    for (const auto& event : log.closed()) {
        CHECK(event.reason == close_reason::server_closed);
    }
    CHECK(log.closed().size() == 2);
    CHECK(log.errors().empty());
}
