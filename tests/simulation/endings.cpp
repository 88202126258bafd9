// How connections and drains end when something else is under way: what was cut ends in a reset,
// what was asked for is remembered, and what was cancelled does not wait on.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/testing/catch2.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::server_config;
using fairlead::testing::simulation;

namespace endings
{
const std::string much(8U << 20U, 'm');

asio::awaitable<void> write_much(connection& client, std::error_code& error)
{
    co_await client.write(asio::buffer(much), error);
}

/// As a server that is reset, and not one that has said everything.
void check_cut(const fairlead::testing::peer& client)
{
    CHECK(client.was_reset());
    CHECK_FALSE(client.has_fin());
    CHECK_FALSE(client.received().empty());
    CHECK(client.received().size() < much.size());
}
} // namespace endings

using namespace endings;

FAIRLEAD_SIMULATION(
    "a write that was cancelled in the middle is no end in order, however it ends", sim)
{
    enum class way
    {
        closed,
        idle,
        without_linger,
    };
    for (const auto how : {way::closed, way::idle, way::without_linger}) {
        std::error_code error;
        const auto handler = [&](connection& client) -> asio::awaitable<void> {
            asio::cancellation_signal cancels;
            asio::co_spawn(
                client.get_executor(), write_much(client, error),
                asio::bind_cancellation_slot(cancels.slot(), [](const std::exception_ptr&) {}));
            co_await test::wait_for(1s);
            cancels.emit(asio::cancellation_type::terminal);
            co_await test::wait_for(10ms);
            if (how != way::idle) {
                client.close();
            }
            co_await test::wait_for(1min);
        };
        auto& server = sim.serve(
            handler, {.idle_timeout = 2s, .linger = how == way::without_linger ? 0s : 5s});
        auto& client = sim.connect(server);
        client.stall();
        sim.advance(1005ms);
        client.resume();
        sim.advance(2min);
        CHECK(error == asio::error::operation_aborted);
        check_cut(client);
    }
}

FAIRLEAD_SIMULATION("messages that could not be written are no end in order", sim)
{
    std::error_code error;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, fairlead::codec::length_prefix{.max_frame = 64U << 20U});
        co_await messages.send(std::string_view(much), error);
    });
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(1s);
    sim.fail("send*", ENOBUFS);
    client.resume();
    sim.advance(20s);
    CHECK(error == asio::error::no_buffer_space);
    check_cut(client);
}

FAIRLEAD_SIMULATION(
    "a write of TLS that fails behind the peer's end is not taken for that end", sim)
{
    std::error_code error;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            std::string request(1U << 20U, '\0');
            co_await client.read(asio::buffer(request), error);
            co_await client.write(asio::buffer(much), error);
        },
        {.tls = workload::tls_rules()});
    auto& client = sim.connect_tls(server);
    client.send("?");
    sim.advance(1s);
    sim.fail("send*", ENOBUFS, {.nth = 3});
    client.half_close();
    REQUIRE(sim.settles_within(1min));
    sim.advance(1s); // the reset is on its way
    CHECK(error == asio::error::no_buffer_space);
    check_cut(client);
}

FAIRLEAD_SIMULATION("asio::async_write cut by a close is a cut, and no message follows it", sim)
{
    for (const bool is_tls : {false, true}) {
        std::error_code error;
        std::size_t written = 0;
        server_config config{.linger = 10s};
        if (is_tls) {
            config.tls = workload::tls_rules();
        }
        auto& server = sim.serve(
            [&](connection& client) -> asio::awaitable<void> {
                fairlead::framed messages(client, fairlead::codec::line{});
                client.spawn(
                    [](connection& to, auto& failure, auto& bytes) -> asio::awaitable<void> {
                        co_await test::wait_for(10ms); // the client has stalled
                        bytes = co_await asio::async_write(
                            to, asio::buffer(much),
                            asio::redirect_error(asio::use_awaitable, failure));
                    }(client, error, written));
                co_await test::wait_for(1s);
                CHECK(messages.try_send("a message"));
                client.close();
                co_await test::wait_for(3s);
            },
            config);
        auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
        REQUIRE(sim.run_until([&] { return server.stats().opened == 1; }, 1s));
        client.stall();
        sim.advance(1500ms);
        client.resume();
        sim.advance(20s);
        CHECK(error == fairlead::errc::connection_closed);
        CHECK(written < much.size());
        CHECK(client.was_reset());
        CHECK_FALSE(client.has_ended());
        CHECK(client.received().find("a message") == std::string::npos);
    }
}

FAIRLEAD_SIMULATION("asio::async_write that ends before the close does not cut anything", sim)
{
    auto& server = sim.serve([](connection& client) -> asio::awaitable<void> {
        co_await asio::async_write(client, asio::buffer(much), asio::use_awaitable);
        client.close();
        std::error_code refused;
        co_await asio::async_write(
            client, asio::buffer(much), asio::redirect_error(asio::use_awaitable, refused));
        CHECK(refused == fairlead::errc::connection_closed);
    });
    auto& client = sim.connect(server);
    sim.run_until([&] { return !client.reads_on(); }, 1min);
    CHECK(client.received().size() == much.size());
    CHECK(client.has_ended());
}

FAIRLEAD_SIMULATION("an output that is empty keeps nobody's write from being cut", sim)
{
    std::error_code error;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            fairlead::framed messages(client, fairlead::codec::line{});
            co_await messages.next(); // there is another: what is written goes a little later
            co_await messages.write("");
            client.spawn(write_much(client, error));
            client.close();
            co_await test::wait_for(3s);
        },
        {.linger = 10s});
    auto& client = sim.connect(server);
    client.send("a\nb\n");
    sim.advance(20s);
    CHECK(error == fairlead::errc::connection_closed);
    check_cut(client);
}

FAIRLEAD_SIMULATION(
    "nobody sends while the connection shakes hands, and everybody can afterwards", sim)
{
    const fairlead::tls_context context(workload::tls_rules());
    std::error_code meanwhile;
    std::error_code afterwards;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed messages(client, fairlead::codec::line{});
        co_await messages.next();
        co_await messages.send("go");
        co_await messages.flush();
        client.spawn([](auto& sender, auto& first, auto& second) -> asio::awaitable<void> {
            co_await test::wait_for(500ms);
            co_await sender.send("too early", first);
            co_await test::wait_for(3s);
            co_await sender.send("in time", second);
        }(messages, meanwhile, afterwards));
        co_await client.start_tls(context);
        co_await test::wait_for(10s);
        co_await messages.send("done");
    });
    auto& client = sim.connect(server, {.latency = 300ms});
    client.send("STARTTLS\n").expect("go\n");
    sim.advance(1s);
    client.wrap(
        std::make_unique<fairlead::testing::tls_layer>(fairlead::testing::tls_peer_options{}));
    client.expect("in time\ndone\n").expect_end();
    CHECK(meanwhile == std::errc::operation_in_progress);
    CHECK_FALSE(afterwards);
}

FAIRLEAD_SIMULATION("who writes and writes does not keep another from finishing", sim)
{
    for (const bool is_tls : {false, true}) {
        std::error_code error;
        int whole = 0;
        server_config config;
        if (is_tls) {
            config.tls = workload::tls_rules();
        }
        auto& server = sim.serve(
            [&](connection& client) -> asio::awaitable<void> {
                client.spawn([](connection& to, auto& count, auto& end) -> asio::awaitable<void> {
                    while (!end) {
                        co_await to.write(asio::buffer(much, 1U << 20U), end);
                        count += end ? 0 : 1;
                    }
                }(client, whole, error));
                co_await test::wait_for(1s);
                co_await client.shutdown_send();
                co_await test::wait_for(1s);
            },
            config);
        auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
        client.drip(65536, 10ms);
        REQUIRE(sim.run_until([&] { return !client.reads_on(); }, 1min));
        CHECK(error == asio::error::broken_pipe);
        CHECK(client.has_ended());
        CHECK(client.received().size() == static_cast<std::size_t>(whole) << 20U);
        client.close();
        REQUIRE(sim.settles_within(1min));
    }
}

FAIRLEAD_SIMULATION(
    "an end that nobody waits for comes behind the write, and not with the handler's", sim)
{
    for (const bool is_tls : {false, true}) {
        server_config config;
        if (is_tls) {
            config.tls = workload::tls_rules();
        }
        std::error_code error;
        auto& server = sim.serve(
            [&](connection& client) -> asio::awaitable<void> {
                client.spawn(write_much(client, error));
                co_await test::wait_for(10ms);
                client.shutdown_send();
                co_await test::wait_for(10min);
            },
            config);
        auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
        client.drip(1U << 20U, 100ms);
        REQUIRE(sim.run_until([&] { return client.has_ended(); }, 1min));
        CHECK_FALSE(error);
        CHECK(client.received() == much);
        CHECK(server.open_connections() == 1);
    }
}

FAIRLEAD_SIMULATION("nothing is written behind a close_notify that waits for room", sim)
{
    std::error_code error;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await client.write(asio::buffer("hello", 5));
            sim.fail("send*", EAGAIN);
            client.spawn([](connection& of) -> asio::awaitable<void> {
                co_await of.shutdown_send();
            }(client));
            co_await client.write(asio::buffer("late", 4), error);
            co_await test::wait_for(1s);
        },
        {.tls = workload::tls_rules()});
    sim.connect_tls(server).expect("hello").expect_end();
    CHECK(error == asio::error::broken_pipe);
}

FAIRLEAD_SIMULATION("a hook does not write into the middle of a write", sim)
{
    connection* current = nullptr;
    bool has_tried = false;
    std::error_code refusal;
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            current = &client;
            co_await client.write(asio::buffer(much));
        },
        {.io_events = true});
    server.on_connection([&](const fairlead::connection_event& event) {
        if (event.kind == fairlead::connection_event_kind::write && !has_tried) {
            has_tried = true;
            current->async_write_some(
                asio::buffer("INTRUDER", 8),
                [&](std::error_code error, std::size_t) { refusal = error; });
        }
    });
    server.start();
    auto& client = sim.connect(server);
    REQUIRE(sim.run_until([&] { return !client.reads_on(); }, 1min));
    CHECK(refusal == std::errc::operation_in_progress);
    CHECK(client.received() == much);
}

FAIRLEAD_SIMULATION("a read of TLS that is cancelled between its event and its attempt ends", sim)
{
    for (const bool closes : {true, false}) {
        asio::cancellation_signal cancels;
        bool is_read_again = false;
        std::optional<std::error_code> read;
        std::chrono::nanoseconds cancelled_at{};
        std::chrono::nanoseconds ended_at{};
        auto& server = sim.serve(
            [&](connection& client) -> asio::awaitable<void> {
                asio::co_spawn(
                    client.get_executor(),
                    [](connection& from, auto& in, auto& end, auto& when) -> asio::awaitable<void> {
                        std::array<char, 64> buffer;
                        std::error_code error;
                        co_await from.read_some(asio::buffer(buffer), error);
                        when = in.now();
                        end = error;
                    }(client, sim, read, ended_at),
                    asio::bind_cancellation_slot(cancels.slot(), [](const std::exception_ptr&) {}));
                std::error_code error;
                while (!is_read_again) { // the last of these waits for room
                    co_await client.write_some(asio::buffer(much, 16384), error);
                }
                cancelled_at = sim.now();
                closes ? client.close() : cancels.emit(asio::cancellation_type::terminal);
                co_await test::wait_for(1min);
            },
            {.idle_timeout = 0s, .tls = workload::tls_rules()});
        auto& client = sim.connect_tls(server);
        REQUIRE(sim.run_until([&] { return server.stats().opened == 1; }, 1s));
        client.stall();
        sim.advance(1s);
        sim.fail("recv*", EAGAIN); // of what has come, the attempt finds nothing
        is_read_again = true;
        client.send("x").resume();
        sim.advance(1min);
        client.close();
        REQUIRE(sim.settles_within(5min));
        REQUIRE(read);
        CHECK(ended_at == cancelled_at);
        CHECK(
            *read == (closes ? make_error_code(fairlead::errc::connection_closed)
                             : std::error_code(asio::error::operation_aborted)));
        sim.heal();
    }
}

FAIRLEAD_SIMULATION("a hello of TLS that is looked at twice is no plain text for that", sim)
{
    server_config config{.idle_timeout = 0s, .tls = workload::tls_rules()};
    config.tls_detect = true;
    auto& server = sim.serve(workload::echo, config);
    sim.fail("recv*", ENOMEM, {.nth = 2});
    auto& client = sim.connect_tls(server).send("x");
    sim.advance(1min);
    CHECK(server.stats().opened == server.stats().tls_handshakes);
    client.close();
    REQUIRE(sim.settles_within(1min));
}

// -- drains, and accepting

FAIRLEAD_SIMULATION("a failure of accept in a drain costs nobody in the queue his place", sim)
{
    auto& server = sim.serve(
        workload::polite,
        {.max_connections = 1, .at_limit = fairlead::limit_policy::pause, .linger = 0s});
    sim.connect(server).send("1").expect("1");
    std::vector<fairlead::testing::peer*> queued;
    for (int i = 0; i < 3; ++i) {
        queued.push_back(&sim.connect(server));
        queued.back()->send("q");
    }
    sim.advance(100ms);
    sim.fail("accept*", EINVAL);
    const auto ended = sim.spawn([](auto& of) -> asio::awaitable<void> {
        const auto report = co_await of.shutdown(30s);
        CHECK(report.drained + report.closed_idle == 4);
    }(server));
    for (auto* const each : queued) {
        each->expect("q").expect_end().close();
    }
    REQUIRE(sim.run_until([&] { return *ended; }, 1min));
    CHECK(server.stats().accept_errors == 1);
}

FAIRLEAD_SIMULATION("whoever is in a queue that is full when a drain begins is served", sim)
{
    auto& server = sim.serve(
        workload::polite,
        {.backlog = 2, // in Linux three
         .max_connections = 1,
         .at_limit = fairlead::limit_policy::pause,
         .linger = 0s});
    sim.connect(server).send("1").expect("1");
    std::vector<fairlead::testing::peer*> queued;
    for (int i = 0; i < 3; ++i) {
        queued.push_back(&sim.connect(server));
        queued.back()->send("q");
    }
    sim.advance(100ms);
    const auto ended = sim.spawn([](auto& of) -> asio::awaitable<void> {
        static_cast<void>(co_await of.shutdown(30s));
    }(server));
    for (auto* const each : queued) {
        each->expect("q").expect_end().close();
    }
    REQUIRE(sim.run_until([&] { return *ended; }, 1min));
    CHECK(server.stats().accepted == 4);
}

FAIRLEAD_SIMULATION("a listening socket that stays broken does not keep a drain from ending", sim)
{
    auto& server = sim.serve(workload::polite, {.max_connections = 1, .linger = 0s});
    sim.connect(server).send("1").expect("1");
    sim.connect(server);
    sim.advance(100ms);
    sim.fail("accept*", EINVAL, {.times = 0});
    const auto ended = sim.spawn([](auto& of) -> asio::awaitable<void> {
        static_cast<void>(co_await of.shutdown(1h));
    }(server));
    CHECK(sim.run_until([&] { return *ended; }, 10s));
}

FAIRLEAD_SIMULATION("each who is opened in a drain has a second for his first request", sim)
{
    std::map<std::uint64_t, std::chrono::nanoseconds> opened;
    std::map<std::uint64_t, std::chrono::nanoseconds> sent_home;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            opened[client.id()] = sim.now();
            co_await client.readable();
            sent_home[client.id()] = sim.now();
        },
        {.pre_open_timeout = 30s, .tls = workload::tls_rules()});
    for (int i = 1; i <= 6; ++i) { // whose handshakes end one after the other
        sim.connect_tls(server).drip(100, i * 100ms);
    }
    sim.advance(1ms);
    const auto ended = sim.spawn([](auto& of) -> asio::awaitable<void> {
        static_cast<void>(co_await of.shutdown(1min));
    }(server));
    sim.advance(1min);
    CHECK(*ended);
    REQUIRE(sent_home.size() == 6);
    for (const auto& [id, when] : sent_home) {
        CHECK(when - opened.at(id) <= 1025ms);
    }
}

FAIRLEAD_SIMULATION("the last descriptor is no alarm while nobody waits", sim)
{
    auto& server = sim.serve(workload::echo);
    sim.connect(server).send("x").expect("x");
    sim.kernel().table.limit = sim.kernel().table.count() + 1;
    sim.connect(server).send("x").expect("x");
    sim.advance(20s);
    CHECK(server.stats().pauses == 0);
    CHECK(server.stats().accept_errors == 0);
    sim.connect(server).expect_reset(); // and that is one
    CHECK(server.stats().pauses == 1);
}

FAIRLEAD_SIMULATION("a start for which there is no memory leaves nothing that listens", sim)
{
    bool has_started = false;
    for (std::uint64_t nth = 1; nth < 100 && !has_started; ++nth) {
        auto& server = sim.add_server(
            workload::echo, {.max_connections = 4, .at_limit = fairlead::limit_policy::evict_idle});
        std::optional<std::exception_ptr> failure;
        asio::co_spawn(
            sim.peers(),
            [](auto& of, auto& in, auto n) -> asio::awaitable<void> {
                auto run = of.listen();
                in.fail_allocation(n);
                co_await std::move(run);
            }(server, sim, nth),
            [&](const std::exception_ptr& told) { failure = told; });
        sim.advance(1s);
        sim.heal();
        has_started = !failure;
        if (failure) {
            CHECK(server.state() != fairlead::server_state::running);
            if (server.local_endpoint().port() != 0) {
                auto& client = sim.connect(server);
                sim.advance(1s);
                CHECK_FALSE(client.is_connected());
            }
        }
        server.close();
        sim.advance(1s);
    }
    CHECK(has_started);
}
