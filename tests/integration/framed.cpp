#include "support/catch.hpp"
#include "support/peer.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <malloc.h>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

// Messages over a connection: a codec's frames in, frames out.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::framed;
using fairlead::framed_options;
using fairlead::codec::length_prefix;
using fairlead::codec::line;
using fairlead::codec::text_of;
using test::either;
using test::peer;
using test::speaks;

namespace test::framed_messages
{
/// How a handler saw its messages end.
struct outcome
{
    std::size_t frames = 0;
    std::error_code error;
};

struct room
{
    mailbox<outcome> ends;
    mailbox<std::string> texts;
    gate hold;
    framed_options options;
    std::size_t count = 0;
    std::size_t size = 0;
};

fairlead::server_config counting(speaks protocol)
{
    auto config = local_config(protocol);
    config.io_events = true;
    return config;
}

std::string numbered(std::size_t count)
{
    std::string lines;
    for (std::size_t i = 0; i < count; ++i) {
        lines += "line " + std::to_string(i) + "\n";
    }
    return lines;
}

/// A frame as `length_prefix{}` has it.
std::string prefixed(const std::string& payload)
{
    std::string frame;
    for (int shift = 24; shift >= 0; shift -= 8) {
        frame += static_cast<char>(payload.size() >> shift & 0xff);
    }
    return frame + payload;
}

asio::awaitable<void> echo_lines(connection& conn, room& room)
{
    framed lines(conn, line{}, room.options);
    outcome seen;
    for (auto text = co_await lines.next(seen.error); text;
         text = co_await lines.next(seen.error)) {
        ++seen.frames;
        co_await lines.send(*text);
    }
    room.ends.put(seen);
}

asio::awaitable<void> echo_prefixed(connection& conn, room& room)
{
    framed frames(conn, length_prefix{.max_frame = 4 << 20}, room.options);
    outcome seen;
    for (auto frame = co_await frames.next(seen.error); frame;
         frame = co_await frames.next(seen.error)) {
        ++seen.frames;
        co_await frames.send(*frame);
    }
    room.ends.put(seen);
}
} // namespace test::framed_messages

using namespace test::framed_messages;

TEST_CASE("requests that came together are answered together", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{echo_lines, &room}, counting(protocol));
    running.start();
    peer peer(running.port(), protocol);
    const auto lines = numbered(100);
    peer.send(lines);
    CHECK(peer.receive(lines.size()) == lines);
    peer.finish();
    CHECK(room.ends.take().frames == 100);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    // Two of each when the kernel had delivered half of it at first; a hundred without gathering.
    CHECK(running.log.count(connection_event_kind::read) <= 3);
    CHECK(running.log.count(connection_event_kind::write) <= 3);
}

TEST_CASE("a reply does not wait for a later request to be answered", "[framed][network]")
{
    room room;
    const auto script = [](connection& conn,
                           test::framed_messages::room& shared) -> asio::awaitable<void> {
        framed lines(conn, line{});
        const auto first = co_await lines.next();
        co_await lines.send(*first);
        const auto second = co_await lines.next(); // it came with the first
        const std::string kept(text_of(*second));
        co_await shared.hold.wait();
        co_await lines.send(kept);
    };
    test::running_server running(test::scripted<test::framed_messages::room>{script, &room});
    running.start();
    test::client client(running.port());
    client.send("one\ntwo\n");
    CHECK(client.receive(4) == "one\n");
    room.hold.open();
    CHECK(client.receive_rest().bytes == "two\n");
}

TEST_CASE("frames of every size come back as they were", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const std::size_t size = GENERATE(
        values<std::size_t>({0, 1, 76, 77, 4096, 16'380, 16'384, 65'535, 65'536, 1'000'000}));
    CAPTURE(size);
    room room;
    test::running_server running(test::scripted{echo_prefixed, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    std::string payload(size, '\0');
    for (std::size_t i = 0; i < size; ++i) {
        payload[i] = static_cast<char>('a' + i * 7 % 26);
    }
    for (const auto& frame : {prefixed(payload), prefixed("between"), prefixed(payload)}) {
        peer.send(frame); // whole, before the first byte of it comes back
        REQUIRE((peer.receive(frame.size()) == frame));
    }
    peer.finish();
    const auto end = room.ends.take();
    CHECK(end.frames == 3);
    CHECK(!end.error);
}

TEST_CASE("an end inside a frame is an error, and between frames it is none", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{echo_prefixed, &room}, local_config(protocol));
    running.start();
    const auto sent = prefixed("whole") + prefixed("cut off").substr(0, GENERATE(0U, 1U, 4U, 10U));
    CAPTURE(sent.size());
    peer peer(running.port(), protocol);
    peer.send(sent);
    peer.finish();
    const auto end = room.ends.take();
    CHECK(end.frames == 1);
    CHECK(
        end.error ==
        (sent.size() == 9 ? std::error_code() : make_error_code(errc::truncated_frame)));
    CHECK(peer.receive_rest().bytes == prefixed("whole"));
}

TEST_CASE("a reset is not the end of the messages, whoever is told of it first", "[framed]")
{
    const auto script = [](connection& conn,
                           test::framed_messages::room& room) -> asio::awaitable<void> {
        framed lines(conn, line{});
        outcome seen;
        co_await lines.next();
        room.texts.put("taken");
        co_await room.hold.wait();
        co_await lines.send("too late"); // the kernel tells this write
        co_await lines.next(seen.error);
        room.ends.put(seen);
    };
    room room;
    test::running_server running(
        test::scripted<test::framed_messages::room>{script, &room}, local_config(speaks::plain));
    running.start();
    peer client(running.port(), speaks::plain);
    client.send("one\n");
    REQUIRE(room.texts.take() == "taken");
    client.reset();
    room.hold.open();
    CHECK(room.ends.take().error == asio::error::connection_reset);
}

TEST_CASE(
    "a frame above the limit ends the messages, and what came before is answered",
    "[framed][network]")
{
    room room;
    test::running_server running(test::scripted{echo_lines, &room});
    running.start();
    test::client client(running.port());
    client.send("fine\n" + std::string((64 << 10) + 1, 'x'));
    CHECK(client.receive(5) == "fine\n");
    const auto end = room.ends.take();
    CHECK(end.frames == 1);
    CHECK(end.error == errc::frame_too_large);
    client.finish();
    CHECK(client.receive_rest().bytes.empty());
}

TEST_CASE("an announced frame costs no memory before it comes", "[framed][network]")
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP_TEST("the sanitizer counts for itself");
#else
    room room;
    test::running_server running(test::scripted{echo_prefixed, &room});
    running.start();
    std::vector<test::client> clients;
    const auto measured = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
    const auto before = measured();
    constexpr std::size_t count = 50;
    for (std::size_t i = 0; i < count; ++i) {
        clients.emplace_back(running.port());
        clients.back().send(prefixed(std::string(1 << 20, 'x')).substr(0, 100));
    }
    REQUIRE(running.log.wait_for(connection_event_kind::opened, count));
    while (running.server.stats().bytes_read < count * 100) {
        std::this_thread::yield();
    }
    CHECK((measured() - before) / count < 32 << 10);
#endif
}

TEST_CASE("a connection that waits for its next frame holds no buffer", "[framed][network]")
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP_TEST("the sanitizer counts for itself");
#else
    room room;
    test::running_server running(test::scripted{echo_lines, &room});
    running.start();
    std::vector<test::client> clients;
    const auto greet = [&](test::client& client) {
        client.send("hello\n");
        REQUIRE(client.receive(6) == "hello\n");
    };
    for (int i = 0; i < 20; ++i) { // what is allocated once
        clients.emplace_back(running.port());
        greet(clients.back());
    }
    const auto before = mallinfo2().uordblks;
    constexpr std::size_t count = 300;
    for (std::size_t i = 0; i < count; ++i) {
        clients.emplace_back(running.port());
        greet(clients.back());
    }
    CHECK((mallinfo2().uordblks - before) / count < 4 << 10); // a read takes 16 KiB
#endif
}

namespace test::framed_messages
{
asio::awaitable<void> flood(connection& conn, room& room)
{
    framed lines(conn, line{});
    const std::string payload(room.size, 'x');
    outcome seen;
    std::size_t most = 0;
    while (!seen.error) {
        co_await lines.send(payload, seen.error);
        ++seen.frames;
        most = std::max(most, lines.queued());
    }
    room.texts.put(std::to_string(most));
    room.ends.put(seen);
}
} // namespace test::framed_messages

TEST_CASE(
    "a peer that does not read stops its sender, and the write timeout ends it",
    "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    room.size = GENERATE(values<std::size_t>({1000, 50'000, 65'000}));
    CAPTURE(room.size);
    auto config = local_config(protocol);
    config.write_timeout = 300ms;
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted{flood, &room}, config);
    running.start();
    peer peer(running.port(), protocol);
    const auto most = std::stoul(room.texts.take());
    CHECK(most <= (256 << 10) + room.size + 1);
    CHECK(most > 64 << 10);
    CHECK(room.ends.take().error == errc::write_timeout);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::write_timeout);
}

namespace test::framed_messages
{
asio::awaitable<void> push(framed<length_prefix>& frames, char mark, std::size_t count, room& room)
{
    for (std::size_t i = 0; i < count; ++i) {
        const std::string payload(1 + i * 977 % 100'000, mark); // some are written in place
        co_await frames.send(payload);
    }
    room.texts.put(std::string(1, mark));
}

asio::awaitable<void> push_three(connection& conn, room& room)
{
    framed frames(conn, length_prefix{});
    for (const char mark : {'a', 'b'}) {
        asio::co_spawn(conn.get_executor(), push(frames, mark, 200, room), asio::detached);
    }
    co_await push(frames, 'c', 200, room);
    co_await frames.next(); // until the peer has seen everything
}
} // namespace test::framed_messages

TEST_CASE("frames of several coroutines never interleave", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{push_three, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    std::array<std::size_t, 3> counts{};
    for (int i = 0; i < 600; ++i) {
        const auto header = peer.receive(4);
        std::size_t size = 0;
        for (const char byte : header) {
            size = size << 8 | static_cast<unsigned char>(byte);
        }
        const auto payload = peer.receive(size);
        const char mark = payload.at(0);
        REQUIRE(payload.find_first_not_of(mark) == std::string::npos);
        auto& count = counts.at(static_cast<std::size_t>(mark - 'a'));
        REQUIRE(size == 1 + count * 977 % 100'000); // each in its own order
        ++count;
    }
    for (int i = 0; i < 3; ++i) {
        room.texts.take(); // nobody sends any more
    }
    peer.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.errors().empty());
}

namespace test::framed_messages
{
asio::awaitable<void> send_and_leave(connection& conn, room& room)
{
    framed lines(conn, line{}, {.high_watermark = 8 << 20, .low_watermark = 0});
    for (std::size_t i = 0; i < room.count; ++i) {
        co_await lines.send(std::string(1000, 'x'));
    }
    if (room.size != 0) {
        throw std::runtime_error("no more");
    }
}
} // namespace test::framed_messages

TEST_CASE("what was sent before the handler returned or threw is delivered", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    room.count = 4000; // more than the kernel takes at once
    room.size = GENERATE(0U, 1U);
    auto config = local_config(protocol);
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted{send_and_leave, &room}, config);
    running.start();
    peer peer(running.port(), protocol);
    const auto rest = peer.receive_rest();
    CHECK(rest.bytes.size() == room.count * 1001);
    CHECK(rest.end == test::stream_end::finished);
    peer.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(
        running.log.closed().front().reason ==
        (room.size == 0 ? close_reason::handler_returned : close_reason::handler_failed));
    CHECK(running.log.closed().front().bytes_written == room.count * 1001);
}

namespace test::framed_messages
{
asio::awaitable<void> half_close_after(connection& conn, room& room)
{
    framed lines(conn, line{}, {.high_watermark = 8 << 20});
    for (std::size_t i = 0; i < room.count; ++i) {
        co_await lines.send(std::string(1000, 'x'));
    }
    co_await conn.shutdown_send();
    const auto answer = co_await lines.next();
    room.texts.put(answer ? std::string(text_of(*answer)) : "nothing");
}
} // namespace test::framed_messages

TEST_CASE("a half-close goes behind the messages that are queued", "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    room.count = 4000;
    auto config = local_config(protocol);
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted{half_close_after, &room}, config);
    running.start();
    peer peer(running.port(), protocol);
    std::string received;
    CHECK(peer.receive(room.count * 1001).size() == room.count * 1001);
    peer.send("got it\n");
    CHECK(room.texts.take() == "got it");
    CHECK(peer.receive_rest().bytes.empty());
}

TEST_CASE("send_all writes the frames of a range together", "[framed][network]")
{
    const auto script = [](connection& conn, room&) -> asio::awaitable<void> {
        framed lines(conn, line{});
        const std::vector<std::string> texts{"one", "two", "three"};
        co_await lines.send_all(texts);
        co_await lines.flush();
        co_await lines.next();
    };
    room room;
    test::running_server running(
        test::scripted<test::framed_messages::room>{script, &room}, counting(speaks::plain));
    running.start();
    test::client client(running.port());
    CHECK(client.receive(14) == "one\ntwo\nthree\n");
    client.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.count(connection_event_kind::write) == 1);
}

TEST_CASE("a payload without a frame is refused, and the connection goes on", "[framed][network]")
{
    const auto script = [](connection& conn, room& shared) -> asio::awaitable<void> {
        framed lines(conn, line{});
        std::error_code error;
        co_await lines.send("two\nlines", error);
        shared.ends.put({0, error});
        co_await lines.send(std::string((64 << 10) + 1, 'x'), error);
        shared.ends.put({0, error});
        co_await lines.send("fine", error);
        shared.ends.put({1, error});
    };
    room room;
    test::running_server running(test::scripted<test::framed_messages::room>{script, &room});
    running.start();
    test::client client(running.port());
    CHECK(room.ends.take().error == errc::malformed_frame);
    CHECK(room.ends.take().error == errc::frame_too_large);
    CHECK(!room.ends.take().error);
    CHECK(client.receive_rest().bytes == "fine\n");
}

TEST_CASE("try_send never waits, and refuses above the high watermark", "[framed][network]")
{
    const auto script = [](connection& conn, room& shared) -> asio::awaitable<void> {
        framed lines(conn, line{});
        const std::string payload(10'000, 'x');
        std::size_t count = 0;
        while (lines.try_send(payload)) {
            ++count;
        }
        shared.texts.put(std::to_string(lines.queued()));
        shared.texts.put(std::to_string(count));
        co_await lines.flush(); // the peer reads
        shared.texts.put(lines.try_send("again") ? "sent" : "refused");
        co_await lines.next();
    };
    room room;
    auto config = test::local_config();
    config.socket.send_buffer = 64 << 10;
    test::running_server running(
        test::scripted<test::framed_messages::room>{script, &room}, config);
    running.start();
    test::client client(running.port());
    const auto queued = std::stoul(room.texts.take());
    CHECK(queued > 256 << 10);
    CHECK(queued <= (256 << 10) + 10'001);
    client.receive(std::stoul(room.texts.take()) * 10'001);
    CHECK(room.texts.take() == "sent");
    client.finish();
    const auto rest = client.receive_rest().bytes;
    CHECK(rest.substr(rest.size() - 6) == "again\n");
}

TEST_CASE("a drain ends the wait for a frame of which nothing has come", "[framed][drain][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{echo_lines, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    peer.send("hello\n");
    CHECK(peer.receive(6) == "hello\n");
    auto report = running.shutdown(10s);
    CHECK(!room.ends.take().error);
    CHECK(peer.receive_rest().bytes.empty());
    const auto drained = report.get();
    CHECK(drained.stragglers.empty());
    CHECK(drained.drained + drained.closed_idle == 1);
}

TEST_CASE(
    "a frame that has begun when the drain does is finished and answered",
    "[framed][drain][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{echo_lines, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    peer.send("begun and");
    while (running.server.stats().bytes_read < 9) {
        std::this_thread::yield();
    }
    auto report = running.shutdown(10s);
    REQUIRE(running.log.wait_for(fairlead::server_event_kind::draining));
    peer.send(" done\n");
    CHECK(peer.receive_rest().bytes == "begun and done\n");
    CHECK(room.ends.take().frames == 1);
    CHECK(report.get().stragglers.empty());
}

TEST_CASE(
    "a session that only its peer may end goes on through the drain", "[framed][drain][network]")
{
    room room;
    room.options.ends_in_drain = false;
    test::running_server running(test::scripted{echo_lines, &room});
    running.start();
    test::client client(running.port());
    client.send("before\n");
    CHECK(client.receive(7) == "before\n");
    auto report = running.shutdown(10s);
    REQUIRE(running.log.wait_for(fairlead::server_event_kind::draining));
    client.send("during\n");
    CHECK(client.receive(7) == "during\n");
    client.send("and again\n");
    CHECK(client.receive(10) == "and again\n");
    client.finish();
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(room.ends.take().frames == 3);
    CHECK(report.get().stragglers.empty());
}

TEST_CASE(
    "a frame once begun must be complete in time, and silence between frames is legal",
    "[framed][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    room.options.frame_timeout = 300ms;
    test::running_server running(test::scripted{echo_lines, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    peer.send("one\n");
    CHECK(peer.receive(4) == "one\n");
    std::this_thread::sleep_for(700ms); // the silence that is measured
    peer.send("two\n");
    CHECK(peer.receive(4) == "two\n");
    peer.send("three");
    const auto end = room.ends.take();
    CHECK(end.frames == 2);
    CHECK(end.error == errc::deadline_exceeded);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::deadline_exceeded);
}

TEST_CASE("a frame that trickles in is not forgiven for its trickling", "[framed][network]")
{
    room room;
    room.options.frame_timeout = 300ms;
    test::running_server running(test::scripted{echo_lines, &room});
    running.start();
    test::client client(running.port());
    for (int i = 0; i < 200 && room.ends.size() == 0; ++i) {
        client.try_send("x");
        std::this_thread::sleep_for(20ms);
    }
    CHECK(room.ends.take().error == errc::deadline_exceeded);
}

TEST_CASE("another codec goes on where the first has stopped", "[framed][network]")
{
    const auto script = [](connection& conn, room& shared) -> asio::awaitable<void> {
        framed lines(conn, line{});
        const auto command = co_await lines.next();
        co_await lines.send(*command);
        framed frames(lines, length_prefix{});
        for (auto frame = co_await frames.next(); frame; frame = co_await frames.next()) {
            shared.texts.put(std::string(text_of(*frame)));
            co_await frames.send(*frame);
        }
    };
    room room;
    test::running_server running(test::scripted<test::framed_messages::room>{script, &room});
    running.start();
    test::client client(running.port());
    client.send("upgrade\n" + prefixed("first") + prefixed("second").substr(0, 5));
    CHECK(room.texts.take() == "first");
    client.send(prefixed("second").substr(5));
    CHECK(room.texts.take() == "second");
    client.finish();
    CHECK(client.receive_rest().bytes == "upgrade\n" + prefixed("first") + prefixed("second"));
}

TEST_CASE("a codec's wrong options are told when it is put to use", "[framed][network]")
{
    const auto script = [](connection& conn, room& shared) -> asio::awaitable<void> {
        try {
            framed frames(conn, length_prefix{.length_bytes = 5});
        } catch (const std::system_error& error) {
            shared.ends.put({0, error.code()});
        }
        try {
            framed lines(conn, line{}, {.high_watermark = 1, .low_watermark = 2});
        } catch (const std::system_error& error) {
            shared.ends.put({0, error.code()});
        }
        co_return;
    };
    room room;
    test::running_server running(test::scripted<test::framed_messages::room>{script, &room});
    running.start();
    const test::client client(running.port());
    CHECK(room.ends.take().error == errc::invalid_config);
    CHECK(room.ends.take().error == errc::invalid_config);
}

TEST_CASE(
    "messages that are queued when the server closes are dropped with it", "[framed][network]")
{
    room room;
    room.count = 4000;
    auto config = test::local_config();
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted{send_and_leave, &room}, config);
    running.start();
    const test::client client(running.port(), "127.0.0.1", 4096); // does not read
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    running.server.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::server_closed);
    CHECK(test::wait_until_idle(running.server));
}

TEST_CASE("a context that dies with messages queued frees everything", "[framed]")
{
    // LeakSanitizer looks.
    room room;
    room.size = 10'000;
    asio::io_context context(1);
    fairlead::tcp_server server(context, test::scripted{flood, &room}, test::local_config());
    server.start();
    const test::client client(server.local_endpoint().port(), "127.0.0.1", 4096);
    while (server.stats().bytes_written == 0) {
        context.run_one();
    }
    for (int i = 0; i < 20; ++i) {
        context.poll();
    }
    CHECK(server.open_connections() == 1);
}
