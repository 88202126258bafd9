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
} // namespace

TEST_CASE(
    "close() and shutdown() from many threads at once stop a server once", "[lifecycle][network]")
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

TEST_CASE("a drain without end waits for its handlers", "[lifecycle][drain][network]")
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

TEST_CASE("a server may be started again by the hook that hears of its end", "[lifecycle][network]")
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

namespace
{
/// Its owners are those of the server's state.
struct witness
{
    std::shared_ptr<int> life;

    asio::awaitable<void> operator()(connection& connection) const
    {
        return hold(connection);
    }
};

enum class wait_stage
{
    over,
    asked_for,
    not_begun,
};

/// How often what was awaited in `other` ended, from before its server and its context were gone.
int ends_heard_after_server(asio::io_context& other, wait_stage stage, std::weak_ptr<int>& life)
{
    const bool listens = GENERATE(false, true);
    CAPTURE(listens);
    int ends = 0;
    {
        asio::io_context context{1};
        auto held = std::make_shared<int>();
        life = held;
        tcp_server server(context, witness{std::move(held)}, test::local_config());
        if (listens) {
            asio::co_spawn(other, server.listen(), [&](const std::exception_ptr&) { ++ends; });
        } else {
            server.start();
            asio::co_spawn(
                other, server.shutdown(1s),
                [&](const std::exception_ptr&, const drain_report&) { ++ends; });
        }
        if (stage != wait_stage::not_begun) {
            other.poll();
        }
        if (stage == wait_stage::over) {
            context.poll();
            server.close();
            context.restart();
            context.poll();
        }
    }
    CHECK(life.expired()); // nothing of the server may outlive its context
    other.restart();
    other.poll();
    return ends;
}
} // namespace

TEST_CASE("who waits in another context keeps nothing of a server that is gone", "[lifecycle]")
{
    std::weak_ptr<int> life;
    asio::io_context other;
    SECTION("and hears of an end that came before")
    {
        CHECK(ends_heard_after_server(other, wait_stage::over, life) == 1);
    }
    SECTION("and is gone with the context in which the request was waiting")
    {
        CHECK(ends_heard_after_server(other, wait_stage::asked_for, life) == 0);
    }
    SECTION("and who begins only then is told at once that it is over")
    {
        CHECK(ends_heard_after_server(other, wait_stage::not_begun, life) == 1);
    }
}

TEST_CASE("a stop ends the run that it was asked of, not the one behind it", "[lifecycle][network]")
{
    test::running_server running(hold);
    auto& server = running.server;
    running.start();
    std::future<void> over;
    const auto spawn = [&](asio::awaitable<void> next) {
        over = asio::co_spawn(running.context, std::move(next), asio::use_future);
    };
    SECTION("close(), and listen() before it takes effect")
    {
        running.on_shard([&] {
            server.close();
            asio::post(
                running.context, [&, next = server.listen()]() mutable { spawn(std::move(next)); });
        });
    }
    SECTION("a drain, and listen() that was called in it and is awaited after it")
    {
        test::client client(running.port());
        REQUIRE(running.log.wait_for(connection_event_kind::opened));
        auto report = running.shutdown(1min);
        REQUIRE(running.log.wait_for(server_event_kind::draining));
        auto next = server.listen();
        client.close();
        CHECK(test::report_of(report).drained == 1);
        spawn(std::move(next));
    }
    REQUIRE(running.log.wait_for(server_event_kind::listening, 2));
    REQUIRE(eventually([&] { return server.is_running(); }));
    running.on_shard([] {});
    CHECK(over.wait_for(50ms) == std::future_status::timeout);
    server.close();
    REQUIRE(over.wait_for(test::patience) == std::future_status::ready);
    CHECK(running.log.count(server_event_kind::stopped) == 2);
}

TEST_CASE(
    "listen() called by the hook that hears of the end is for the next run", "[lifecycle][network]")
{
    test::running_server running(hold);
    auto& server = running.server;
    std::atomic<int> stops = 0;
    std::future<void> over;
    server.on_server([&](const server_event& event) {
        if (event.kind == server_event_kind::stopped && ++stops == 1) {
            over = asio::co_spawn(running.context, server.listen(), asio::use_future);
        }
    });
    running.start();
    server.close();
    REQUIRE(eventually([&] { return stops == 1 && server.is_running(); }));
    running.on_shard([] {});
    CHECK(over.wait_for(50ms) == std::future_status::timeout);
    server.close();
    REQUIRE(over.wait_for(test::patience) == std::future_status::ready);
    CHECK(stops == 2);
}

TEST_CASE("a hook that runs cannot be replaced", "[lifecycle][hooks][network]")
{
    test::running_server running(hold);
    auto& server = running.server;
    test::mailbox<std::error_code> codes;
    const std::string text(100, 'h'); // of a hook that would be destroyed while it runs
    server.on_server([&, text](const server_event& event) {
        if (event.kind == server_event_kind::stopped) {
            codes.put(code_thrown_by([&] { server.on_server({}); }));
            codes.put(code_thrown_by([&] { server.on_error({}); }));
            CHECK(text.back() == 'h');
        }
    });
    running.start();
    server.close();
    CHECK(codes.take() == errc::already_running);
    CHECK(codes.take() == errc::already_running);
    running.on_shard([&] { server.on_server({}); }); // it has returned
}
