// What the README guarantees, in virtual time and to the tick.
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/testing/catch2.hpp>

#include <asio/co_spawn.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::server_config;
using fairlead::testing::simulation;

namespace promises
{
/// The deadline wheel's grain, and a network that takes no time.
constexpr auto a_tick = 25ms;

asio::awaitable<void> echo(connection& client)
{
    return workload::echo(client);
}

asio::awaitable<void> polite(connection& client)
{
    return workload::polite(client);
}

/// Answers each byte after a minute's work.
asio::awaitable<void> slow(connection& client)
{
    std::array<char, 1> byte;
    while (co_await client.read_some(asio::buffer(byte)) != 0) {
        asio::steady_timer work(client.get_executor(), 1min);
        co_await work.async_wait(asio::use_awaitable);
        co_await client.write(asio::buffer(byte));
    }
}

/// Writes more than anybody takes.
asio::awaitable<void> flood(connection& client)
{
    const std::string block(1 << 20, 'f');
    for (;;) {
        co_await client.write(asio::buffer(block));
    }
}

asio::awaitable<void> five_seconds(connection& client)
{
    client.expires_after(5s);
    std::array<char, 64> buffer;
    while (co_await client.read_some(asio::buffer(buffer)) != 0) {
    }
}

/// Between these two, and not a tick more.
void check_between(
    std::chrono::nanoseconds took, std::chrono::nanoseconds least, std::chrono::nanoseconds most)
{
    CHECK(took >= least);
    CHECK(took <= most + a_tick);
}
} // namespace promises

using namespace promises;

FAIRLEAD_SIMULATION("an echo comes back", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 5min});
    auto& client = sim.connect(server, {.latency = 20ms});
    client.send("hello").expect("hello");
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
    check_between(sim.now() - since, 5min, 5min);
    client.close();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(close_reason::idle_timeout) == 1);
}

FAIRLEAD_SIMULATION("two hundred milliseconds of idleness are two hundred milliseconds", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 200ms});
    auto& client = sim.connect(server);
    client.send("hello").expect("hello");
    const auto since = sim.now();
    client.expect_end();
    check_between(sim.now() - since, 200ms, 200ms);
}

FAIRLEAD_SIMULATION("a client of TLS that says nothing is closed at the pre-open timeout", sim)
{
    const auto rules = workload::tls_rules();
    auto& server = sim.serve(echo, {.pre_open_timeout = 10s, .tls = rules});
    auto& client = sim.connect(server);
    client.expect_connection();
    const auto since = sim.now();
    sim.run_until([&] { return !client.reads_on(); }, 1min);
    check_between(sim.now() - since, 10s, 10s);
    REQUIRE(sim.settles_within(1s));
    CHECK(server.stats().closed_by(close_reason::pre_open_timeout) == 1);
}

FAIRLEAD_SIMULATION(
    "a write of which nothing is taken ends within one and a half times its timeout", sim)
{
    server_config config{.idle_timeout = 0s, .write_timeout = 20s};
    config.socket.user_timeout = 0s; // the kernel's own
    auto& server = sim.serve(flood, config);
    auto& client = sim.connect(server);
    client.stall();
    client.expect_connection();
    const auto since = sim.now();
    REQUIRE(sim.run_until([&] { return server.stats().closed == 1; }, 10min));
    check_between(sim.now() - since, 20s, 30s);
    CHECK(server.stats().closed_by(close_reason::write_timeout) == 1);
    client.resume().expect_reset();
}

FAIRLEAD_SIMULATION("a client that takes a little now and then is not stalled", sim)
{
    auto& server = sim.serve(flood, {.idle_timeout = 0s, .write_timeout = 20s});
    auto& client = sim.connect(server);
    client.drip(8192, 5s);
    sim.advance(30min);
    CHECK(server.stats().closed == 0);
}

FAIRLEAD_SIMULATION("expires_after bounds a connection whatever it does", sim)
{
    auto& server = sim.serve(five_seconds, {.idle_timeout = 0s});
    auto& client = sim.connect(server);
    client.expect_connection();
    const auto since = sim.now();
    for (int i = 0; i < 20; ++i) {
        sim.at(since + i * 400ms, [&] { client.send("."); });
    }
    client.expect_end();
    check_between(sim.now() - since, 5s, 5s);
    client.close();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(close_reason::deadline_exceeded) == 1);
}

FAIRLEAD_SIMULATION("a lifetime ends within a tenth of what it was set to", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 0s, .max_lifetime = 100s});
    auto& client = sim.connect(server);
    client.expect_connection();
    const auto since = sim.now();
    client.expect_end();
    check_between(sim.now() - since, 90s, 110s);
}

FAIRLEAD_SIMULATION("a handler's own timers run in the same time", sim)
{
    auto& server = sim.serve(slow, {.idle_timeout = 1h});
    auto& client = sim.connect(server);
    const auto since = sim.now();
    client.send("abc").expect("abc");
    check_between(sim.now() - since, 3min, 3min);
}

FAIRLEAD_SIMULATION("no reply is lost in a drain, and its deadline is exact", sim)
{
    auto& server = sim.serve(slow, {.idle_timeout = 1h});
    auto& at_work = sim.connect(server);
    at_work.send("a");
    sim.advance(30s);
    auto& stubborn = sim.connect(server);
    stubborn.send("bcd");
    sim.advance(1s);
    const auto since = sim.now();
    fairlead::drain_report report;
    const auto ended = sim.spawn([](auto& of, auto& into) -> asio::awaitable<void> {
        into = co_await of.shutdown(90s);
    }(server, report));
    at_work.expect("a");
    at_work.close();
    stubborn.expect("b");
    sim.run_until([&] { return *ended; }, 10min);
    check_between(sim.now() - since, 90s, 90s);
    CHECK(report.stragglers.size() == 1);
    CHECK(report.drained == 1);
}

FAIRLEAD_SIMULATION("clients that wait to speak leave a drain at once", sim)
{
    auto& server = sim.serve(polite, {.idle_timeout = 1h});
    auto& client = sim.connect(server);
    client.send("x").expect("x");
    const auto since = sim.now();
    const auto ended = sim.spawn([](auto& of) -> asio::awaitable<void> {
        static_cast<void>(co_await of.shutdown(1h));
    }(server));
    client.expect_end();
    client.close();
    sim.run_until([&] { return *ended; }, 10s);
    CHECK(sim.now() - since < 1s);
}

FAIRLEAD_SIMULATION("a shortage of descriptors passes, and nobody who waits is forgotten", sim)
{
    auto& server = sim.serve(echo, {.idle_timeout = 1h});
    sim.fail("accept4", EMFILE, {.nth = 3, .times = 20});
    std::vector<fairlead::testing::peer*> clients;
    for (int i = 0; i < 30; ++i) {
        clients.push_back(&sim.connect(server));
    }
    sim.advance(5min);
    int served = 0;
    for (auto* const client : clients) {
        served += client->reads_on() && client->is_connected() ? 1 : 0;
    }
    const auto stats = server.stats();
    CHECK(stats.pauses > 0);
    CHECK(served + static_cast<int>(stats.refused) == 30);
    sim.connect(server).send("after").expect("after");
}

FAIRLEAD_SIMULATION("an idle server makes no system call for an hour", sim)
{
    sim.serve(echo);
    sim.advance(1s);
    const auto before = sim.kernel().record.count();
    sim.advance(1h);
    CHECK(sim.kernel().record.count() - before < 20);
}

FAIRLEAD_SIMULATION("a peer that vanishes is noticed by what it does not acknowledge", sim)
{
    auto& server = sim.serve(slow, {.idle_timeout = 0s, .write_timeout = 0s});
    auto& client = sim.connect(server);
    client.send("a");
    sim.advance(1s);
    client.vanish();
    REQUIRE(sim.run_until([&] { return server.stats().closed == 1; }, 10min));
    CHECK(
        server.stats().closed_by(close_reason::transport_error) +
            server.stats().closed_by(close_reason::peer_reset) ==
        1);
}

FAIRLEAD_SIMULATION("a TLS client is answered, and both sides say goodbye", sim)
{
    auto& server = sim.serve(echo, {.tls = workload::tls_rules()});
    auto& client = sim.connect_tls(server, {.server_name = "localhost"}, {.latency = 10ms});
    client.send("secret").expect("secret").half_close().expect_end();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().tls_handshakes == 1);
}

FAIRLEAD_SIMULATION("a client may be a coroutine of Asio's", sim)
{
    auto& server = sim.serve(echo);
    std::string got;
    sim.run([](asio::ip::tcp::endpoint to, std::string& into) -> asio::awaitable<void> {
        auto executor = co_await asio::this_coro::executor;
        asio::ip::tcp::socket socket(executor);
        co_await socket.async_connect(
            {asio::ip::make_address("127.0.0.1"), to.port()}, asio::use_awaitable);
        co_await asio::async_write(socket, asio::buffer("hello", 5), asio::use_awaitable);
        std::array<char, 5> buffer;
        co_await asio::async_read(socket, asio::buffer(buffer), asio::use_awaitable);
        into.assign(buffer.data(), buffer.size());
    }(server.local_endpoint(), got));
    CHECK(got == "hello");
}

FAIRLEAD_SIMULATION("an allocation of a handler fails where it is told to", sim)
{
    auto& server = sim.serve([](connection& client) -> asio::awaitable<void> {
        std::array<char, 1> byte;
        while (co_await client.read_some(asio::buffer(byte)) != 0) {
            const auto memory = std::make_unique<std::array<char, 100>>();
            co_await client.write(asio::buffer(byte));
        }
    });
    auto& client = sim.connect(server);
    client.send("a").expect("a");
    sim.fail_allocation(1);
    client.send("b").expect_end();
    client.close();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(close_reason::handler_failed) == 1);
}

TEST_CASE("a simulation repeats itself, call for call", "[simulation]")
{
    const auto once = [](std::uint64_t seed) {
        return fairlead::testing::simulate_twice(seed, [](simulation& sim) {
            auto& server = sim.serve(echo, {.tls = workload::tls_rules()});
            for (int i = 0; i < 5; ++i) {
                sim.connect_tls(server, {}, {.latency = 5ms, .jitter = 20ms, .split = 0.5})
                    .send("x")
                    .expect("x");
            }
        });
    };
    CHECK(once(1) != once(2));
}

TEST_CASE("an expectation that fails says what came, when, and what was before", "[simulation]")
{
    const auto told = [](auto test) -> std::string {
        try {
            fairlead::testing::simulate(1, test);
        } catch (const fairlead::testing::simulation_failure& failure) {
            return failure.what();
        }
        return "nothing";
    };
    const std::string wrong = told([](simulation& sim) {
        sim.connect(sim.serve(echo), {.latency = 1s}).send("hello").expect("goodbye");
    });
    CHECK(wrong.find("expected \"goodbye\"") != std::string::npos);
    CHECK(wrong.find("there was \"hello\"") != std::string::npos);
    CHECK(wrong.find("sends \"hello\"") != std::string::npos);
    const std::string stuck = told([](simulation& sim) {
        auto& server = sim.serve(echo, {.idle_timeout = 0s});
        auto& client = sim.connect(server);
        client.expect_connection();
        sim.run_until([&] { return !client.received().empty(); }, simulation::duration::max());
    });
    CHECK(stuck.find("nothing can ever happen") != std::string::npos);
    CHECK(stuck.find("listens on") != std::string::npos);
    const std::string threads = told([](simulation&) {
        try {
            std::thread([] {}).join();
        } catch (const std::system_error&) {
        }
    });
    CHECK(threads.find("pthread_create") != std::string::npos);
    const std::string left =
        told([](simulation&) { static_cast<void>(::socket(AF_INET, SOCK_STREAM, 0)); });
    CHECK(left.find("descriptors are left") != std::string::npos);
}

TEST_CASE("a fault that names no call is refused by name", "[simulation]")
{
    simulation sim(1);
    CHECK_NOTHROW(sim.fail("recv*", EINTR));
    std::string told;
    try {
        sim.fail("acept", EMFILE);
    } catch (const std::invalid_argument& refusal) {
        told = refusal.what();
    }
    CHECK(told.find("\"acept\"") != std::string::npos);
}
