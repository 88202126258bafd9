// What a connection sends, and how that ends: nothing comes into the middle of an operation, the
// end is not told before it is sent, and it never stands behind a part.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/testing/catch2.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/compose.hpp>
#include <asio/error.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::connection;
using fairlead::connection_event;
using fairlead::connection_event_kind;
using fairlead::server_config;

namespace sending
{
using result = std::optional<std::error_code>; // of what has completed

const std::string large(8U << 20U, 'm');
const server_config patient{.idle_timeout = 0s, .write_timeout = 0s, .tls = workload::tls_rules()};
const fairlead::codec::length_prefix long_frames{.max_frame = 64U << 20U};

asio::awaitable<void> write_large(connection& client, result& told)
{
    std::error_code error;
    co_await client.write(asio::buffer(large), error);
    told = error;
}

asio::awaitable<void> write_large_composed(connection& client, result& told)
{
    std::error_code error;
    co_await asio::async_write(
        client, asio::buffer(large), asio::redirect_error(asio::use_awaitable, error));
    told = error;
}

asio::awaitable<void> finish(connection& client, result& told)
{
    try {
        co_await client.shutdown_send();
        told = std::error_code();
    } catch (const std::system_error& failure) {
        told = failure.code();
    }
}

/// Waits twice, and writes after each wait: one operation, of which each step continues another.
struct two_beats
{
    template <typename Self>
    void operator()(Self& self, std::error_code error = {}, std::size_t = 0)
    {
        switch (++step) {
        case 1:
        case 3:
            timer->expires_after(1s);
            timer->async_wait(std::move(self));
            break;
        case 2:
        case 4:
            client->async_write_some(asio::buffer("beat", 4), std::move(self));
            break;
        default:
            self.complete(error);
        }
    }

    connection* client;
    asio::steady_timer* timer;
    int step = 0;
};

asio::awaitable<void> beat_twice(connection& client, result& told)
{
    std::error_code error;
    asio::steady_timer timer(client.get_executor());
    auto token = asio::redirect_error(asio::use_awaitable, error);
    two_beats beats{&client, &timer};
    auto beating =
        asio::async_compose<decltype(token), void(std::error_code)>(std::move(beats), token, timer);
    co_await std::move(beating);
    told = error;
}

/// Calls `action` with the connection at the second write event of it.
struct at_second_write
{
    std::function<void(connection&)> action;
    connection* client = nullptr;
    int writes = 0;
};

/// Serves one client whose handler writes `large` by `write`, and calls `action` in a hook meanwhile.
fairlead::testing::peer& interrupted(
    fairlead::testing::simulation& sim, asio::awaitable<void> (*write)(connection&, result&),
    const std::shared_ptr<result>& told, std::function<void(connection&)> action)
{
    const auto state = std::make_shared<at_second_write>();
    state->action = std::move(action);
    auto& server = sim.add_server(
        [state, told, write](connection& client) -> asio::awaitable<void> {
            state->client = &client;
            co_await write(client, *told);
            co_await test::wait_for(1s);
        },
        {.io_events = true});
    server.on_connection([state](const connection_event& event) {
        if (event.kind == connection_event_kind::write && ++state->writes == 2) {
            state->action(*state->client);
        }
    });
    server.start();
    auto& client = sim.connect(server);
    sim.advance(1min);
    return client;
}

asio::awaitable<void> send_large(connection& client, result& told)
{
    std::error_code error;
    fairlead::framed messages(client, long_frames);
    co_await messages.send(std::string_view(large), error);
    told = error;
}
} // namespace sending

using namespace sending;

FAIRLEAD_SIMULATION("a composed operation that is refused its write cuts nobody's reply", sim)
{
    const std::string reply(200'000, 'r');
    result beats;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            client.spawn(beat_twice(client, beats));
            co_await client.write(asio::buffer(reply));
            client.close();
        },
        {.linger = 10s});
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(3s);
    client.resume();
    sim.advance(30s);
    CHECK(beats == std::error_code(fairlead::errc::connection_closed));
    CHECK(client.received() == reply);
    CHECK(client.has_ended());
}

FAIRLEAD_SIMULATION("an end that was asked for does not stand behind a part of a write", sim)
{
    result written;
    result end;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        asio::cancellation_signal cancels;
        asio::co_spawn(
            client.get_executor(), write_large(client, written),
            asio::bind_cancellation_slot(cancels.slot(), [](const std::exception_ptr&) {}));
        co_await test::wait_for(500ms);
        client.spawn(finish(client, end));
        co_await test::wait_for(500ms);
        cancels.emit(asio::cancellation_type::terminal);
        co_await test::wait_for(1s);
    });
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(1010ms);
    CHECK(end == std::error_code(asio::error::broken_pipe));
    client.resume();
    sim.advance(1min);
    CHECK(client.was_reset());
    CHECK_FALSE(client.has_fin());
}

FAIRLEAD_SIMULATION("an end that was asked for does not stand behind messages that are lost", sim)
{
    result sent;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        co_await send_large(client, sent);
        client.shutdown_send();
        co_await test::wait_for(5s);
    });
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(1s);
    sim.fail("send*", ENOBUFS);
    client.resume();
    sim.advance(1min);
    CHECK(sent == std::error_code(asio::error::no_buffer_space));
    CHECK(client.was_reset());
    CHECK_FALSE(client.has_fin());
}

FAIRLEAD_SIMULATION("close_notify for which there is no room leaves though nobody waits", sim)
{
    const bool is_cancelled = GENERATE(false, true);
    result end;
    std::size_t bytes = 0;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            // So many fill every buffer on the way, and nothing waits.
            bytes = co_await client.write(asio::buffer(large, 23 * 16384 + 15856));
            co_await test::wait_for(10ms);
            asio::cancellation_signal cancels;
            if (is_cancelled) {
                asio::co_spawn(
                    client.get_executor(), finish(client, end),
                    asio::bind_cancellation_slot(cancels.slot(), [](const std::exception_ptr&) {}));
            } else {
                client.shutdown_send();
            }
            co_await test::wait_for(10ms);
            cancels.emit(asio::cancellation_type::terminal);
            co_await test::wait_for(1min);
        },
        patient);
    auto& client = sim.connect_tls(server);
    sim.advance(500ms);
    client.stall();
    sim.advance(3s);
    CHECK(bytes != 0);
    CHECK(end.has_value() == is_cancelled);
    client.resume();
    sim.advance(10s);
    CHECK(client.has_ended());
}

FAIRLEAD_SIMULATION("no step of an operation follows a close_notify that waits for room", sim)
{
    result beats;
    result end;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            client.spawn(beat_twice(client, beats));
            co_await test::wait_for(1500ms);
            co_await client.write(asio::buffer(large, 23 * 16384 + 15830));
            co_await finish(client, end);
            co_await test::wait_for(20s);
        },
        patient);
    auto& client = sim.connect_tls(server);
    sim.advance(500ms);
    client.stall();
    sim.advance(1300ms);
    CHECK_FALSE(end);
    sim.advance(2s);
    client.resume();
    sim.advance(10s);
    CHECK(beats == std::error_code(asio::error::broken_pipe));
    CHECK(end == std::error_code());
    CHECK(client.has_ended());
    CHECK(client.problem().empty());
}

FAIRLEAD_SIMULATION("a close in a write hook cuts the operation whose step it was told of", sim)
{
    const auto write = GENERATE(write_large_composed, write_large);
    const auto told = std::make_shared<result>();
    const auto& client = interrupted(sim, write, told, [](connection& of) { of.close(); });
    CHECK(*told == std::error_code(fairlead::errc::connection_closed));
    CHECK(client.was_reset());
    CHECK_FALSE(client.has_fin());
}

FAIRLEAD_SIMULATION("an end asked for in a write hook comes behind the whole operation", sim)
{
    const auto write = GENERATE(write_large_composed, write_large, send_large);
    const auto told = std::make_shared<result>();
    const auto& client = interrupted(sim, write, told, [](connection& of) { of.shutdown_send(); });
    CHECK(*told == std::error_code());
    CHECK(client.received().size() >= large.size());
    CHECK(client.has_ended());
}

FAIRLEAD_SIMULATION("nothing is written into an operation by a hook", sim)
{
    const auto write = GENERATE(write_large_composed, write_large, send_large);
    const auto told = std::make_shared<result>();
    const auto refusal = std::make_shared<result>();
    const auto& client = interrupted(sim, write, told, [refusal](connection& of) {
        of.async_write_some(
            asio::buffer("intruder", 8),
            [refusal](const std::error_code& error, std::size_t) { *refusal = error; });
    });
    CHECK(*refusal == std::make_error_code(std::errc::operation_in_progress));
    CHECK(*told == std::error_code());
    CHECK(client.received().find("intruder") == std::string::npos);
}

FAIRLEAD_SIMULATION("no message comes between two steps of asio::async_write", sim)
{
    const bool closes = GENERATE(false, true);
    result written;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, fairlead::codec::line{});
        client.spawn(write_large_composed(client, written));
        co_await asio::post(client.get_executor(), asio::use_awaitable);
        CHECK(messages.try_send("message")); // the first step is with the kernel
        if (closes) {
            client.close();
        }
        co_await test::wait_for(10s);
    });
    auto& client = sim.connect(server);
    sim.advance(1min);
    CHECK(client.was_reset() == closes);
    CHECK(client.received().find("message") == (closes ? std::string::npos : large.size()));
}

FAIRLEAD_SIMULATION("asio::async_write that is left in its middle is no end in order", sim)
{
    const bool fails = GENERATE(false, true);
    result written;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        asio::cancellation_signal cancels;
        asio::co_spawn(
            client.get_executor(), write_large_composed(client, written),
            asio::bind_cancellation_slot(cancels.slot(), [](const std::exception_ptr&) {}));
        co_await test::wait_for(1s);
        if (!fails) {
            cancels.emit(asio::cancellation_type::terminal);
        }
        co_await test::wait_for(5s);
    });
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(2s);
    if (fails) {
        sim.fail("send*", ENOBUFS);
    }
    client.resume();
    sim.advance(1min);
    CHECK(
        written ==
        std::error_code(fails ? asio::error::no_buffer_space : asio::error::operation_aborted));
    CHECK(client.was_reset());
    CHECK_FALSE(client.has_fin());
}

FAIRLEAD_SIMULATION("whoever waits for our end is told why it cannot be sent", sim)
{
    const auto way = GENERATE(0, 1, 2, 3, 4);
    result written;
    result end;
    auto config = way == 4 ? patient : server_config();
    config.idle_timeout = way == 2 ? 5s : 0s;
    config.linger = 1s;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(10ms); // the client has stalled
            client.spawn(write_large(client, written));
            co_await test::wait_for(10ms);
            client.spawn(finish(client, end));
            co_await test::wait_for(1s);
            if (way == 0) {
                client.close();
            } else if (way == 1) {
                client.abort();
            }
            co_await test::wait_for(30s);
        },
        config);
    auto& client = way == 4 ? sim.connect_tls(server) : sim.connect(server);
    sim.run_until([&] { return server.stats().opened == 1; }, 1s);
    client.stall();
    sim.advance(500ms);
    CHECK_FALSE(end);
    if (way == 3 || way == 4) {
        client.reset();
    }
    sim.advance(20s);
    REQUIRE(end);
    CHECK(
        *end == (way == 2   ? std::error_code(fairlead::errc::idle_timeout)
                 : way >= 3 ? std::error_code(asio::error::connection_reset)
                            : std::error_code(fairlead::errc::connection_closed)));
}

FAIRLEAD_SIMULATION("an end that is asked for in a handshake is told when it is sent", sim)
{
    const fairlead::tls_context context(workload::tls_rules());
    std::optional<std::chrono::nanoseconds> told;
    std::optional<std::chrono::nanoseconds> secured;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        std::array<char, 64> buffer;
        co_await client.read_some(asio::buffer(buffer));
        co_await client.write(asio::buffer("go\n", 3));
        client.spawn([](connection& of, auto& in, auto& when) -> asio::awaitable<void> {
            co_await test::wait_for(100ms);
            co_await of.shutdown_send();
            when = in.now();
        }(client, sim, told));
        co_await client.start_tls(context);
        secured = sim.now();
        co_await test::wait_for(10s);
    });
    auto& client = sim.connect(server, {.latency = 300ms});
    client.send("STARTTLS\n").expect("go\n");
    client.wrap(
        std::make_unique<fairlead::testing::tls_layer>(fairlead::testing::tls_peer_options{}));
    sim.advance(5s);
    CHECK(client.has_ended());
    REQUIRE(secured);
    REQUIRE(told);
    CHECK(*told >= *secured);
}

FAIRLEAD_SIMULATION("the peer's end stays one though our close_notify has failed", sim)
{
    result read;
    result end;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(2s);
            sim.fail("send*", ENOBUFS);
            co_await finish(client, end);
            std::array<char, 64> buffer;
            std::error_code error;
            co_await client.read_some(asio::buffer(buffer), error);
            read = error;
        },
        patient);
    auto& client = sim.connect_tls(server);
    sim.advance(1s);
    client.half_close();
    sim.advance(20s);
    CHECK(end == std::error_code(asio::error::no_buffer_space));
    CHECK(read == std::error_code());
}

FAIRLEAD_SIMULATION(
    "a reset that our end meets first is the peer's, and no failure of the handler", sim)
{
    const bool is_tls = GENERATE(false, true);
    const auto is_told = std::make_shared<bool>(false);
    auto config = patient;
    config.tls = is_tls ? config.tls : std::nullopt;
    auto& server = sim.add_server(
        [](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            co_await client.shutdown_send();
        },
        config);
    server.on_error([is_told](const fairlead::error_event&) { *is_told = true; });
    server.start();
    auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
    sim.advance(500ms);
    client.reset();
    sim.advance(10s);
    CHECK(server.stats().closed_by(fairlead::close_reason::peer_reset) == 1);
    CHECK_FALSE(*is_told);
}

FAIRLEAD_SIMULATION("what had arrived before a reset is read behind an end that fails", sim)
{
    const bool is_awaited = GENERATE(false, true);
    result end;
    result last;
    std::string read;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        co_await test::wait_for(1s);
        if (is_awaited) {
            co_await finish(client, end);
        } else {
            client.shutdown_send();
        }
        std::array<char, 64> buffer;
        std::error_code error;
        const auto bytes = co_await client.read_some(asio::buffer(buffer), error);
        read.assign(buffer.data(), bytes);
        co_await client.read_some(asio::buffer(buffer), error);
        last = error;
    });
    auto& client = sim.connect(server);
    client.send("request");
    sim.advance(500ms);
    client.reset();
    sim.advance(10s);
    CHECK(end == (is_awaited ? result(asio::error::connection_reset) : result()));
    CHECK(read == "request");
    CHECK(last == std::error_code(asio::error::connection_reset));
    CHECK(server.stats().closed_by(fairlead::close_reason::peer_reset) == 1);
}

FAIRLEAD_SIMULATION("a write does not overtake the message before it", sim)
{
    std::error_code error;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, fairlead::codec::line{});
        co_await client.write(asio::buffer("0", 1));
        co_await messages.send("message");
        co_await client.write(asio::buffer("1", 1), error);
        co_await messages.flush();
        co_await client.write(asio::buffer("2", 1));
    });
    sim.connect(server).expect("0message\n2").expect_end();
    CHECK(error == std::errc::operation_in_progress);
}

FAIRLEAD_SIMULATION("a large message behind one that waits for a write leaves the queue free", sim)
{
    result sent;
    bool is_flushed = false;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, long_frames);
        client.spawn([](auto& through, auto& is_done) -> asio::awaitable<void> {
            co_await test::wait_for(1ms);
            co_await through.send("small");
            co_await through.flush();
            is_done = true;
        }(messages, is_flushed));
        co_await client.write(asio::buffer(large));
        co_await messages.send(std::string_view(large).substr(0, 100'000));
        co_await finish(client, sent);
    });
    auto& client = sim.connect(server);
    client.drip(1U << 17U, 1ms);
    sim.advance(1min);
    CHECK(is_flushed);
    CHECK(sent == std::error_code());
    CHECK(client.received().size() == large.size() + 4 + 5 + 4 + 100'000);
    CHECK(client.has_ended());
}

FAIRLEAD_SIMULATION(
    "what runs inside a step of asio::async_write does not come before the rest", sim)
{
    const auto way = GENERATE(0, 1, 2);
    result written;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, fairlead::codec::line{});
        std::error_code failure;
        const auto meanwhile = [&](const std::error_code& error, std::size_t bytes) {
            if (bytes != 0 && bytes < large.size() / 2 && !std::exchange(written, failure)) {
                if (way == 0) {
                    messages.try_send("message");
                } else if (way == 1) {
                    client.shutdown_send();
                } else {
                    client.close();
                }
            }
            return error ? 0 : std::size_t(65536);
        };
        co_await asio::async_write(
            client, asio::buffer(large), meanwhile,
            asio::redirect_error(asio::use_awaitable, failure));
        written = failure;
        co_await test::wait_for(1s);
    });
    auto& client = sim.connect(server);
    sim.advance(1min);
    if (way == 2) {
        CHECK(client.was_reset());
        CHECK_FALSE(client.has_fin());
    } else {
        CHECK(written == std::error_code());
        CHECK(client.received().substr(0, large.size()) == large);
        CHECK(client.has_ended());
    }
}

FAIRLEAD_SIMULATION("whoever has begun to send goes before the end that is asked for", sim)
{
    const bool is_one = GENERATE(false, true);
    constexpr std::size_t count = 100;
    const std::vector<std::string_view> payloads(count, std::string_view(large).substr(0, 60'000));
    result first;
    result last;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, long_frames);
        client.spawn([](auto& through, auto& all, auto one, auto& told) -> asio::awaitable<void> {
            std::error_code error;
            if (one) {
                co_await through.send(std::string_view(large), error);
                co_await through.send(std::string_view(large), error);
            } else {
                co_await through.send_all(all);
            }
            told = error;
        }(messages, payloads, is_one, first));
        co_await test::wait_for(10ms);
        client.spawn([](auto& through, auto& told) -> asio::awaitable<void> {
            std::error_code error;
            co_await through.send(std::string_view(large), error); // waits for its turn
            told = error;
        }(messages, last));
        co_await test::wait_for(10ms);
        co_await client.shutdown_send();
        CHECK(last == std::error_code());
        co_await test::wait_for(10ms);
    });
    auto& client = sim.connect(server);
    client.drip(1U << 17U, 1ms);
    sim.advance(1min);
    CHECK(first == (is_one ? std::error_code(asio::error::broken_pipe) : std::error_code()));
    CHECK(
        client.received().size() ==
        large.size() + 4 + (is_one ? large.size() + 4 : count * (60'000 + 4)));
    CHECK(client.has_ended());
}
