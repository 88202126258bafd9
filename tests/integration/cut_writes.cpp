// A write that the server cuts short ends in a reset: the peer must not take what it got for the
// whole.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>

#include <array>
#include <atomic>
#include <future>
#include <poll.h>
#include <string>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
constexpr std::size_t much = std::size_t(32) << 20;

struct big_writer
{
    std::string how;
    std::string bytes = std::string(much, 'b');
    test::gate gate;
    test::mailbox<std::error_code> ends;
};

asio::awaitable<void> write_big(connection& conn, big_writer& state)
{
    if (state.how == "expires_after") {
        conn.expires_after(100ms);
    }
    std::error_code error;
    if (state.how == "several buffers") {
        std::array<asio::const_buffer, 3> parts = {
            asio::buffer(state.bytes), asio::buffer(state.bytes), asio::buffer(state.bytes)};
        co_await conn.write(parts, error);
    } else {
        co_await conn.write(asio::buffer(state.bytes), error);
    }
    state.ends.put(error);
}
} // namespace

TEST_CASE("a write that is cut short ends in a reset", "[close][cut]")
{
    const auto protocol = test::either();
    const auto linger = GENERATE(0ms, 3000ms);
    big_writer state;
    state.how = GENERATE(
        as<std::string>{}, "close_connection", "several buffers", "expires_after", "max_lifetime",
        "end of a drain", "close of the server");
    CAPTURE(test::name_of(protocol), linger.count(), state.how);
    auto config = test::local_config(protocol);
    config.linger = linger;
    config.tls_close_timeout = linger;
    if (state.how == "max_lifetime") {
        config.max_lifetime = 300ms;
    }
    test::running_server running(test::scripted{write_big, &state}, config);
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    if (state.how == "close_connection" || state.how == "several buffers") {
        running.on_shard([] {});
        REQUIRE(running.server.close_connection(running.log.connections().front().id));
    } else if (state.how == "end of a drain") {
        CHECK(running.shutdown(50ms).get().stragglers.size() == 1);
    } else if (state.how == "close of the server") {
        running.server.close();
    }
    CHECK(state.ends.take());
    const auto got = client.receive_rest();
    CHECK(got.bytes.size() < much);
    CHECK(got.end == test::stream_end::reset);
}

namespace
{
asio::awaitable<void> send_then_close(connection& conn, big_writer& state)
{
    codec::framed lines(conn, codec::line{});
    lines.try_send("all of it");
    conn.close();
    co_await state.gate.wait(); // the handler goes on; the peer has its FIN
}
} // namespace

TEST_CASE("what the kernel took at once is followed by FIN when the handler closes", "[close][cut]")
{
    big_writer state;
    test::running_server running(test::scripted{send_then_close, &state});
    running.start();
    test::client client(running.port());
    const auto got = client.receive_rest();
    CHECK(got.bytes == "all of it\n");
    CHECK(got.end == test::stream_end::finished);
    client.close();
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace test::cut_writes
{
/// A handler beside a write that its client does not take, and a turn of the loop that the test holds.
struct crossing
{
    std::string how;
    std::string bytes = std::string(much, 'b');
    std::atomic<int> socket = -1;
    test::gate begin;
    test::gate end;
    test::mailbox<bool> holds;
    std::promise<void> let_go;
};

inline bool takes_more(int socket)
{
    ::pollfd asked{.fd = socket, .events = POLLOUT, .revents = 0};
    return ::poll(&asked, 1, 0) == 1 && (asked.revents & POLLOUT) != 0;
}

inline bool is_full(const crossing& state)
{
    return state.socket != -1 && !takes_more(state.socket);
}

inline asio::awaitable<void> write_beside(connection& conn, crossing& state)
{
    std::error_code error;
    if (state.how == "queued messages") {
        codec::framed lines(conn, codec::line{state.bytes.size()});
        co_await lines.write(state.bytes, error);
    } else if (state.how == "some by some") {
        for (std::size_t done = 0; done != state.bytes.size() && !error;) {
            done += co_await conn.write_some(asio::buffer(state.bytes) + done, error);
        }
    } else {
        co_await conn.write(asio::buffer(state.bytes), error);
    }
}

inline asio::awaitable<void> hold_the_loop(connection& conn, crossing& state)
{
    if (state.how == "return beside a detached write") {
        asio::co_spawn(conn.get_executor(), write_beside(conn, state), asio::detached);
    } else {
        conn.spawn(write_beside(conn, state));
    }
    co_await state.begin.wait();
    state.holds.put(true);
    state.let_go.get_future().wait();
    if (state.how != "return beside a detached write") {
        co_await state.end.wait();
    }
}
} // namespace test::cut_writes

using namespace test::cut_writes;

TEST_CASE("a write is cut even if the peer has just made room for more of it", "[close][cut]")
{
    const auto protocol = test::either();
    crossing state;
    state.how = GENERATE(
        as<std::string>{}, "close of the server", "end of a drain", "queued messages",
        "some by some", "return beside a detached write");
    CAPTURE(test::name_of(protocol), state.how);
    test::running_server running(
        test::scripted{hold_the_loop, &state}, test::local_config(protocol));
    running.server.on_socket(
        [&](asio::ip::tcp::socket& accepted) { state.socket = accepted.native_handle(); });
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    REQUIRE(test::eventually([&] { return is_full(state); }));
    state.begin.open();
    REQUIRE(state.holds.take());
    std::size_t early = 0;
    while (!takes_more(state.socket)) {
        early += client.receive(1000).size();
    }
    std::future<drain_report> drained;
    if (state.how == "end of a drain") {
        drained = running.shutdown(0ms);
    } else if (state.how != "return beside a detached write") {
        running.server.close();
    }
    state.let_go.set_value();
    const auto got = client.receive_rest();
    CHECK(early + got.bytes.size() < much);
    CHECK(got.end == test::stream_end::reset);
    state.end.open();
    if (drained.valid()) {
        test::report_of(drained);
    }
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace test::cut_writes
{
inline asio::awaitable<void> half_close_beside(connection& conn, crossing& state)
{
    conn.spawn(write_beside(conn, state));
    co_await state.begin.wait();
    co_await conn.shutdown_send();
    state.holds.put(true);
    co_await state.end.wait();
}
} // namespace test::cut_writes

TEST_CASE("shutdown_send() waits for the write that is pending", "[close][cut]")
{
    const auto protocol = test::either();
    crossing state;
    CAPTURE(test::name_of(protocol));
    test::running_server running(
        test::scripted{half_close_beside, &state}, test::local_config(protocol));
    running.server.on_socket(
        [&](asio::ip::tcp::socket& accepted) { state.socket = accepted.native_handle(); });
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    REQUIRE(test::eventually([&] { return is_full(state); }));
    state.begin.open();
    test::let_handlers_go_on(running.server, running.log);
    CHECK(state.holds.size() == 0);
    CHECK(running.log.count(connection_event_kind::close_write) == 0);
    CHECK(client.receive(much).size() == much);
    CHECK(state.holds.take());
    CHECK(running.log.wait_for(connection_event_kind::close_write));
    state.end.open();
    CHECK(client.receive_rest().end == test::stream_end::finished);
}
