// Accepting when listening sockets break, descriptors are short or a drain has begun: nobody pays for
// what is not his, what is wrong is told once, and nothing goes round in a circle.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/testing/catch2.hpp>
#include <fairlead/testing/kernel/tcp_socket.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::server_config;
using fairlead::testing::simulation;

namespace accepting
{
/// A handler that reads a byte, works for so long, and answers.
class answers_after
{
public:
    explicit answers_after(std::chrono::milliseconds work) : work_(work)
    {}

    asio::awaitable<void> operator()(connection& client) const
    {
        char request = 0;
        std::error_code error;
        if (co_await client.readable(error) &&
            co_await client.read_some(asio::buffer(&request, 1), error) != 0) {
            co_await test::wait_for(work_);
            co_await client.write(asio::buffer("x", 1), error);
        }
    }

private:
    std::chrono::milliseconds work_;
};

template <typename Server>
asio::awaitable<void> drain(Server& server)
{
    static_cast<void>(co_await server.shutdown(1h));
}

/// The descriptor that listens in this family.
int listener_of(simulation& sim, bool is_v6)
{
    using fairlead::testing::simulated::tcp_socket;
    int found = -1;
    sim.kernel().table.for_each([&](int number, auto& file) {
        const auto* const one = dynamic_cast<const tcp_socket*>(&file);
        if (one != nullptr && one->state() == tcp_socket::phase::listening &&
            one->local.is_v6 == is_v6) {
            found = number;
        }
    });
    REQUIRE(found >= 0);
    return found;
}

/// The endpoint of a server of "localhost" in this family.
template <typename Server>
asio::ip::tcp::endpoint endpoint_of(const Server& server, bool is_v6)
{
    const auto port = server.local_endpoint().port();
    return is_v6 ? asio::ip::tcp::endpoint(asio::ip::address_v6::loopback(), port)
                 : asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), port);
}

/// From here on so many calls are too many.
void allow_calls(simulation& sim, std::uint64_t most)
{
    sim.check_every_step([&sim, last = sim.kernel().record.count() + most] {
        if (sim.kernel().record.count() > last) {
            throw fairlead::testing::simulation_failure(
                "a circle:\n" + sim.kernel().record.last(20));
        }
    });
}

/// What a server has told.
struct told
{
    std::vector<std::error_code> errors;
    std::map<fairlead::server_event_kind, int> events;
    std::vector<close_reason> closed;
};

template <typename Server>
std::shared_ptr<told> hear(Server& server)
{
    auto heard = std::make_shared<told>();
    server.on_error(
        [heard](const fairlead::error_event& event) { heard->errors.push_back(event.code); });
    server.on_server([heard](const fairlead::server_event& event) { ++heard->events[event.kind]; });
    server.on_connection([heard](const fairlead::connection_event& event) {
        if (event.kind == fairlead::connection_event_kind::closed) {
            heard->closed.push_back(event.reason);
        }
    });
    return heard;
}
} // namespace accepting

using namespace accepting;

// -- listening sockets that break

FAIRLEAD_SIMULATION("a listening socket that was shut down is told of, whatever else is short", sim)
{
    enum class shortage
    {
        none,
        descriptors,
        places,
    };
    for (const auto what : {shortage::none, shortage::descriptors, shortage::places}) {
        CAPTURE(int(what));
        auto& server = sim.add_server(
            workload::echo,
            {.max_connections = what == shortage::places ? 1U : 100U, .linger = 0s});
        const auto heard = hear(server);
        server.start();
        auto& client = sim.connect(server).send("x").expect("x");
        if (what == shortage::descriptors) {
            sim.kernel().table.limit = sim.kernel().table.count();
        }
        const auto listener = sim.kernel().table.find(listener_of(sim, true));
        dynamic_cast<fairlead::testing::simulated::tcp_socket&>(*listener).shutdown(SHUT_RDWR);
        allow_calls(sim, 1000);
        sim.advance(20s);
        CHECK(heard->errors.size() == 1);
        CHECK(server.stats().pauses == 1);
        sim.check_every_step(nullptr);
        client.send("y").expect("y").close();
        sim.heal();
        server.close();
        sim.advance(1s);
    }
}

FAIRLEAD_SIMULATION(
    "a broken listening socket delays nobody at the others, and is told of once", sim)
{
    for (const bool is_v6 : {false, true}) {
        CAPTURE(is_v6);
        std::chrono::nanoseconds longest{};
        auto& server = sim.add_server(
            workload::echo, {.address = "localhost:0", .accepts_per_wakeup = 1, .linger = 0s});
        const auto heard = hear(server);
        server.start();
        const int broken = listener_of(sim, is_v6);
        sim.fail("accept4", EINVAL, {.times = 0, .descriptor = broken});
        auto& patient = sim.connect(endpoint_of(server, is_v6)).send("p");
        sim.advance(3s);
        allow_calls(sim, 5000);
        for (int i = 0; i < 20; ++i) {
            const auto came = sim.now();
            auto& client = sim.connect(endpoint_of(server, !is_v6)).send("x").expect("x");
            longest = std::max(longest, sim.now() - came);
            client.close();
            sim.advance(700ms);
        }
        sim.check_every_step(nullptr);
        CHECK(longest < 10ms);
        REQUIRE(heard->errors.size() == 1);
        CHECK(heard->errors[0] == std::errc::invalid_argument);
        CHECK(heard->events[fairlead::server_event_kind::paused] == 1);
        CHECK(heard->events[fairlead::server_event_kind::resumed] == 0);
        sim.heal();
        patient.expect("p").close();
        CHECK(heard->events[fairlead::server_event_kind::resumed] == 1);
        sim.fail("accept4", EINVAL, {.descriptor = broken});
        sim.connect(endpoint_of(server, is_v6)).send("x").expect("x").close();
        CHECK(heard->errors.size() == 2); // that is news
        CHECK(heard->events[fairlead::server_event_kind::resumed] == 2);
        sim.heal();
        server.close();
        sim.advance(1s);
    }
}

FAIRLEAD_SIMULATION(
    "without descriptors clients are refused, though another listening socket is broken", sim)
{
    for (const int per_wakeup : {1, 16}) {
        CAPTURE(per_wakeup);
        auto& server = sim.add_server(
            workload::echo,
            {.address = "localhost:0", .accepts_per_wakeup = per_wakeup, .linger = 0s});
        const auto heard = hear(server);
        server.start();
        auto& first = sim.connect(endpoint_of(server, false)).send("x").expect("x");
        sim.fail("accept4", EINVAL, {.times = 0, .descriptor = listener_of(sim, true)});
        sim.connect(endpoint_of(server, true));
        sim.advance(10s);
        sim.kernel().table.limit = sim.kernel().table.count();
        std::vector<fairlead::testing::peer*> clients;
        for (int count = 0; count < 20; ++count) {
            clients.push_back(&sim.connect(endpoint_of(server, false)).send("p"));
            sim.advance(1500ms);
        }
        CHECK(heard->errors.size() == 2); // each is told of once
        CHECK(heard->events[fairlead::server_event_kind::paused] == 2);
        CHECK(heard->events[fairlead::server_event_kind::resumed] == 0);
        sim.advance(5s);
        const auto waits = [](const auto* each) { return !each->was_reset(); };
        CHECK(std::count_if(clients.begin(), clients.end(), waits) == 0);
        sim.heal();
        first.close();
        sim.advance(5s);
        server.close();
        sim.advance(1s);
    }
}

FAIRLEAD_SIMULATION(
    "a listening socket that breaks during a pause does not keep it from ending", sim)
{
    const bool is_v6 = GENERATE(false, true);
    auto& server = sim.serve(
        workload::echo, {.address = "localhost:0",
                         .accepts_per_wakeup = 1,
                         .max_connections = 1,
                         .at_limit = fairlead::limit_policy::pause,
                         .linger = 0s});
    auto& first = sim.connect(endpoint_of(server, !is_v6)).send("1").expect("1");
    sim.connect(endpoint_of(server, is_v6)).send("2"); // accepting pauses
    sim.advance(10ms);
    sim.fail("accept4", EINVAL, {.times = 0, .descriptor = listener_of(sim, is_v6)});
    first.close();
    sim.advance(20s);
    for (int i = 0; i < 5; ++i) {
        sim.connect(endpoint_of(server, !is_v6)).send("x").expect("x").close();
        sim.advance(1s);
    }
}

FAIRLEAD_SIMULATION(
    "a drain takes who waits at a socket that breaks and mends, and no newcomer", sim)
{
    for (const bool is_v6 : {false, true}) {
        CAPTURE(is_v6);
        auto& server = sim.serve(
            workload::polite, {.address = "localhost:0", .max_connections = 1, .linger = 0s});
        sim.connect(endpoint_of(server, false)).send("1").expect("1");
        auto& there = sim.connect(endpoint_of(server, is_v6)).send("t");
        auto& elsewhere = sim.connect(endpoint_of(server, !is_v6)).send("e");
        sim.advance(100ms);
        sim.fail("accept4", EINVAL, {.times = 5, .descriptor = listener_of(sim, is_v6)});
        const auto ended = sim.spawn(drain(server));
        sim.advance(20ms);
        auto& newcomer = sim.connect(endpoint_of(server, !is_v6)).send("n");
        there.expect("t").expect_end().close();
        elsewhere.expect("e").expect_end().close();
        REQUIRE(sim.run_until([&] { return *ended; }, 1min));
        sim.advance(1s);
        CHECK(newcomer.received().empty());
        CHECK(server.stats().accepted == 3);
        sim.heal();
    }
}

FAIRLEAD_SIMULATION("where the kernel tells no length of the queue, nobody is no alarm either", sim)
{
    for (const bool is_at_limit : {false, true}) {
        CAPTURE(is_at_limit);
        auto& server =
            sim.serve(workload::echo, {.max_connections = is_at_limit ? 2U : 100U, .linger = 0s});
        sim.fail("getsockopt", ENOPROTOOPT, {.times = 0});
        auto& first = sim.connect(server).send("x").expect("x");
        if (!is_at_limit) {
            sim.kernel().table.limit = sim.kernel().table.count() + 1;
        }
        sim.connect(server).send("x").expect("x");
        sim.advance(20s);
        CHECK(server.stats().pauses == 0);
        CHECK(server.stats().accept_errors == 0);
        auto& third = sim.connect(server).send("x");
        sim.advance(1s);
        CHECK(server.stats().pauses == 1); // and that is one
        first.close();
        CHECK(is_at_limit == sim.run_until([&] { return third.received() == "x"; }, 1s));
        sim.heal();
        server.close();
        sim.advance(1s);
    }
}

FAIRLEAD_SIMULATION(
    "one odd failure of accept behind a long lack of descriptors is not the last", sim)
{
    auto& server = sim.serve(workload::polite, {.linger = 0s});
    sim.kernel().table.limit = sim.kernel().table.count();
    for (int i = 0; i < 12; ++i) {
        sim.connect(server);
    }
    sim.advance(4500ms); // by now it pauses for as long as it ever does
    std::vector<fairlead::testing::peer*> queued;
    for (int i = 0; i < 3; ++i) {
        queued.push_back(&sim.connect(server).send("q"));
    }
    sim.heal();
    sim.fail("accept4", EINVAL);
    const auto ended = sim.spawn(drain(server));
    for (auto* const each : queued) {
        each->expect("q").expect_end().close();
    }
    REQUIRE(sim.run_until([&] { return *ended; }, 1min));
}

// -- clients who are accepted in a drain

FAIRLEAD_SIMULATION("a drain does not wait for the silent, however late they are accepted", sim)
{
    for (const bool is_tls : {false, true}) {
        for (const auto patience : {10s, 0s}) {
            CAPTURE(is_tls, patience.count());
            server_config config{
                .max_connections = 1,
                .pre_open_timeout = patience,
                .tls_close_timeout = 0s,
                .linger = 0s};
            if (is_tls) {
                config.tls = workload::tls_rules();
            }
            auto& server = sim.serve(answers_after(5s), config);
            (is_tls ? sim.connect_tls(server) : sim.connect(server)).send("?");
            sim.advance(100ms);
            sim.connect(server); // waits in the queue
            sim.advance(100ms);
            const auto began = sim.now();
            const auto ended = sim.spawn(drain(server));
            REQUIRE(sim.run_until([&] { return *ended; }, 2h));
            CHECK(server.stats().accepted == 2);
            CHECK(sim.now() - began >= 5800ms); // he has his second
            CHECK(sim.now() - began <= 6100ms);
        }
    }
}

FAIRLEAD_SIMULATION("who is accepted in a drain has a second for his hello", sim)
{
    for (const bool is_tls : {false, true}) {
        CAPTURE(is_tls);
        server_config config{.max_connections = 1, .tls_close_timeout = 0s, .linger = 0s};
        if (is_tls) {
            config.tls = workload::tls_rules();
        }
        auto& server = sim.serve(answers_after(900ms), config);
        (is_tls ? sim.connect_tls(server) : sim.connect(server)).send("?");
        sim.advance(10ms);
        auto& late = sim.connect(server);
        sim.advance(10ms);
        const auto ended = sim.spawn(drain(server));
        sim.run_until([&] { return server.stats().accepted == 2; }, 2s);
        sim.advance(800ms); // others have had their second by now
        if (is_tls) {
            late.wrap(std::make_unique<fairlead::testing::tls_layer>(
                fairlead::testing::tls_peer_options{}));
        }
        late.send("?").expect("x").close();
        REQUIRE(sim.run_until([&] { return *ended; }, 1min));
    }
}

// -- before the handler

FAIRLEAD_SIMULATION("a failure of ours before a hello is not called the peer's reset", sim)
{
    auto& server = sim.add_server(
        workload::echo, {.tls_close_timeout = 0s, .linger = 0s, .tls = workload::tls_rules()});
    const auto heard = hear(server);
    server.start();
    sim.fail("recv*", ENOMEM);
    sim.connect_tls(server).send("x");
    sim.advance(1s);
    CHECK(heard->closed == std::vector{close_reason::transport_error});
    REQUIRE(heard->errors.size() == 1);
    CHECK(heard->errors[0] == asio::error::no_memory);
    auto& other = sim.connect(server);
    sim.advance(1s);
    other.reset();
    sim.advance(1s);
    CHECK(heard->closed == std::vector{close_reason::transport_error, close_reason::peer_reset});
    CHECK(heard->errors.size() == 1); // that is nobody's error
}
