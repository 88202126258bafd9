// Starting and stopping several shards: every verb before, during, after and twice, from any thread and from hooks.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/running_server.hpp>
#include <fairlead/sharded_server.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::client_distribution;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::server_event_kind;
using fairlead::server_state;
using test::event_log;

namespace
{
using echo_server = fairlead::sharded_server<asio::awaitable<void> (*)(fairlead::connection&)>;

fairlead::shard_config two_shards()
{
    return {.threads = 2};
}

test::client served_by(const echo_server& server)
{
    test::client client(server.local_endpoint().port());
    client.send("hi");
    REQUIRE(client.receive(2) == "hi");
    return client;
}

bool is_refused(std::uint16_t port)
{
    try {
        test::client client(port);
        return false;
    } catch (const std::system_error& error) {
        return error.code() == std::errc::connection_refused;
    }
}

std::error_code thrown_by(const std::function<void()>& call)
{
    try {
        call();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

/// 'i' waits for a request (and goes home when the server drains), anything else reads on.
asio::awaitable<void> idle_or_stuck(fairlead::connection& connection)
{
    std::array<char, 1> order{};
    co_await connection.read(asio::buffer(order));
    co_await connection.write(asio::buffer("+", 1));
    if (order[0] == 'i') {
        co_await connection.readable();
    } else {
        co_await connection.read_some(asio::buffer(order));
    }
}
} // namespace

TEST_CASE("there is a shard for each core unless something else is said", "[shards]")
{
    echo_server server(test::echo, test::local_config());
    CHECK(server.shard_count() == std::max(1U, std::thread::hardware_concurrency()));
    echo_server single(test::echo, test::local_config(), {.threads = 1});
    CHECK(single.shard_count() == 1);
    single.start();
    served_by(single);
}

TEST_CASE("a sharded server starts again after it has stopped", "[shards][lifecycle]")
{
    event_log log; // outlives the server, which reports its end
    const auto distribution =
        GENERATE(client_distribution::kernel, client_distribution::round_robin);
    echo_server server(
        test::echo, test::local_config(), {.threads = 2, .distribution = distribution});
    log.attach(server);
    for (int round = 1; round <= 5; ++round) {
        server.start();
        CHECK(server.is_running());
        for (int i = 0; i < 4; ++i) {
            served_by(server);
        }
        const auto port = server.local_endpoint().port();
        server.shutdown(5s);
        CHECK(server.state() == server_state::stopped);
        CHECK(is_refused(port));
        CHECK(server.stats().accepted == static_cast<std::uint64_t>(round) * 4);
        CHECK(server.stats().closed == static_cast<std::uint64_t>(round) * 4);
    }
    CHECK(log.count(server_event_kind::listening) == 5);
    CHECK(log.count(server_event_kind::draining) == 5);
    CHECK(log.count(server_event_kind::stopped) == 5);
}

TEST_CASE("clients wait between open and start", "[shards][lifecycle]")
{
    const auto distribution =
        GENERATE(client_distribution::kernel, client_distribution::round_robin);
    echo_server server(
        test::echo, test::local_config(), {.threads = 2, .distribution = distribution});
    server.open();
    CHECK(server.state() == server_state::created);
    std::vector<test::client> clients;
    for (int i = 0; i < 10; ++i) {
        clients.emplace_back(server.local_endpoint().port());
        clients.back().send("early");
    }
    server.start();
    for (auto& client : clients) {
        CHECK(client.receive(5) == "early");
    }
}

TEST_CASE("a second start is refused and disturbs nobody", "[shards][lifecycle]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    server.start();
    auto client = served_by(server);
    CHECK(thrown_by([&] { server.start(); }) == errc::already_running);
    CHECK(thrown_by([&] { server.open(); }) == errc::already_running);
    CHECK(thrown_by([&] { server.set_address("127.0.0.1:0"); }) == errc::already_running);
    CHECK(thrown_by([&] { server.on_server({}); }) == errc::already_running);
    CHECK(thrown_by([&] { server.on_error({}); }) == errc::already_running);
    CHECK(thrown_by([&] { server.on_connection({}); }) == errc::already_running);
    CHECK(thrown_by([&] { server.on_socket({}); }) == errc::already_running);
    client.send("still");
    CHECK(client.receive(5) == "still");
}

TEST_CASE("stopping a server that has not started returns at once", "[shards][lifecycle]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    SECTION("created")
    {
        const auto report = server.shutdown(10s);
        CHECK(report.drained == 0);
        CHECK(report.stragglers.empty());
        server.close();
        server.join();
    }
    SECTION("opened: the port is free afterwards")
    {
        server.open();
        const auto port = server.local_endpoint().port();
        test::client waiting(port);
        SECTION("by shutdown")
        {
            server.shutdown(10s);
        }
        SECTION("by close")
        {
            server.close();
        }
        CHECK(waiting.receive_rest().end == test::stream_end::reset);
        CHECK(is_refused(port));
        CHECK(server.state() == server_state::stopped);
        server.join();
    }
    SECTION("only joined")
    {
        server.join();
    }
    server.start(); // and it starts as if nothing had been
    served_by(server);
}

TEST_CASE("an address is set between two runs", "[shards][lifecycle]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    server.start();
    server.shutdown(1s);
    server.set_address("127.0.0.2:0");
    CHECK(thrown_by([&] { server.set_address("nonsense"); }) == errc::invalid_address);
    server.start();
    CHECK(server.local_endpoint().address().to_string() == "127.0.0.2");
    test::client client(server.local_endpoint().port(), "127.0.0.2");
    client.send("x");
    CHECK(client.receive(1) == "x");
}

TEST_CASE("shutdown from two threads: both wait for the same end", "[shards][lifecycle][drain]")
{
    event_log log; // outlives the server, which reports its end
    fairlead::sharded_server server(idle_or_stuck, test::local_config(), two_shards());
    log.attach(server);
    server.start();
    test::client stuck(server.local_endpoint().port());
    stuck.send("s");
    REQUIRE(stuck.receive(1) == "+");
    auto first = std::async(std::launch::async, [&] { return server.shutdown(1h); });
    REQUIRE(log.wait_for(server_event_kind::draining)); // every shard is
    auto second = std::async(std::launch::async, [&] { return server.shutdown(300ms); });
    const auto one = first.get(); // the second has shortened it
    const auto other = second.get();
    CHECK(one.stragglers.size() == 1);
    CHECK(other.stragglers.size() == 1);
    CHECK(one.took >= 300ms);
    CHECK(server.state() == server_state::stopped);
    CHECK(stuck.receive_rest().end != test::stream_end::timed_out);
    const auto third = server.shutdown(1h); // nothing left to wait for
    CHECK(third.stragglers.empty());
}

TEST_CASE(
    "who joins a drain late hears of the shards that are done already",
    "[shards][lifecycle][drain]")
{
    event_log log; // outlives the server, which reports its end
    fairlead::sharded_server server(
        idle_or_stuck, test::local_config(),
        {.threads = 2, .distribution = client_distribution::round_robin});
    log.attach(server);
    server.start();
    test::client idle(server.local_endpoint().port()); // in turn: on one shard
    idle.send("i");
    REQUIRE(idle.receive(1) == "+");
    test::client stuck(server.local_endpoint().port()); // and on the other
    stuck.send("s");
    REQUIRE(stuck.receive(1) == "+");
    test::let_handlers_go_on(server, log); // both handlers wait by now
    auto first = std::async(std::launch::async, [&] { return server.shutdown(1h); });
    CHECK(idle.receive_rest().end == test::stream_end::finished);
    idle.close();
    REQUIRE(log.wait_for(connection_event_kind::closed));
    test::let_handlers_go_on(server, log); // that shard has finished
    const auto late = server.shutdown(100ms);
    const auto early = first.get();
    CHECK(early.closed_idle == 1);
    CHECK(early.stragglers.size() == 1);
    CHECK(late.stragglers.size() == 1);
    CHECK(late.closed_idle == early.closed_idle); // it joined the same drain
}

TEST_CASE("close ends a drain, and names who was still there", "[shards][lifecycle][drain]")
{
    event_log log; // outlives the server, which reports its end
    fairlead::sharded_server server(idle_or_stuck, test::local_config(), two_shards());
    log.attach(server);
    server.start();
    test::client stuck(server.local_endpoint().port());
    stuck.send("s");
    REQUIRE(stuck.receive(1) == "+");
    auto draining = std::async(std::launch::async, [&] { return server.shutdown(1h); });
    REQUIRE(log.wait_for(server_event_kind::draining)); // every shard is
    server.close();
    CHECK(draining.get().stragglers.size() == 1);
}

TEST_CASE(
    "close during start leaves a server that is stopped or runs, and nothing between",
    "[shards][lifecycle]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    for (int round = 0; round < 50; ++round) {
        auto closing = std::async(std::launch::async, [&] { server.close(); });
        server.start();
        closing.get();
        if (round % 2 == 0) { // if the close came before the start, it runs now
            server.close();
            server.join();
            REQUIRE(server.state() == server_state::stopped);
        } else {
            server.shutdown(0ms);
            server.close();
            server.join();
            REQUIRE(server.state() == server_state::stopped);
        }
    }
    server.start();
    served_by(server);
}

TEST_CASE("threads that shut down, close and join at once all return", "[shards][lifecycle]")
{
    for (int round = 0; round < 20; ++round) {
        echo_server server(test::echo, test::local_config(), two_shards());
        server.start();
        auto client = served_by(server);
        std::vector<std::future<void>> calls;
        calls.push_back(std::async(std::launch::async, [&] { server.shutdown(50ms); }));
        calls.push_back(std::async(std::launch::async, [&] { server.shutdown(10ms); }));
        calls.push_back(std::async(std::launch::async, [&] { server.join(); }));
        calls.push_back(std::async(std::launch::async, [&] { server.join(); }));
        calls.push_back(std::async(std::launch::async, [&] { server.close(); }));
        for (auto& call : calls) {
            REQUIRE(call.wait_for(test::patience) == std::future_status::ready);
        }
        CHECK(server.state() == server_state::stopped);
        CHECK(client.receive_rest().end != test::stream_end::timed_out);
    }
}

TEST_CASE("join waits for whoever stops the server", "[shards][lifecycle]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    server.start();
    auto client = served_by(server);
    auto joined = std::async(std::launch::async, [&] { server.join(); });
    CHECK(joined.wait_for(100ms) == std::future_status::timeout);
    server.close();
    REQUIRE(joined.wait_for(test::patience) == std::future_status::ready);
    CHECK(server.state() == server_state::stopped);
}

TEST_CASE("destroying a running server closes every connection", "[shards][lifecycle]")
{
    event_log log; // outlives the server, which reports its end
    std::vector<test::client> clients;
    {
        echo_server server(test::echo, test::local_config(), two_shards());
        log.attach(server);
        server.start();
        for (int i = 0; i < 10; ++i) {
            clients.push_back(served_by(server));
        }
    }
    CHECK(log.count(connection_event_kind::closed) == 10); // before the destructor has returned
    for (auto& client : clients) {
        CHECK(client.receive_rest().end != test::stream_end::timed_out);
    }
    for (const auto& event : log.closed()) {
        CHECK(event.reason == fairlead::close_reason::server_closed);
    }
}

TEST_CASE("a hook may close the whole server", "[shards][lifecycle][hooks]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    server.on_connection([&](const fairlead::connection_event& event) {
        if (event.kind == connection_event_kind::close_read) {
            server.close();
        }
    });
    server.start();
    auto client = served_by(server);
    auto joined = std::async(std::launch::async, [&] { server.join(); });
    client.finish();
    REQUIRE(joined.wait_for(test::patience) == std::future_status::ready);
    CHECK(server.state() == server_state::stopped);
}

TEST_CASE("a drain asked for while the server starts is a drain", "[shards][lifecycle][drain]")
{
    fairlead::sharded_server server(test::echo, test::local_config(), {.threads = 2});
    std::atomic<int> drains = 0;
    std::thread operating;
    server.on_server([&](const fairlead::server_event& event) {
        if (event.kind == fairlead::server_event_kind::listening) {
            std::atomic<bool> has_begun = false;
            operating = std::thread([&server, &has_begun] {
                fairlead::running_server handle(server);
                has_begun = true;
                handle.shutdown(10s);
            });
            while (!has_begun) {
                std::this_thread::yield();
            }
            std::this_thread::sleep_for(20ms); // it waits for the start, most likely
        }
        drains += event.kind == fairlead::server_event_kind::draining ? 1 : 0;
    });
    server.start();
    server.join();
    operating.join();
    CHECK(drains == 1);
}

TEST_CASE("a close that comes too late does not end the next run", "[shards][lifecycle][hooks]")
{
    echo_server server(test::echo, test::local_config(), two_shards());
    server.on_server([&](const fairlead::server_event& event) {
        if (event.kind == server_event_kind::stopped) {
            server.close(); // also those shards that are done by now
        }
    });
    for (int round = 0; round < 100; ++round) {
        server.open(); // the port is known before the threads run
        server.start();
        auto client = served_by(server);
        REQUIRE(server.is_running());
        server.shutdown(0ms);
    }
}
