// What was sent before a connection ends: delivered when its handler closed it, never a part that looks whole.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::stopped_output
{
struct account
{
    int messages = 0;
    test::gate gate;
    test::mailbox<std::error_code> ends;
    asio::cancellation_signal signal;
};

inline void note(account& state, const std::exception_ptr& failure)
{
    try {
        if (failure) {
            std::rethrow_exception(failure);
        }
        state.ends.put({});
    } catch (const std::system_error& error) {
        state.ends.put(error.code());
    }
}

inline asio::awaitable<void> answer_and_close(connection& conn, account& state)
{
    framed lines(conn, codec::line{});
    co_await lines.next();
    for (int i = 0; i < state.messages; ++i) {
        co_await lines.send("reply");
    }
    conn.close("done");
    co_await state.gate.wait();
}
} // namespace test::stopped_output

using namespace test::stopped_output;

TEST_CASE(
    "messages that were sent before close() are delivered, and an orderly end follows",
    "[close][output][network]")
{
    const auto protocol = test::either();
    const auto linger = GENERATE(0ms, 3000ms);
    account state;
    state.messages = GENERATE(1, 2, 5);
    CAPTURE(test::name_of(protocol), linger.count(), state.messages);
    auto config = test::local_config(protocol);
    config.linger = linger;
    config.tls_close_timeout = linger;
    state.gate.open();
    test::running_server running(test::scripted{answer_and_close, &state}, config);
    running.start();
    for (int round = 0; round < 5; ++round) {
        test::peer client(running.port(), protocol);
        client.send("hello\n");
        const auto got = client.receive_rest();
        CHECK(got.bytes.size() == static_cast<std::size_t>(6 * state.messages));
        CHECK(got.end == test::stream_end::finished);
    }
}

namespace
{
asio::awaitable<void> fails_soon(account& state)
{
    co_await state.gate.wait();
    throw std::runtime_error("the child");
}

asio::awaitable<void> sends_without_a_pause(connection& conn, account& state)
{
    conn.spawn(fails_soon(state));
    framed lines(conn, codec::line{});
    const std::string message(8000, 'y');
    std::error_code error;
    while (!error) {
        co_await lines.send(message, error);
    }
    state.ends.put(error);
}
} // namespace

TEST_CASE(
    "a child's exception ends the connection while the handler sends without a pause",
    "[children][output][network]")
{
    const auto protocol = test::either();
    account state;
    test::running_server running(
        test::scripted{sends_without_a_pause, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(client.receive(8001).size() == 8001);
    std::thread reader([&] { client.receive_rest(); });
    state.gate.open();
    CHECK(state.ends.take() == errc::connection_closed);
    reader.join();
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_failed);
}

namespace
{
asio::awaitable<void> write_until_cancelled(connection& conn, account& state)
{
    const std::string much(64 << 20, 'm');
    co_await conn.write(asio::buffer(much));
    state.ends.put({});
}

asio::awaitable<void> cancels_its_write(connection& conn, account& state)
{
    asio::co_spawn(
        conn.get_executor(), write_until_cancelled(conn, state),
        asio::bind_cancellation_slot(
            state.signal.slot(),
            [&state](const std::exception_ptr& failure) { note(state, failure); }));
    co_await state.gate.wait();
    state.signal.emit(asio::cancellation_type::terminal);
    co_await asio::post(conn.get_executor(), asio::use_awaitable);
    co_await asio::post(conn.get_executor(), asio::use_awaitable);
}
} // namespace

TEST_CASE("a write that its handler cancels in the middle is no orderly end", "[cancel][output]")
{
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    account state;
    test::running_server running(
        test::scripted{cancels_its_write, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(client.receive(100).size() == 100);
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    CHECK(state.ends.take() == asio::error::operation_aborted);
    const auto got = client.receive_rest();
    CHECK(got.bytes.size() < std::size_t(64) << 20);
    CHECK(got.end == test::stream_end::reset);
}

TEST_CASE("a write is cancelled between two of its parts as well", "[cancel][output]")
{
    const auto protocol = test::either();
    account state;
    test::running_server running(
        test::scripted{cancels_its_write, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    bool reads = true;
    std::thread reader([&] { // takes everything, so that the write is hardly ever waiting
        const auto got = client.receive_rest();
        reads = got.bytes.size() < std::size_t(64) << 20;
    });
    REQUIRE(test::eventually([&] { return running.server.stats().bytes_written > 1 << 20; }));
    state.gate.open();
    const auto end = state.ends.take();
    reader.join();
    CHECK((end == asio::error::operation_aborted) == reads); // or it was done before
}

namespace
{
asio::awaitable<void> send_big(std::shared_ptr<framed<codec::length_prefix>> frames)
{
    const auto payload = std::make_unique<std::string>(6 << 20, 'p');
    co_await frames->send(std::string_view(*payload));
}

asio::awaitable<void> cancels_a_big_message(connection& conn, account& state)
{
    const auto frames = std::make_shared<framed<codec::length_prefix>>(
        conn, codec::length_prefix{.max_frame = 16 << 20});
    asio::co_spawn(
        conn.get_executor(), send_big(frames),
        asio::bind_cancellation_slot(
            state.signal.slot(),
            [&state](const std::exception_ptr& failure) { note(state, failure); }));
    co_await state.gate.wait();
    state.signal.emit(asio::cancellation_type::terminal);
    co_await conn.closed();
}
} // namespace

TEST_CASE(
    "a payload that is written from where it is outlives a cancellation of its sender",
    "[cancel][framed][network]")
{
    const auto protocol = test::either();
    account state;
    test::running_server running(
        test::scripted{cancels_a_big_message, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    CHECK(client.receive(4).size() == 4);
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    state.gate.open();
    running.on_shard([] {});
    const auto payload = client.receive(6 << 20); // whole: AddressSanitizer saw to it
    CHECK(payload.find_first_not_of('p') == std::string::npos);
    state.ends.take();
    client.tcp().close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
asio::awaitable<void> write_directly(connection& conn, test::gate& gate)
{
    const std::string line = "direct\n";
    co_await conn.write(asio::buffer(line));
    co_await gate.wait();
}

asio::awaitable<void> sends_beside_a_write(connection& conn, account& state)
{
    framed lines(conn, codec::line{});
    conn.spawn(write_directly(conn, state.gate));
    co_await asio::post(conn.get_executor(), asio::use_awaitable); // its write is pending
    std::error_code error;
    co_await lines.send("first", error);
    state.ends.put(error);
    co_await lines.send("second", error);
    state.ends.put(error);
    state.gate.open();
}
} // namespace

TEST_CASE("messages that are sent beside a direct write follow it", "[framed][output][network]")
{
    const auto protocol = test::either();
    account state;
    test::running_server running(
        test::scripted{sends_beside_a_write, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    const auto got = client.receive_rest();
    CHECK(got.bytes == "direct\nfirst\nsecond\n");
    CHECK(got.end == test::stream_end::finished);
    CHECK_FALSE(state.ends.take());
    CHECK_FALSE(state.ends.take());
}

namespace
{
enum class way
{
    queued,
    in_place,
    flush,
    shutdown,
};

struct cancelled_send : account
{
    way how = way::queued;
    std::size_t sent = 0;    // lines of 10
    bool is_refused = false; // the last
};

asio::awaitable<void> send_without_an_end(
    connection& conn, framed<codec::line>& lines, cancelled_send& state)
{
    const std::string small = "012345678";
    if (state.how == way::in_place) {
        std::string large(8 << 20, '0'); // gone when the cancellation is told
        for (std::size_t i = 9; i < large.size(); i += 10) {
            large[i] = '\n';
        }
        large.resize(large.size() / 10 * 10);
        state.sent += large.size() / 10;
        co_await lines.write(large);
    }
    while (state.how == way::queued) {
        ++state.sent;
        co_await lines.send(small);
    }
    while (lines.try_send(small)) {
        ++state.sent;
    }
    if (state.how == way::shutdown) {
        co_await conn.shutdown_send();
    }
    co_await lines.flush();
}

asio::awaitable<void> cancels_its_send(connection& conn, cancelled_send& state)
{
    framed lines(conn, codec::line{});
    asio::co_spawn(
        conn.get_executor(), send_without_an_end(conn, lines, state),
        asio::bind_cancellation_slot(
            state.signal.slot(),
            [&state](const std::exception_ptr& failure) { note(state, failure); }));
    co_await state.gate.wait();
    state.signal.emit(asio::cancellation_type::terminal);
    while (state.ends.size() == 0) {
        co_await asio::post(conn.get_executor(), asio::use_awaitable);
    }
    std::error_code error;
    co_await lines.send("the  last", error);
    state.sent += error ? 0 : 1;
    state.is_refused = error == asio::error::broken_pipe;
}
} // namespace

TEST_CASE(
    "whoever waits for what was sent may be cancelled, and the frames stay whole",
    "[cancel][framed]")
{
    const auto protocol = test::either();
    cancelled_send state;
    state.how = GENERATE(way::queued, way::in_place, way::flush, way::shutdown);
    CAPTURE(test::name_of(protocol), static_cast<int>(state.how));
    auto config = test::local_config(protocol);
    config.write_timeout = 0ms; // there is no other end
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted{cancels_its_send, &state}, config);
    running.start();
    test::peer client(running.port(), protocol);
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    REQUIRE(test::eventually([&] { // nothing moves any more
        const auto before = running.server.stats().bytes_written;
        std::this_thread::sleep_for(20ms);
        return before != 0 && running.server.stats().bytes_written == before;
    }));
    state.gate.open();
    REQUIRE(test::eventually([&] { return state.ends.size() == 1; }));
    const auto got = client.receive_rest();
    CHECK(got.end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(got.bytes.size() == state.sent * 10);
    const bool has_ended = state.how == way::shutdown; // it was asked for, whoever waits for it
    CHECK(state.is_refused == has_ended);
    CHECK(
        got.bytes.substr(got.bytes.size() - 11) == (has_ended ? "\n012345678\n" : "\nthe  last\n"));
}

TEST_CASE(
    "senders that wait beside a direct write go with their context", "[framed][output][context]")
{
    auto context = std::make_unique<asio::io_context>(1);
    const auto trace = std::make_shared<int>(0);
    {
        const auto handler = [trace](connection& conn) -> asio::awaitable<void> {
            const auto held = trace;
            const std::string much(32 << 20, 'm');
            framed lines(conn, codec::line{});
            conn.spawn([](connection& own, const std::string& all) -> asio::awaitable<void> {
                co_await own.write(asio::buffer(all));
            }(conn, much));
            const std::string text(1000, 'y');
            for (;;) {
                co_await lines.send(text);
                ++*held;
            }
        };
        tcp_server server(*context, handler, test::local_config());
        server.start();
        const test::client client(server.local_endpoint().port());
        REQUIRE(test::eventually([&] {
            context->poll();
            return *trace > 200;
        }));
        while (context->poll() != 0) {
        }
    }
    CHECK(trace.use_count() > 1);
    context.reset();
    CHECK(trace.use_count() == 1);
}

namespace
{
asio::awaitable<void> write_before_the_end(connection& conn, const std::string& much)
{
    std::error_code ignored;
    co_await conn.write(asio::buffer(much), ignored);
}

asio::awaitable<void> cancels_its_shutdown(connection& conn, account& state)
{
    const std::string much(32 << 20, 'm');
    conn.spawn(write_before_the_end(conn, much)); // the end waits behind it
    asio::co_spawn(
        conn.get_executor(), conn.shutdown_send(),
        asio::bind_cancellation_slot(
            state.signal.slot(),
            [&state](const std::exception_ptr& failure) { note(state, failure); }));
    co_await asio::post(conn.get_executor(), asio::use_awaitable);
    state.signal.emit(asio::cancellation_type::terminal);
    co_await state.gate.wait();
}
} // namespace

TEST_CASE("a half-close that waits for room can be cancelled", "[cancel][shutdown_send][network]")
{
    account state;
    test::running_server running(
        test::scripted{cancels_its_shutdown, &state}, test::local_config(test::speaks::tls));
    running.start();
    const test::peer client(running.port(), test::speaks::tls);
    CHECK(state.ends.take() == asio::error::operation_aborted);
    running.server.close();
    state.gate.open();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
struct upgrade
{
    tls_context context;
    account room;
};

asio::awaitable<void> cancels_a_handshake(connection& conn, upgrade& state)
{
    std::error_code error;
    bool has_thrown = false;
    asio::co_spawn(
        conn.get_executor(), conn.start_tls(state.context, error),
        asio::bind_cancellation_slot(
            state.room.signal.slot(),
            [&has_thrown](const std::exception_ptr& failure) { has_thrown = failure != nullptr; }));
    co_await asio::post(conn.get_executor(), asio::use_awaitable);
    char byte = 0;
    std::error_code refusal;
    co_await conn.read_some(asio::buffer(&byte, 1), refusal);
    state.room.ends.put(refusal); // the handshake has the connection
    state.room.signal.emit(asio::cancellation_type::terminal);
    for (int turn = 0; turn < 10; ++turn) {
        co_await asio::post(conn.get_executor(), asio::use_awaitable);
    }
    state.room.ends.put(has_thrown ? std::error_code(asio::error::operation_aborted) : error);
    co_await conn.read_some(asio::buffer(&byte, 1), refusal);
    state.room.ends.put(refusal);
}
} // namespace

TEST_CASE(
    "a handshake that is cancelled is no success, and the end of the connection",
    "[cancel][start_tls][network]")
{
    upgrade state{.context = tls_context(*test::local_config(test::speaks::tls).tls), .room = {}};
    test::running_server running(test::scripted{cancels_a_handshake, &state});
    running.start();
    const test::client client(running.port());
    CHECK(state.room.ends.take() == std::errc::operation_in_progress);
    CHECK(state.room.ends.take() == asio::error::operation_aborted);
    CHECK(state.room.ends.take() == errc::connection_closed);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::tls_handshake_failed);
}
