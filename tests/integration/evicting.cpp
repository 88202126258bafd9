// Whose place the next client gets at max_connections, and who waits for it.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/sharded_server.hpp>

#include <asio/steady_timer.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::client_distribution;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::limit_policy;
using fairlead::server_event_kind;

namespace test::evicting
{
inline fairlead::server_config evicting_config(std::size_t places, bool with_tls)
{
    auto settings = test::local_config();
    settings.max_connections = places;
    settings.at_limit = limit_policy::evict_idle;
    settings.pre_open_timeout = 60s;
    if (with_tls) {
        settings.tls = test::make_tls();
        settings.tls_detect = true; // so that honest clients may be plain ones
    }
    return settings;
}

inline std::vector<test::client> honest_clients(std::uint16_t port, std::size_t count)
{
    std::vector<test::client> clients;
    for (std::size_t index = 0; index < count; ++index) {
        clients.emplace_back(port);
        clients.back().send("hello");
        CHECK(clients.back().receive(5) == "hello");
    }
    return clients;
}

inline std::size_t count_survivors(std::vector<test::client>& clients)
{
    std::size_t alive = 0;
    for (auto& client : clients) {
        char reply = 0;
        alive += client.try_send("x") && ::recv(client.fd(), &reply, 1, 0) == 1 ? 1U : 0U;
    }
    return alive;
}

/// Silent clients come until there have been `count`; some are evicted by the later ones.
template <typename Server>
void crowd_in(
    Server& server, std::vector<test::client>& crowd, std::uint16_t port, std::size_t count)
{
    const auto before = server.stats().accepted;
    for (std::size_t index = 0; index < count; ++index) {
        crowd.emplace_back(port);
    }
    const auto limit = std::chrono::steady_clock::now() + test::patience;
    while (server.stats().accepted < before + count && std::chrono::steady_clock::now() < limit) {
        std::this_thread::yield();
    }
    CHECK(server.stats().accepted == before + count);
}

/// When its client is gone, or it was evicted, it has something to finish first.
struct slow_to_leave
{
    std::atomic<bool>* may_leave;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        try {
            co_await test::echo(connection);
        } catch (const std::system_error&) {
        }
        asio::steady_timer timer(connection.get_executor());
        while (!*may_leave) {
            timer.expires_after(1ms);
            co_await timer.async_wait(asio::use_awaitable);
        }
    }
};

/// When it is evicted it needs a moment.
inline asio::awaitable<void> finishes_something(fairlead::connection& connection)
{
    try {
        co_await test::echo(connection);
    } catch (const std::system_error&) {
    }
    asio::steady_timer timer(connection.get_executor(), 10ms);
    co_await timer.async_wait(asio::use_awaitable);
}
} // namespace test::evicting

using namespace test::evicting;

TEST_CASE("clients who have said nothing give way before honest idle ones", "[limit][evict]")
{
    const bool with_tls = GENERATE(true, false);
    INFO("in pre-open " << with_tls);
    test::running_server running(test::echo, evicting_config(150, with_tls));
    running.start();
    auto honest = honest_clients(running.port(), 100);
    std::vector<test::client> crowd;
    crowd_in(running.server, crowd, running.port(), 200);
    CHECK(count_survivors(honest) == 100);
    const auto stats = running.server.stats();
    CHECK(stats.closed_by(close_reason::evicted) == 150);
    CHECK(stats.closed_by(close_reason::rejected_by_limit) == 0);
    CHECK(running.server.open_connections() == 150);
    CHECK(honest_clients(running.port(), 1).size() == 1); // the next one gets a place as well
    CHECK(running.log.errors().empty());
}

TEST_CASE("clients who have said nothing give way on whatever shard they are", "[limit][evict]")
{
    const bool with_tls = GENERATE(true, false);
    const auto distribution =
        GENERATE(client_distribution::automatic, client_distribution::round_robin);
    INFO("in pre-open " << with_tls);
    INFO("round robin " << (distribution == client_distribution::round_robin));
    fairlead::sharded_server server(
        test::echo, evicting_config(150, with_tls), {.threads = 2, .distribution = distribution});
    server.start();
    const auto port = server.local_endpoint().port();
    auto honest = honest_clients(port, 100);
    std::vector<test::client> crowd;
    crowd_in(server, crowd, port, 200);
    CHECK(count_survivors(honest) == 100);
    CHECK(server.open_connections() <= 150);
    CHECK(honest_clients(port, 1).size() == 1);
}

TEST_CASE("the longest idle connection of any shard gives way", "[limit][evict][shards]")
{
    const auto distribution =
        GENERATE(client_distribution::automatic, client_distribution::round_robin);
    fairlead::sharded_server server(
        test::echo, evicting_config(20, false), {.threads = 3, .distribution = distribution});
    server.start();
    const auto port = server.local_endpoint().port();
    auto clients = honest_clients(port, 20);
    for (std::size_t index = 0; index < clients.size(); ++index) {
        if (index != 7) {
            clients[index].send("y");
            REQUIRE(clients[index].receive(1) == "y");
        }
    }
    CHECK(honest_clients(port, 1).size() == 1);
    CHECK(count_survivors(clients) == 19);
    CHECK(clients[7].receive_rest().end != test::stream_end::timed_out);
}

TEST_CASE("an evicted connection keeps its place until its handler returns", "[limit][evict]")
{
    std::atomic<bool> may_leave = false;
    test::running_server running(slow_to_leave{&may_leave}, evicting_config(2, false));
    running.start();
    auto clients = honest_clients(running.port(), 2);
    test::client third(running.port());
    third.send("third");
    SECTION("and the next client waits for it")
    {
        REQUIRE(running.log.wait_for(connection_event_kind::closed));
        CHECK(running.server.stats().handlers == 2);
        CHECK(running.server.stats().accepted == 2);
        may_leave = true;
        CHECK(third.receive(5) == "third");
    }
    SECTION("and the next client is rejected when that takes too long")
    {
        CHECK(third.receive_rest().end == test::stream_end::reset);
        CHECK(running.server.stats().closed_by(close_reason::evicted) == 2);
        CHECK(running.server.stats().closed_by(close_reason::rejected_by_limit) == 1);
        CHECK(running.server.stats().handlers == 2);
        may_leave = true;
        for (auto end = std::chrono::steady_clock::now() + test::patience;
             running.server.stats().handlers != 0 && std::chrono::steady_clock::now() < end;) {
            std::this_thread::yield();
        }
        CHECK(honest_clients(running.port(), 1).size() == 1);
    }
    SECTION("and who waits is reset when the server closes")
    {
        REQUIRE(running.log.wait_for(connection_event_kind::closed));
        running.server.close();
        CHECK(third.receive_rest().end == test::stream_end::reset);
    }
    SECTION("and who waits is served by a drain")
    {
        REQUIRE(running.log.wait_for(connection_event_kind::closed));
        auto draining = running.shutdown(60s);
        REQUIRE(running.log.wait_for(server_event_kind::draining));
        may_leave = true;
        CHECK(third.receive(5) == "third");
        clients.clear();
        third.close();
        CHECK(test::report_of(draining).drained == 3);
    }
    SECTION("and who waits is reset when a drain ends")
    {
        REQUIRE(running.log.wait_for(connection_event_kind::closed));
        auto draining = running.shutdown(10ms);
        CHECK(third.receive_rest().end == test::stream_end::reset);
        CHECK(test::report_of(draining).stragglers.size() == 2);
    }
    may_leave = true;
    clients.clear();
    third.close();
    running.stop();
}

TEST_CASE("no more connections give way than clients come", "[limit][evict][shards]")
{
    constexpr std::size_t places = 40;
    fairlead::sharded_server server(
        finishes_something, evicting_config(places, false), {.threads = 8});
    server.start();
    const auto port = server.local_endpoint().port();
    auto clients = honest_clients(port, places);
    std::vector<test::client> late;
    crowd_in(server, late, port, 20);
    CHECK(server.stats().closed_by(close_reason::rejected_by_limit) == 0);
    CHECK(server.stats().closed_by(close_reason::evicted) == 20);
    CHECK(server.open_connections() == places);
}
