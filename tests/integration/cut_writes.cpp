// A write that the server cuts short ends in a reset: the peer must not take what it got for the
// whole.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>

#include <array>
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
