// sleep_for and connection::deadline, in virtual time: when they end, and with what.
#include "simulation/wait_for.hpp"
#include "support/catch.hpp"
#include <fairlead/server.hpp>
#include <fairlead/sleep.hpp>
#include <fairlead/testing/catch2.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::errc;
using fairlead::sleep_for;
using fairlead::testing::simulation;

namespace sleeping_handlers
{
using nanoseconds = std::chrono::nanoseconds;

/// What the sleeps of a test came to.
struct diary
{
    struct entry
    {
        nanoseconds took;
        std::error_code code;
    };

    simulation* sim;
    std::vector<entry> entries;

    asio::awaitable<void> sleep(connection& conn, std::chrono::milliseconds time)
    {
        const auto since = sim->now();
        std::error_code error = asio::error::would_block;
        co_await sleep_for(conn, time, error);
        entries.push_back({sim->now() - since, error});
    }

    /// On a timer of Asio's that obeys the connection's deadline.
    asio::awaitable<void> wait(connection& conn, std::chrono::milliseconds time)
    {
        const auto since = sim->now();
        asio::steady_timer timer(conn.get_executor(), time);
        std::error_code error;
        const auto obeys = conn.deadline();
        co_await timer.async_wait(asio::bind_cancellation_slot(
            obeys.slot(), asio::redirect_error(asio::use_awaitable, error)));
        entries.push_back({sim->now() - since, error});
    }

    void check(std::size_t which, nanoseconds least, nanoseconds most, std::error_code code) const
    {
        REQUIRE(which < entries.size());
        CHECK(entries[which].took >= least);
        CHECK(entries[which].took <= most);
        CHECK(entries[which].code == code);
    }
};

/// Runs `script(conn)`, a function object of the test, which outlives the server.
struct scripted
{
    std::function<asio::awaitable<void>(connection&)> script;

    asio::awaitable<void> operator()(connection& conn) const
    {
        return script(conn);
    }
};

template <typename Server>
asio::awaitable<void> drain_of(Server& server)
{
    co_await server.shutdown(30s);
}

using script = std::function<asio::awaitable<void>(connection&)>;
} // namespace sleeping_handlers

using namespace sleeping_handlers;

FAIRLEAD_SIMULATION("a sleep lasts its time, and at most a tick more", sim)
{
    diary told{&sim, {}};
    auto& server = sim.serve(
        scripted{[&](connection& conn) -> asio::awaitable<void> {
            for (const auto time : {1ms, 10ms, 50ms, 333ms, 4'000ms, 100'000ms}) {
                co_await told.sleep(conn, time);
            }
        }},
        {.idle_timeout = 0s});
    auto& client = sim.connect(server);
    client.expect_end();
    std::size_t which = 0;
    for (const auto time : {1ms, 10ms, 50ms, 333ms, 4'000ms, 100'000ms}) {
        told.check(which++, time, time + 11ms, {});
    }
}

FAIRLEAD_SIMULATION("a sleep of no time is a turn of the loop", sim)
{
    diary told{&sim, {}};
    bool others_ran = false;
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        asio::post(conn.get_executor(), [&] { others_ran = true; });
        co_await told.sleep(conn, 0ms);
        CHECK(others_ran);
        co_await told.sleep(conn, -5ms);
        conn.close();
        co_await told.sleep(conn, 0ms);
        co_await told.sleep(conn, 5ms);
    }});
    sim.connect(server).expect_end().close();
    REQUIRE(sim.settles_within(30s));
    told.check(0, 0ms, 0ms, {});
    told.check(1, 0ms, 0ms, {});
    told.check(2, 0ms, 0ms, errc::connection_closed);
    told.check(3, 0ms, 0ms, errc::connection_closed);
}

FAIRLEAD_SIMULATION("a sleep without an error code throws what ended the connection", sim)
{
    auto& server = sim.serve(scripted{[](connection& conn) -> asio::awaitable<void> {
        conn.expires_after(1s);
        co_await sleep_for(conn, 1h);
    }});
    auto& client = sim.connect(server);
    client.expect_connection();
    const auto since = sim.now();
    client.expect_end();
    CHECK(sim.now() - since < 1100ms);
    client.close();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(close_reason::deadline_exceeded) == 1);
}

FAIRLEAD_SIMULATION("every stop of a connection ends the sleeps of handler and children", sim)
{
    struct way
    {
        std::string how;
        errc code;
    };
    const auto one = GENERATE(
        way{"close", errc::connection_closed}, way{"abort", errc::connection_closed},
        way{"expires_after", errc::deadline_exceeded}, way{"idle", errc::idle_timeout},
        way{"close_connection", errc::server_closed}, way{"server", errc::server_closed});
    INFO(one.how);
    diary told{&sim, {}};
    fairlead::server_config config{.idle_timeout = one.how == "idle" ? 2s : 0s};
    const script child = [&](connection& conn) -> asio::awaitable<void> {
        co_await told.sleep(conn, 1h);
    };
    std::uint64_t id = 0;
    std::function<void(std::uint64_t)> stop_one;
    std::function<void()> stop_all;
    auto& server = sim.serve(
        scripted{[&](connection& conn) -> asio::awaitable<void> {
            id = conn.id();
            conn.spawn(child(conn));
            conn.spawn(child(conn));
            if (one.how == "expires_after") {
                conn.expires_after(2s);
            }
            sim.at(sim.now() + 2s, [&] {
                if (one.how == "close") {
                    conn.close();
                } else if (one.how == "abort") {
                    conn.abort();
                } else if (one.how == "close_connection") {
                    stop_one(id);
                } else if (one.how == "server") {
                    stop_all();
                }
            });
            co_await told.sleep(conn, 1h);
        }},
        config);
    stop_one = [&](std::uint64_t which) { server.close_connection(which); };
    stop_all = [&] { server.close(); };
    sim.connect(server).expect_connection();
    REQUIRE(sim.run_until([&] { return told.entries.size() == 3; }, 10s));
    for (std::size_t which = 0; which < 3; ++which) {
        told.check(which, 2s, 2s + 25ms, one.code);
    }
    sim.advance(5s);
    CHECK(server.open_connections() == 0);
}

FAIRLEAD_SIMULATION("neither a drain nor the peer's FIN ends a sleep, and a reset does", sim)
{
    diary told{&sim, {}};
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        co_await told.sleep(conn, 5s);
        std::error_code ignored;
        co_await conn.write(asio::buffer("done", 4), ignored);
    }});
    auto& first = sim.connect(server);
    auto& second = sim.connect(server);
    first.half_close();
    second.expect_connection();
    sim.advance(1s);
    CHECK(told.entries.empty());
    second.reset();
    sim.advance(100ms);
    told.check(0, 1s, 1100ms, asio::error::connection_reset);
    const auto drained = sim.spawn(drain_of(server));
    first.expect("done").expect_end();
    told.check(1, 5s, 5s + 25ms, {});
    CHECK(server.stats().closed_by(close_reason::peer_reset) == 1);
    REQUIRE(sim.run_until([&] { return *drained; }, 10s));
}

FAIRLEAD_SIMULATION("a child sleeps on when the handler returns, and its reply is sent", sim)
{
    const script child = [](connection& conn) -> asio::awaitable<void> {
        co_await sleep_for(conn, 2s);
        co_await conn.write(asio::buffer("late", 4));
    };
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        conn.spawn(child(conn));
        co_return;
    }});
    sim.connect(server).expect("late").expect_end();
}

FAIRLEAD_SIMULATION("a sleep obeys its cancellation slot, and the connection goes on", sim)
{
    std::error_code code;
    asio::cancellation_signal signal;
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        sim.at(sim.now() + 1s, [&] { signal.emit(asio::cancellation_type::terminal); });
        const auto since = sim.now();
        auto nap = sleep_for(conn, 1h, code);
        co_await asio::co_spawn(
            conn.get_executor(), std::move(nap),
            asio::bind_cancellation_slot(signal.slot(), asio::use_awaitable));
        CHECK(sim.now() - since == 1s);
        co_await conn.write(asio::buffer("on", 2));
    }});
    sim.connect(server).expect("on").expect_end();
    CHECK(code == asio::error::operation_aborted);
}

FAIRLEAD_SIMULATION("a coroutine on a strand may sleep", sim)
{
    bool came_back = false;
    std::error_code code = asio::error::would_block;
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        const auto strand = asio::make_strand(conn.get_executor());
        const script napping = [&](connection& of) -> asio::awaitable<void> {
            co_await sleep_for(of, 1s, code);
            came_back = true;
        };
        auto nap = napping(conn);
        co_await asio::co_spawn(strand, std::move(nap), asio::use_awaitable);
        co_await conn.write(asio::buffer("on", 2));
    }});
    sim.connect(server).expect("on").expect_end();
    CHECK(came_back);
    CHECK(!code);
}

FAIRLEAD_SIMULATION("who sleeps when his server goes is destroyed without a word", sim)
{
    bool came_back = false;
    bool was_destroyed = false;
    struct witness
    {
        bool* told;
        ~witness()
        {
            *told = true;
        }
    };
    {
        asio::io_context context;
        const script handler = [&](connection& conn) -> asio::awaitable<void> {
            const witness last{&was_destroyed};
            std::error_code error;
            const auto obeys = conn.deadline();
            co_await sleep_for(conn, 1h, error);
            came_back = true;
        };
        fairlead::tcp_server server(context, scripted{handler});
        server.start();
        auto& client = sim.connect(server);
        while (server.stats().handlers == 0) {
            context.poll();
            sim.advance(1ms);
        }
        context.poll();
        client.close();
    }
    CHECK(was_destroyed);
    CHECK_FALSE(came_back);
}

FAIRLEAD_SIMULATION("many sleeps of one connection end each in its time", sim)
{
    std::vector<int> order;
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        const std::function<asio::awaitable<void>(connection&, int)> nap =
            [&](connection& of, int number) -> asio::awaitable<void> {
            co_await sleep_for(of, std::chrono::milliseconds(20 * number));
            order.push_back(number);
        };
        for (int number = 20; number > 0; --number) {
            conn.spawn(nap(conn, number));
        }
        co_await sleep_for(conn, 1s);
    }});
    sim.connect(server).expect_end();
    REQUIRE(order.size() == 20);
    CHECK(std::is_sorted(order.begin(), order.end()));
}

FAIRLEAD_SIMULATION("a deadline cancels what is bound to it, however the connection ends", sim)
{
    const auto how =
        GENERATE(as<std::string>{}, "expires_after", "close", "idle", "server", "reset", "time");
    INFO(how);
    diary told{&sim, {}};
    std::function<void()> stop_all;
    const script child = [&](connection& conn) -> asio::awaitable<void> {
        co_await told.wait(conn, how == "time" ? 1s : 1h);
    };
    auto& server = sim.serve(
        scripted{[&](connection& conn) -> asio::awaitable<void> {
            conn.spawn(child(conn));
            conn.spawn(child(conn));
            if (how == "expires_after") {
                conn.expires_after(2s);
            }
            sim.at(sim.now() + 2s, [&] {
                if (how == "close") {
                    conn.close();
                } else if (how == "server") {
                    stop_all();
                }
            });
            co_await told.wait(conn, how == "time" ? 1s : 1h);
        }},
        {.idle_timeout = how == "idle" ? 2s : 0s});
    stop_all = [&] { server.close(); };
    auto& client = sim.connect(server);
    client.expect_connection();
    if (how == "reset") {
        sim.advance(2s);
        client.reset();
    }
    REQUIRE(sim.run_until([&] { return told.entries.size() == 3; }, 10s));
    for (std::size_t which = 0; which < 3; ++which) {
        if (how == "time") {
            told.check(which, 1s, 1s, {});
        } else {
            told.check(which, 2s, 2s + 25ms, asio::error::operation_aborted);
        }
    }
    sim.advance(5s);
    CHECK(server.open_connections() == 0);
}

FAIRLEAD_SIMULATION("a deadline that is asked for when all is over cancels at once", sim)
{
    diary told{&sim, {}};
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        const auto before = conn.deadline();
        conn.close();
        co_await test::wait_for(1s); // its signal has been emitted, to nobody
        co_await told.wait(conn, 1h);
        asio::steady_timer timer(conn.get_executor(), 1h);
        for (int round = 0; round < 2; ++round) {
            std::error_code error;
            co_await timer.async_wait(asio::bind_cancellation_slot(
                before.slot(), asio::redirect_error(asio::use_awaitable, error)));
            CHECK(error == asio::error::operation_aborted);
        }
        const auto now_here = sim.now();
        co_await test::wait_for(1ms);
        CHECK(sim.now() - now_here < 1s);
    }});
    sim.connect(server).expect_end();
    REQUIRE(sim.settles_within(30s));
    told.check(0, 0ms, 0ms, asio::error::operation_aborted);
}

FAIRLEAD_SIMULATION("a deadline may outlive its connection", sim)
{
    std::optional<fairlead::deadline_slot> kept;
    auto& server = sim.serve(scripted{[&](connection& conn) -> asio::awaitable<void> {
        auto moved = conn.deadline();
        kept.emplace(std::move(moved));
        co_return;
    }});
    sim.connect(server).expect_end().close();
    REQUIRE(sim.settles_within(10s));
    asio::steady_timer timer(sim.peers(), 1s);
    const auto since = sim.now();
    std::error_code error = asio::error::would_block;
    timer.async_wait(asio::bind_cancellation_slot(
        kept->slot(), [&](const std::error_code& told) { error = told; }));
    sim.advance(2s);
    CHECK(!error);
    CHECK(sim.now() - since >= 1s);
}
