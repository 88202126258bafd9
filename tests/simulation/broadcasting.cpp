// One message for many connections: shared while it waits, in its place, and held up by nobody.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/codec/broadcast.hpp>
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/server.hpp>
#include <fairlead/testing/catch2.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::testing::simulation;

namespace broadcasting
{
using lines = fairlead::framed<fairlead::codec::line>;
using message = fairlead::shared_message<fairlead::codec::line>;

/// Who is in the room, in the order of coming.
struct room
{
    std::vector<lines*> members;

    /// Stays until its client has finished.
    asio::awaitable<void> join(connection& conn)
    {
        lines own(conn, {}, {.high_watermark = 64 << 10, .low_watermark = 16 << 10});
        members.push_back(&own);
        std::error_code error;
        for (auto text = co_await own.next(error); text; text = co_await own.next(error)) {
            own.try_send("you said " + std::string(*text));
        }
        std::erase(members, &own);
    }
};

struct joins
{
    std::shared_ptr<room> where;

    asio::awaitable<void> operator()(connection& conn) const
    {
        return where->join(conn);
    }
};

inline message big(char letter, std::size_t size = 20'000)
{
    return {fairlead::codec::line{.max_frame = 1 << 20}, std::string(size, letter)};
}

inline fairlead::server_config room_rules(bool is_tls)
{
    fairlead::server_config config{.idle_timeout = 0s};
    if (is_tls) {
        config.tls = workload::tls_rules();
    }
    return config;
}

template <typename Server>
fairlead::testing::peer& guest_of(simulation& sim, const Server& server, bool is_tls)
{
    return is_tls ? sim.connect_tls(server) : sim.connect(server);
}
} // namespace broadcasting

using namespace broadcasting;

FAIRLEAD_SIMULATION("everybody gets a broadcast, and nobody a copy of it", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    const auto everybody = std::make_shared<room>(); // handlers outlive this function
    auto& server = sim.serve(joins{everybody}, room_rules(is_tls));
    std::vector<fairlead::testing::peer*> clients;
    for (int number = 0; number < 20; ++number) {
        clients.push_back(&guest_of(sim, server, is_tls).send("hello\n"));
    }
    sim.advance(1s);
    REQUIRE(everybody->members.size() == 20);
    for (auto* const each : clients) {
        each->stall();
    }
    const message one = big('b', 900'000);
    sim.advance(1s);
    CHECK(fairlead::broadcast(everybody->members, one) == 20);
    sim.advance(1s);
    CHECK(one.frame().use_count() == 21); // a reference each: what the kernels do not take, waits
    CHECK(everybody->members.front()->queued() > 0);
    for (auto* const each : clients) {
        each->resume();
        each->expect("you said hello\n" + std::string(900'000, 'b') + "\n");
    }
    sim.advance(1s);
    CHECK(one.frame().use_count() == 1);
    for (auto* const each : clients) {
        each->half_close().expect_end();
    }
}

FAIRLEAD_SIMULATION("a broadcast keeps its place among the other messages", sim)
{
    const bool is_tls = GENERATE(false, true);
    const bool is_slow = GENERATE(false, true);
    CAPTURE(is_tls, is_slow);
    std::string expected;
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            lines own(conn, {.max_frame = 1 << 20}, {.high_watermark = 64 << 20});
            const auto say = [&](const std::string& text) {
                own.queue(text);
                expected += text + "\n";
            };
            const auto share = [&](const message& one) {
                CHECK(own.try_send(one));
                const auto& frame = *one.frame();
                expected += fairlead::codec::text_of(frame);
            };
            for (int round = 0; round < 40; ++round) {
                const char letter = static_cast<char>('a' + round % 26);
                say("first " + std::to_string(round));
                share(big(letter, static_cast<std::size_t>(round) * 997));
                share(big('-', 3000));
                if (round % 3 == 0) {
                    say("then");
                }
                if (round % 7 == 0) {
                    const std::string large(100'000, 'L'); // from where it is
                    expected += large + "\n";
                    co_await own.send(large);
                }
                if (round % 11 == 0) {
                    co_await test::wait_for(20ms);
                }
            }
            co_await own.flush();
            CHECK(own.queued() == 0);
        },
        room_rules(is_tls));
    auto& client = guest_of(sim, server, is_tls);
    if (is_slow) {
        client.drip(30'000, 10ms);
    }
    REQUIRE(sim.run_until([&] { return client.has_ended(); }, 1h));
    CHECK((client.received() == expected));
}

FAIRLEAD_SIMULATION("a slow reader is passed over above its watermark, and named", sim)
{
    const auto everybody = std::make_shared<room>(); // handlers outlive this function
    auto& server = sim.serve(joins{everybody}, room_rules(false));
    auto& slow = sim.connect(server);
    slow.expect_connection().stall();
    auto& quick = sim.connect(server);
    sim.advance(1s);
    REQUIRE(everybody->members.size() == 2);
    lines* const slow_member = everybody->members.front();
    std::vector<lines*> refused;
    std::size_t taken = 0;
    int rounds = 0;
    for (; refused.empty() && rounds < 2000; ++rounds) {
        taken += fairlead::broadcast(
            everybody->members, big('b'), [&](lines& who) { refused.push_back(&who); });
        quick.expect(std::string(20'000, 'b') + "\n");
    }
    CHECK(refused == std::vector<lines*>{slow_member});
    CHECK(taken == 2 * static_cast<std::size_t>(rounds) - 1);
    CHECK(slow_member->queued() > 64 << 10);             // counted, and
    CHECK(slow_member->queued() <= (64 << 10) + 20'001); // no more than one above it
    slow.resume();
    for (int round = 0; round < rounds - 1; ++round) {
        slow.expect(std::string(20'000, 'b') + "\n");
    }
    CHECK(fairlead::broadcast(everybody->members, big('c')) == 2);
    slow.expect(std::string(20'000, 'c') + "\n");
}

FAIRLEAD_SIMULATION("who is closed takes no broadcast, and gives back what he has of it", sim)
{
    const auto everybody = std::make_shared<room>(); // handlers outlive this function
    auto& server = sim.serve(joins{everybody}, room_rules(false));
    auto& client = sim.connect(server);
    client.expect_connection().stall();
    sim.advance(1s);
    REQUIRE(everybody->members.size() == 1);
    const message one = big('x', 1'000'000);
    for (int round = 0; round < 10; ++round) {
        fairlead::broadcast(
            everybody->members, one, [](lines& who) { who.stream().close("slow consumer"); });
    }
    CHECK(one.frame().use_count() > 1);
    CHECK(fairlead::broadcast(everybody->members, one) == 0);
    sim.advance(1min);
    CHECK(server.open_connections() == 0);
    CHECK(one.frame().use_count() == 1);
}

FAIRLEAD_SIMULATION("a broadcast that was taken before the connection closes is delivered", sim)
{
    const message one = big('d', 1'000'000);
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            lines own(conn, {});
            own.queue("first");
            CHECK(own.try_send(big('e', 100))); // one that is copied
            CHECK(own.try_send(one));
            co_return;
        },
        room_rules(false));
    auto& client = sim.connect(server);
    client.expect("first\n" + std::string(100, 'e') + "\n" + std::string(1'000'000, 'd') + "\n");
    client.expect_end();
    CHECK(one.frame().use_count() == 1);
}

FAIRLEAD_SIMULATION(
    "a broadcast takes references as well as pointers, and another codec's way out", sim)
{
    using frames = fairlead::framed<fairlead::codec::line, fairlead::codec::length_prefix>;
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            frames own(conn, fairlead::codec::line{}, fairlead::codec::length_prefix{});
            const std::string text(600, 't');
            const fairlead::shared_message one(own.sent_rules(), text);
            std::vector<frames*> nobody;
            CHECK(fairlead::broadcast(nobody, one) == 0);
            CHECK(fairlead::broadcast(std::span<frames>(&own, 1), one) == 1);
            const std::string too_long(1 << 20, 't');
            CHECK_THROWS_AS(
                message(fairlead::codec::line{.max_frame = 10}, too_long), std::system_error);
            co_await own.flush();
        },
        room_rules(false));
    sim.connect(server).expect(std::string("\0\0\x02\x58", 4) + std::string(600, 't')).expect_end();
}
