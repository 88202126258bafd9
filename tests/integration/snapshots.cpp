// connections(): from the thread that owns the context, running or not, and from any other while clients come and go.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/peer.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/sharded_server.hpp>

#include <asio/post.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace snapshots_test
{
/// Answers one request, and then waits until the other side has finished.
asio::awaitable<void> answer_once(fairlead::connection& connection)
{
    std::array<char, 2> request{};
    co_await connection.read(asio::buffer(request));
    co_await connection.write(asio::buffer("yes", 3));
    co_await connection.read_some(asio::buffer(request));
}

/// Closes its connection, and goes on until it is told to return.
struct closes_early
{
    std::atomic<bool>* may_return;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        connection.close();
        const auto executor = connection.get_executor();
        while (!*may_return) {
            co_await asio::post(executor, asio::use_awaitable);
        }
    }
};
} // namespace snapshots_test

TEST_CASE(
    "connections answers between two runs of the context, on the thread that owns it", "[snapshot]")
{
    asio::io_context context(1);
    fairlead::tcp_server server(context, snapshots_test::answer_once, test::local_config());
    CHECK(server.connections().empty());
    server.start();
    std::vector<test::client> clients;
    const auto run_until_open = [&](std::int64_t open) {
        const auto limit = std::chrono::steady_clock::now() + test::patience;
        while (server.open_connections() != open && std::chrono::steady_clock::now() < limit) {
            context.run_one_for(10ms);
        }
        return server.open_connections() == open;
    };
    for (std::size_t count = 1; count <= 5; ++count) {
        clients.emplace_back(server.local_endpoint().port());
        REQUIRE(run_until_open(static_cast<std::int64_t>(count)));
        const auto all = server.connections(); // nothing runs the context now
        REQUIRE(all.size() == count);
        CHECK(all.back().remote.port() == clients.back().local_port());
        CHECK(all.back().bytes_written == 0);
        clients.back().send("ok");
        while (server.stats().bytes_written != 3 * count) {
            REQUIRE(context.run_one_for(test::patience) == 1);
        }
        const auto served = server.connections();
        CHECK(served.back().id == all.back().id);
        CHECK(served.back().opened);
        CHECK(served.back().bytes_read == 2);
        CHECK(served.back().bytes_written == 3);
        CHECK_FALSE(served.back().closed);
    }
    clients.clear();
    while (server.stats().handlers != 0) {
        REQUIRE(context.run_one_for(test::patience) == 1);
    }
    CHECK(server.connections().empty());
}

TEST_CASE("connections names those whose handler outlives their socket", "[snapshot][network]")
{
    std::atomic<bool> may_return = false;
    test::running_server running(snapshots_test::closes_early{&may_return});
    running.start();
    test::client client(running.port());
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(fairlead::connection_event_kind::closed));
    const auto all = running.server.connections();
    REQUIRE(all.size() == 1);
    CHECK(all[0].closed);
    CHECK(all[0].opened);
    may_return = true;
    CHECK(test::eventually([&] { return running.server.connections().empty(); }));
}

TEST_CASE("any threads look at the connections while clients come and go", "[snapshot][threads]")
{
    const auto protocol = GENERATE(test::speaks::plain, test::speaks::tls);
    INFO(test::name_of(protocol));
    const int rounds = protocol == test::speaks::tls ? 5 : 20;
    fairlead::sharded_server server(&test::echo, test::local_config(protocol), {.threads = 2});
    server.start();
    std::atomic<bool> is_over = false;
    std::atomic<std::uint64_t> seen = 0;
    std::vector<std::thread> lookers;
    for (int i = 0; i < 2; ++i) {
        lookers.emplace_back([&] {
            while (!is_over) {
                std::uint64_t last = 0;
                bool is_good = true;
                for (const auto& each : server.connections()) {
                    is_good = is_good && each.idle >= 0ns && each.age >= each.idle &&
                              each.bytes_written <= each.bytes_read;
                    last = each.id;
                }
                seen += last != 0 && is_good ? 1 : 0;
            }
        });
    }
    for (int round = 0; round < rounds; ++round) {
        std::vector<test::peer> peers;
        for (int i = 0; i < 8; ++i) {
            peers.emplace_back(server.local_endpoint().port(), protocol);
            peers.back().send("x");
            CHECK(peers.back().receive(1) == "x");
        }
        CHECK(server.connections().size() >= 8);
    }
    is_over = true;
    for (auto& looker : lookers) {
        looker.join();
    }
    CHECK(seen > 0);
    server.close();
    server.join();
    CHECK(server.connections().empty());
}
