// What the client meets who comes when max_connections are open: the kernel's queue, a reset, or another's place.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/server.hpp>

#include <asio/steady_timer.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <poll.h>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::limit_policy;
using fairlead::server_event_kind;

namespace
{
fairlead::server_config limited_to(std::size_t connections, limit_policy policy)
{
    auto config = test::local_config();
    config.max_connections = connections;
    config.at_limit = policy;
    return config;
}

/// A client that is being served.
test::client client_served_by(std::uint16_t port)
{
    test::client client(port);
    client.send("hi");
    REQUIRE(client.receive(2) == "hi");
    return client;
}

bool hears_something_within(const test::client& client, std::chrono::milliseconds time)
{
    pollfd waiting{.fd = client.fd(), .events = POLLIN, .revents = 0};
    return ::poll(&waiting, 1, static_cast<int>(time.count())) != 0;
}

std::uint64_t closed_because(const fairlead::server_stats& stats, close_reason reason)
{
    return stats.closed_by_reason[static_cast<std::size_t>(reason)];
}

/// The connection whose client has this port.
std::vector<fairlead::connection_event> steps_of(const test::event_log& log, std::uint16_t port)
{
    std::vector<fairlead::connection_event> found;
    for (const auto& event : log.connections()) {
        if (event.remote.port() == port) {
            found.push_back(event);
        }
    }
    return found;
}
} // namespace

namespace max_connections_test
{
/// Works on its own until it is released: it neither reads nor waits for its client.
struct busy_handler
{
    std::atomic<bool>* released;

    asio::awaitable<void> operator()(fairlead::connection& connection)
    {
        co_await connection.write(asio::buffer("!", 1));
        asio::steady_timer timer(connection.get_executor());
        while (!*released) {
            timer.expires_after(1ms);
            co_await timer.async_wait(asio::use_awaitable);
        }
        co_await connection.write(asio::buffer("done", 4));
    }
};
} // namespace max_connections_test

TEST_CASE(
    "pause: clients over the limit wait in the kernel until one leaves", "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(2, limit_policy::pause));
    server.start();
    auto first = client_served_by(server.port());
    auto second = client_served_by(server.port());
    test::client third(server.port());
    test::client fourth(server.port());
    third.send("third");
    fourth.send("fourth");
    REQUIRE(server.log.wait_for(server_event_kind::paused));
    CHECK_FALSE(hears_something_within(third, 200ms));
    CHECK(server.server.stats().accepted == 2);
    CHECK(server.server.is_running()); // it is, with clients waiting

    first.close();
    CHECK(third.receive(5) == "third");
    CHECK_FALSE(hears_something_within(fourth, 100ms));
    CHECK(server.server.open_connections() == 2);
    second.send("not disturbed");
    CHECK(second.receive(13) == "not disturbed");

    third.reset(); // any way of leaving makes a place
    CHECK(fourth.receive(6) == "fourth");
    CHECK(server.server.stats().accepted == 4);
    CHECK(server.log.errors().empty());
}

TEST_CASE(
    "pause: the events say that it paused, why, and that it goes on", "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(1, limit_policy::pause));
    server.start();
    auto first = client_served_by(server.port());
    test::client second(server.port());
    REQUIRE(server.log.wait_for(server_event_kind::paused));
    CHECK(server.log.count(server_event_kind::limit_reached) == 1);
    CHECK(server.log.count(server_event_kind::resumed) == 0);
    first.close();
    REQUIRE(server.log.wait_for(server_event_kind::resumed));
    for (const auto& step : server.log.servers()) {
        if (step.kind == server_event_kind::paused ||
            step.kind == server_event_kind::limit_reached) {
            CHECK(step.code == errc::too_many_connections);
            CHECK(step.what.find("max_connections") != std::string::npos);
        }
    }
    CHECK(server.server.stats().pauses >= 1);
}

TEST_CASE(
    "pause: it goes on when there is a place, also when nobody waits for it",
    "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(1, limit_policy::pause));
    server.start();
    auto first = client_served_by(server.port());
    test::client second(server.port());
    REQUIRE(server.log.wait_for(server_event_kind::paused));
    second.reset();
    first.close();
    // Whoever watches the events must not believe that it is still paused.
    CHECK(server.log.wait_for(server_event_kind::resumed));
}

TEST_CASE("pause: a full house before which nobody waits is no pause", "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(1, limit_policy::pause));
    server.start();
    for (int i = 0; i < 5; ++i) {
        auto client = client_served_by(server.port());
        test::let_handlers_go_on(server.server, server.log);
        client.close();
        REQUIRE(
            server.log.wait_for(connection_event_kind::closed, static_cast<std::size_t>(i) + 1));
        test::let_handlers_go_on(server.server, server.log); // and the place is given back
    }
    CHECK(server.log.count(server_event_kind::paused) == 0);
    CHECK(server.log.count(server_event_kind::limit_reached) == 0);
    CHECK(server.log.count(server_event_kind::resumed) == 0);
    CHECK(server.server.stats().pauses == 0);
}

TEST_CASE(
    "pause: a long queue is served to the last client, never two at once",
    "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(1, limit_policy::pause));
    server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 100; ++i) {
        clients.emplace_back(server.port());
        clients.back().send("x");
    }
    for (auto& client : clients) {
        REQUIRE(client.receive(1) == "x");
        client.close();
    }
    REQUIRE(server.log.wait_for(connection_event_kind::closed, 100));
    int open = 0;
    int most = 0;
    for (const auto& event : server.log.connections()) {
        open += event.kind == connection_event_kind::accepted ? 1 : 0;
        open -= event.kind == connection_event_kind::closed ? 1 : 0;
        most = std::max(most, open);
    }
    CHECK(most == 1);
    const auto paused = server.log.count(server_event_kind::paused);
    const auto resumed = server.log.count(server_event_kind::resumed);
    CHECK(paused >= 1);
    CHECK((paused == resumed || paused == resumed + 1)); // they alternate
    CHECK(server.server.stats().pauses == paused);
    CHECK(server.log.count(server_event_kind::limit_reached) <= paused); // and do not flood
}

TEST_CASE("pause: a server that closes while paused can start again", "[limit][pause][network]")
{
    test::running_server server(test::echo, limited_to(1, limit_policy::pause));
    server.start();
    for (int round = 1; round <= 3; ++round) {
        auto first = client_served_by(server.port());
        test::client waiting(server.port());
        REQUIRE(server.log.wait_for(server_event_kind::paused, static_cast<std::size_t>(round)));
        server.server.close();
        REQUIRE(server.log.wait_for(server_event_kind::stopped, static_cast<std::size_t>(round)));
        CHECK(first.receive_rest().end != test::stream_end::timed_out);
        CHECK(waiting.receive_rest().end == test::stream_end::reset); // by the kernel
        server.on_shard([&] { server.server.start(); });
    }
    auto last = client_served_by(server.on_shard([&] { return server.port(); }));
    CHECK(server.server.open_connections() == 1);
}

TEST_CASE("reject: a client over the limit is reset at once", "[limit][reject]")
{
    test::running_server server(test::echo, limited_to(2, limit_policy::reject));
    server.start();
    auto first = client_served_by(server.port());
    auto second = client_served_by(server.port());
    test::client third(server.port());
    const auto port = third.local_port();
    const auto rest = third.receive_rest();
    CHECK(rest.end == test::stream_end::reset);
    CHECK(rest.bytes.empty());
    first.send("a");
    CHECK(first.receive(1) == "a");

    REQUIRE(server.log.wait_for(connection_event_kind::closed));
    const auto steps = steps_of(server.log, port);
    REQUIRE(steps.size() == 2); // never opened
    CHECK(steps[0].kind == connection_event_kind::accepted);
    CHECK(steps[1].kind == connection_event_kind::closed);
    CHECK(steps[0].id == steps[1].id);
    CHECK(steps[1].reason == close_reason::rejected_by_limit);
    CHECK(steps[1].code == errc::connection_refused_by_limit);
    CHECK(steps[1].local.port() == server.port());
    const auto stats = server.server.stats();
    CHECK(stats.accepted == 3);
    CHECK(stats.opened == 2);
    CHECK(stats.closed == 1);
    CHECK(stats.open == 2);
    CHECK(closed_because(stats, close_reason::rejected_by_limit) == 1);
    CHECK(server.log.count(server_event_kind::limit_reached) == 1);
    CHECK(server.log.count(server_event_kind::paused) == 0);
    CHECK(server.log.errors().empty());

    second.close(); // and its place is free again
    REQUIRE(server.log.wait_for(connection_event_kind::closed, 2));
    auto fourth = client_served_by(server.port());
}

TEST_CASE("reject: a crowd is counted to the last client", "[limit][reject][network]")
{
    test::running_server server(test::echo, limited_to(5, limit_policy::reject));
    server.server.open();
    std::vector<test::client> clients;
    for (int i = 0; i < 200; ++i) {
        clients.emplace_back(server.port());
    }
    server.start();
    REQUIRE(server.log.wait_for(connection_event_kind::closed, 195));
    std::size_t served = 0;
    for (auto& client : clients) {
        if (client.try_send("x")) {
            client.finish();
            served += client.receive_rest().bytes == "x" ? 1U : 0U;
        }
    }
    CHECK(served == 5);
    REQUIRE(server.log.wait_for(connection_event_kind::closed, 200));
    const auto stats = server.server.stats();
    CHECK(stats.accepted == 200);
    CHECK(stats.closed == 200);
    CHECK(stats.open == 0);
    CHECK(closed_because(stats, close_reason::rejected_by_limit) == 195);
    CHECK(closed_because(stats, close_reason::peer_closed) == 5);
    CHECK(server.log.count(connection_event_kind::accepted) == 200);
    CHECK(server.log.count(connection_event_kind::opened) == 5);
    CHECK(server.log.count(server_event_kind::limit_reached) <= 10); // once a second, not 195 times
}

TEST_CASE("evict_idle: the longest idle gives its place to the newcomer", "[limit][evict]")
{
    test::running_server server(test::echo, limited_to(3, limit_policy::evict_idle));
    server.start();
    auto first = client_served_by(server.port());
    auto second = client_served_by(server.port());
    auto third = client_served_by(server.port());
    first.send("again"); // now the second has been silent longest
    REQUIRE(first.receive(5) == "again");
    const auto evicted = second.local_port();
    auto fourth = client_served_by(server.port());
    CHECK(second.receive_rest().end != test::stream_end::timed_out);
    REQUIRE(server.log.wait_for(connection_event_kind::closed));
    const auto steps = steps_of(server.log, evicted);
    CHECK(steps.back().kind == connection_event_kind::closed);
    CHECK(steps.back().reason == close_reason::evicted);
    CHECK(steps.back().code == errc::connection_refused_by_limit);

    auto fifth = client_served_by(server.port()); // takes the third's
    CHECK(third.receive_rest().end != test::stream_end::timed_out);
    first.send("x");
    CHECK(first.receive(1) == "x");
    fourth.send("x");
    CHECK(fourth.receive(1) == "x");
    CHECK(server.server.open_connections() == 3);
    CHECK(closed_because(server.server.stats(), close_reason::evicted) == 2);
    CHECK(closed_because(server.server.stats(), close_reason::rejected_by_limit) == 0);
    CHECK(server.log.count(server_event_kind::limit_reached) >= 1);
    CHECK(server.log.errors().empty()); // the handler's exception is no news
}

TEST_CASE("evict_idle: among many, the longest idle is found", "[limit][evict][network]")
{
    constexpr std::size_t places = 100;
    test::running_server server(test::echo, limited_to(places, limit_policy::evict_idle));
    server.start();
    std::vector<test::client> clients;
    for (std::size_t i = 0; i < places; ++i) {
        clients.push_back(client_served_by(server.port()));
    }
    for (std::size_t i = 0; i < places; ++i) { // everybody but number 42 says something
        if (i != 42) {
            clients[i].send("x");
            REQUIRE(clients[i].receive(1) == "x");
        }
    }
    const auto expected = clients[42].local_port();
    auto newcomer = client_served_by(server.port());
    REQUIRE(server.log.wait_for(connection_event_kind::closed));
    CHECK(server.log.closed()[0].remote.port() == expected);
}

TEST_CASE("evict_idle: when all are busy the newcomer is rejected", "[limit][evict]")
{
    std::atomic<bool> released = false;
    test::running_server server(
        max_connections_test::busy_handler{&released}, limited_to(2, limit_policy::evict_idle));
    server.start();
    test::client first(server.port());
    test::client second(server.port());
    REQUIRE(first.receive(1) == "!");
    REQUIRE(second.receive(1) == "!");
    test::client third(server.port());
    CHECK(third.receive_rest().end == test::stream_end::reset);
    REQUIRE(server.log.wait_for(connection_event_kind::closed));
    CHECK(server.log.closed()[0].reason == close_reason::rejected_by_limit);
    released = true;
    first.finish();
    second.finish();
    CHECK(first.receive_rest().bytes == "done");
    CHECK(second.receive_rest().bytes == "done");
}

TEST_CASE("zero connections means that there is no limit", "[limit][network]")
{
    test::running_server server(
        test::echo, limited_to(0, GENERATE(limit_policy::reject, limit_policy::evict_idle)));
    server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 300; ++i) {
        clients.push_back(client_served_by(server.port()));
    }
    CHECK(server.server.open_connections() == 300);
    CHECK(server.log.count(server_event_kind::limit_reached) == 0);
}
