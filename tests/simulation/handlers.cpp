#include "support/catch.hpp"
#include <fairlead/testing/catch2.hpp>

#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <array>

using namespace std::chrono_literals;

namespace
{
asio::awaitable<void> echo(fairlead::connection& connection)
{
    std::array<char, 4096> buffer;
    while (const std::size_t n = co_await connection.read_some(asio::buffer(buffer))) {
        co_await connection.write(asio::buffer(buffer, n));
    }
}
} // namespace

FAIRLEAD_SIMULATION("an echo comes back", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 5min});
    auto& client = sim.connect(server, {.latency = 20ms});
    client.send("hello").expect("hello");
    CHECK(sim.now() < 2s);
    client.half_close().expect_end();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().accepted == 1);
    CHECK(server.stats().closed == 1);
}

FAIRLEAD_SIMULATION("an idle connection is closed to the tick", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 5min});
    auto& client = sim.connect(server);
    client.send("hello").expect("hello");
    const auto since = sim.now();
    client.expect_end();
    CHECK(sim.now() - since >= 5min);
    CHECK(sim.now() - since <= 5min + 100ms);
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(fairlead::close_reason::idle_timeout) == 1);
}
