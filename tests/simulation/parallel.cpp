// Operations of a connection beside others of Asio's, by whichever ends first: what is cancelled has
// taken nothing.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/testing/catch2.hpp>

#include <asio/experimental/awaitable_operators.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <array>
#include <string>
#include <variant>

using namespace std::chrono_literals;
using fairlead::connection;
using fairlead::server_config;

namespace parallel
{
server_config with_or_without_tls(bool is_tls)
{
    server_config config{.idle_timeout = 0s, .write_timeout = 0s};
    if (is_tls) {
        config.tls = workload::tls_rules();
    }
    return config;
}

template <typename Server>
fairlead::testing::peer& connect(fairlead::testing::simulation& sim, Server& server, bool is_tls)
{
    return is_tls ? sim.connect_tls(server) : sim.connect(server);
}

/// Reads for no longer than a time; 0: nothing came.
asio::awaitable<std::size_t> read_within(
    connection& client, asio::mutable_buffer buffer, std::chrono::milliseconds time)
{
    using namespace asio::experimental::awaitable_operators;
    asio::steady_timer timer(client.get_executor(), time);
    auto first = co_await (
        client.async_read_some(buffer, asio::use_awaitable) ||
        timer.async_wait(asio::use_awaitable));
    co_return first.index() == 0 ? std::get<0>(first) : 0;
}
} // namespace parallel

using namespace parallel;

FAIRLEAD_SIMULATION("a read that loses against a timer, again and again, loses no byte", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    std::string sent;
    for (int index = 0; index < 60; ++index) {
        sent += static_cast<char>('a' + index % 26);
    }
    std::string input;
    int timeouts = 0;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            std::array<char, 7> buffer{};
            while (input.size() < sent.size() && timeouts < 10'000) {
                const std::size_t bytes = co_await read_within(client, asio::buffer(buffer), 10ms);
                input.append(buffer.data(), bytes);
                timeouts += bytes == 0 ? 1 : 0;
            }
            co_await client.write(asio::buffer("done", 4));
        },
        with_or_without_tls(is_tls));
    auto& client = connect(sim, server, is_tls);
    sim.advance(1s);
    for (std::size_t at = 0; at < sent.size(); at += 3) {
        client.send(sent.substr(at, 3));
        sim.advance(25ms);
    }
    client.expect("done");
    CHECK(input == sent);
    CHECK(timeouts > 20);
}

FAIRLEAD_SIMULATION("a write that loses against a timer is a cut, and says how far it came", sim)
{
    using namespace asio::experimental::awaitable_operators;
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    const std::string large(8U << 20U, 'm');
    bool has_lost = false;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(100ms); // the client has stalled
            asio::steady_timer timer(client.get_executor(), 1s);
            const auto first = co_await (
                client.write(asio::buffer(large)) || timer.async_wait(asio::use_awaitable));
            has_lost = first.index() == 1;
        },
        with_or_without_tls(is_tls));
    auto& client = connect(sim, server, is_tls);
    REQUIRE(sim.run_until([&] { return server.stats().opened == 1; }, 1s));
    client.stall();
    sim.advance(5s);
    client.resume();
    sim.advance(20s);
    CHECK(has_lost);
    CHECK(client.was_reset());
    CHECK(server.stats().bytes_written < large.size());
    CHECK(server.stats().bytes_written > 0);
}
