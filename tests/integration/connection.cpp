// What a handler can do with its connection, on plain TCP and over TLS alike: reading, writing,
// waiting, half-closing, and what it is told about itself. As a stream of Asio's:
// connection_stream.cpp; being closed: connection_close.cpp.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/co_spawn.hpp>

#include <array>
#include <linux/sockios.h>
#include <numeric>
#include <string>
#include <sys/ioctl.h>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::either;
using test::speaks;

namespace
{
/// `size` bytes in which every position is recognisable.
std::string numbered(std::size_t size)
{
    std::string bytes(size, '\0');
    std::uint32_t state = 1;
    for (char& byte : bytes) {
        state = state * 1664525 + 1013904223;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

/// What one operation came to.
struct outcome
{
    std::string name;
    std::size_t bytes = 0;
    std::error_code error = {};
    std::string data = {};
};

struct room
{
    test::mailbox<outcome> outcomes;
    test::gate gate;
    std::size_t size = 0;
};

/// Waits until everything that `client` has sent lies in the server's kernel.
bool all_has_arrived(test::client& client)
{
    return test::eventually([&] {
        int unacknowledged = 0;
        return ::ioctl(client.fd(), SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0;
    });
}

// Each operation once with an error_code and once without, the first three bytes of it at least.
asio::awaitable<void> every_operation(connection& connection, room& room)
{
    std::string buffer(64, '\0');
    std::size_t bytes = 0;
    std::error_code error = asio::error::fault;
    const auto report = [&](const char* name, std::size_t count) {
        room.outcomes.put({name, count, error, buffer.substr(0, count)});
        error = asio::error::fault; // each operation must clear it
    };
    const bool ready = co_await connection.readable(error);
    report("readable", ready ? 0 : 99);
    bytes = co_await connection.read_some(asio::buffer(buffer), error);
    report("read_some", bytes);
    bytes = co_await connection.write_some(asio::buffer("ab", 2), error);
    report("write_some", bytes);
    bytes = co_await connection.write(asio::buffer("cd", 2), error);
    report("write", bytes);
    bytes = co_await connection.read(asio::buffer(buffer, 6), error);
    report("read", bytes);
    error.clear();
    const bool ready_again = co_await connection.readable();
    report("readable", ready_again ? 0 : 99);
    error.clear();
    bytes = co_await connection.read_some(asio::buffer(buffer));
    report("read_some", bytes);
    error.clear();
    bytes = co_await connection.write_some(asio::buffer("ef", 2));
    report("write_some", bytes);
    error.clear();
    bytes = co_await connection.write(asio::buffer("gh", 2));
    report("write", bytes);
    error.clear();
    bytes = co_await connection.read(asio::buffer(buffer, 6));
    report("read", bytes);
}
} // namespace

TEST_CASE(
    "each operation does what it says, with and without an error code", "[connection][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(
        test::scripted{every_operation, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    for (int round = 0; round < 2; ++round) {
        peer.send("one");
        const std::vector<std::string> names = {"readable", "read_some", "write_some", "write"};
        const std::vector<std::string> data = {"", "one"};
        for (std::size_t i = 0; i < names.size(); ++i) {
            const auto step = room.outcomes.take();
            CHECK(step.name == names[i]);
            CHECK_FALSE(step.error);
            CHECK(step.bytes == std::array<std::size_t, 4>{0, 3, 2, 2}.at(i));
            if (i < data.size()) {
                CHECK(step.data == data[i]);
            }
        }
        CHECK(peer.receive(4) == (round == 0 ? "abcd" : "efgh"));
        peer.send("tw");
        peer.send("o th");
        const auto step = room.outcomes.take();
        CHECK(step.name == "read");
        CHECK(step.data == "two th");
        CHECK_FALSE(step.error);
    }
    CHECK(peer.receive_rest().end == test::stream_end::finished);
}

namespace
{
asio::awaitable<void> read_after_the_end(connection& connection, room& room)
{
    std::string buffer(8, '\0');
    for (int i = 0; i < 3; ++i) {
        std::error_code error = asio::error::fault;
        const auto bytes = co_await connection.read_some(asio::buffer(buffer), error);
        room.outcomes.put({"read_some", bytes, error, buffer.substr(0, bytes)});
    }
    std::error_code error = asio::error::fault;
    const bool ready = co_await connection.readable(error);
    room.outcomes.put({"readable", ready ? 1U : 0U, error});
    error = asio::error::fault;
    const auto bytes = co_await connection.read(asio::buffer(buffer), error);
    room.outcomes.put({"read", bytes, error});
    error = asio::error::fault;
    co_await connection.async_read_some(
        asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    room.outcomes.put({"async_read_some", 0, error});
    co_await connection.write(asio::buffer("answer", 6));
}

asio::awaitable<void> read_four(connection& connection, room& room)
{
    std::string buffer(4, '\0');
    std::error_code error = asio::error::fault;
    const auto bytes = co_await connection.read(asio::buffer(buffer), error);
    room.outcomes.put({"read", bytes, error, buffer.substr(0, bytes)});
    error = {};
    try {
        co_await connection.read(asio::buffer(buffer));
    } catch (const std::system_error& thrown) {
        error = thrown.code();
    }
    room.outcomes.put({"read", 0, error});
}
} // namespace

TEST_CASE(
    "the end of the stream stays the end, and the answer still goes out", "[connection][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(
        test::scripted{read_after_the_end, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send("question");
    peer.finish();
    CHECK(room.outcomes.take().data == "question");
    for (const char* name : {"read_some", "read_some", "readable", "read", "async_read_some"}) {
        const auto step = room.outcomes.take();
        CHECK(step.name == name);
        CHECK(step.bytes == 0);
        CHECK(
            step.error == (step.name == "async_read_some" ? asio::error::eof : std::error_code()));
    }
    const auto rest = peer.receive_rest();
    CHECK(rest.bytes == "answer");
    CHECK(rest.end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK(running.log.count(connection_event_kind::close_read) == 1);
}

TEST_CASE("read() tells an end between messages from one inside", "[connection][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const std::string sent = GENERATE(as<std::string>{}, "", "ab", "four", "fourab", "fourfour");
    CAPTURE(sent);
    room room;
    test::running_server running(test::scripted{read_four, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send(sent);
    peer.finish();
    const auto first = room.outcomes.take();
    const bool cut = sent.size() == 2;
    CHECK(first.bytes == std::min<std::size_t>(sent.size(), 4));
    CHECK(first.data == sent.substr(0, 4));
    CHECK(first.error == (cut ? asio::error::eof : std::error_code()));
    const auto second = room.outcomes.take();
    CHECK(second.error == (sent.size() == 6 ? asio::error::eof : std::error_code()));
}

namespace
{
// Before the gate opens the message has arrived as a whole.
asio::awaitable<void> wait_then_read(connection& connection, room& room)
{
    std::string buffer(200'000, '\0');
    const bool ready = co_await connection.readable();
    room.outcomes.put({"readable", ready ? 1U : 0U});
    co_await room.gate.wait();
    const bool again = co_await connection.readable(); // costs nothing, loses nothing
    room.outcomes.put({"readable", again ? 1U : 0U, {}, std::to_string(connection.bytes_read())});
    while (const std::size_t n = co_await connection.read_some(asio::buffer(buffer))) {
        room.outcomes.put({"read_some", n, {}, buffer.substr(0, n)});
    }
    const bool at_end = !co_await connection.readable();
    room.outcomes.put({"readable", at_end ? 0U : 1U});
}
} // namespace

TEST_CASE("what readable() has seen is given to the following read in whole", "[connection]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const std::size_t size = GENERATE(
        values<std::size_t>({1, 255, 256, 257, 511, 512, 513, 5000, 16384, 16385, 100'000}));
    CAPTURE(size);
    const bool finishes = GENERATE(false, true);
    CAPTURE(finishes);
    room room;
    auto config = test::local_config(protocol);
    config.socket.receive_buffer = 1 << 20; // room for all of it
    test::running_server running(test::scripted{wait_then_read, &room}, config);
    running.start();
    test::peer peer(running.port(), protocol);
    const std::string message = numbered(size);
    peer.send(message);
    CHECK(room.outcomes.take().bytes == 1);
    if (finishes) {
        peer.finish();
    }
    REQUIRE(all_has_arrived(peer.tcp()));
    room.gate.open();
    const auto again = room.outcomes.take();
    CHECK(again.bytes == 1);
    CHECK(again.data == "0");
    std::string read;
    int reads = 0;
    while (read.size() < size) {
        const auto step = room.outcomes.take();
        REQUIRE(step.name == "read_some");
        REQUIRE(step.bytes != 0);
        read += step.data;
        ++reads;
    }
    CHECK(read == message);
    if (protocol == speaks::plain) {
        CHECK(reads == 1);
    }
    if (!finishes) {
        peer.finish();
    }
    const auto end = room.outcomes.take();
    CHECK(end.name == "readable");
    CHECK(end.bytes == 0);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_read == size);
}

namespace
{
asio::awaitable<void> wait_and_sip(connection& connection, room& room)
{
    std::string got;
    while (co_await connection.readable()) {
        char sip[7];
        const auto n = co_await connection.read_some(asio::buffer(sip));
        got.append(sip, n);
    }
    room.outcomes.put({"end", got.size(), {}, got});
}

asio::awaitable<void> read_scattered(connection& connection, room& room)
{
    co_await connection.readable();
    co_await room.gate.wait();
    std::array<std::string, 4> parts{
        std::string(100, '\0'), std::string(), std::string(200, '\0'), std::string(900, '\0')};
    const std::array<asio::mutable_buffer, 4> buffers{
        asio::buffer(parts[0]), asio::buffer(parts[1]), asio::buffer(parts[2]),
        asio::buffer(parts[3])};
    const auto n = co_await connection.read_some(buffers);
    auto all = parts[0] + parts[2] + parts[3];
    room.outcomes.put({"read_some", n, {}, all});
    const auto rest = co_await connection.read(buffers);
    all = parts[0] + parts[2] + parts[3];
    room.outcomes.put({"read", rest, {}, all});
}
} // namespace

TEST_CASE("small reads behind readable() lose and repeat nothing", "[connection][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(test::scripted{wait_and_sip, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    const std::string message = numbered(20'000);
    for (std::size_t at = 0; at < message.size();) {
        const std::size_t size = std::min<std::size_t>(1 + at % 700, message.size() - at);
        peer.send(std::string_view(message).substr(at, size));
        at += size;
    }
    peer.finish();
    CHECK(room.outcomes.take().data == message);
}

TEST_CASE("a read into several buffers fills them in order", "[connection]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(
        test::scripted{read_scattered, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    const std::string message = numbered(2400);
    peer.send(message.substr(0, 1200));
    REQUIRE(all_has_arrived(peer.tcp()));
    room.gate.open();
    const auto first = room.outcomes.take();
    REQUIRE(first.bytes > 0);
    CHECK(first.data.substr(0, first.bytes) == message.substr(0, first.bytes));
    if (protocol == speaks::plain) {
        CHECK(first.bytes == 1200);
    }
    peer.send(message.substr(1200));
    const auto second = room.outcomes.take();
    CHECK(second.bytes == 1200);
    CHECK(second.data == message.substr(first.bytes, 1200));
}

namespace
{
asio::awaitable<void> describe_itself(connection& connection, room& room)
{
    const auto tell = [&](std::string name, std::string value) {
        room.outcomes.put({std::move(name), connection.id(), {}, std::move(value)});
    };
    const auto address = [](const asio::ip::tcp::endpoint& endpoint) {
        return endpoint.address().to_string() + ":" + std::to_string(endpoint.port());
    };
    std::string buffer(64, '\0');
    tell("fresh", connection.is_open() && !connection.draining() ? "open" : "closed");
    co_await connection.read(asio::buffer(buffer, 10));
    co_await connection.write(asio::buffer("seven..", 7));
    tell("read", std::to_string(connection.bytes_read()));
    tell("written", std::to_string(connection.bytes_written()));
    const auto age = std::chrono::steady_clock::now() - connection.opened_at();
    tell("age", age >= 0s && age < 1min ? "sane" : "not");
    tell("tls", connection.tls() != nullptr ? "TLS" : "plain TCP");
    std::error_code error;
    co_await connection.read_some(asio::buffer(buffer), error);
    tell("error", error == asio::error::connection_reset ? "reset" : error.message());
    tell("after", connection.is_open() ? "open" : "closed");
    tell("remote", address(connection.remote_endpoint()));
    tell("local", address(connection.local_endpoint()));
    co_await connection.write(asio::buffer("x", 1), error);
    tell("write", error ? "fails" : "works");
}
} // namespace

TEST_CASE("a connection knows about itself, also when the peer is gone", "[connection]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    room room;
    test::running_server running(
        test::scripted{describe_itself, &room}, test::local_config(protocol));
    running.start();
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 2; ++i) {
        test::peer peer(running.port(), protocol);
        const auto own = "127.0.0.1:" + std::to_string(peer.tcp().local_port());
        const auto server = "127.0.0.1:" + std::to_string(running.port());
        const auto told = [&] { return room.outcomes.take().data; };
        CHECK(told() == "open");
        peer.send("0123456789");
        CHECK(peer.receive(7) == "seven..");
        CHECK(told() == "10");
        CHECK(told() == "7");
        CHECK(told() == "sane");
        CHECK(told() == test::name_of(protocol));
        peer.reset();
        CHECK(told() == "reset"); // a reset is told as Asio tells it
        CHECK(told() == "closed");
        CHECK(told() == own);
        CHECK(told() == server);
        const auto last = room.outcomes.take();
        CHECK(last.data == "fails");
        ids.push_back(last.bytes);
    }
    CHECK(ids[0] != ids[1]);
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));
    for (std::size_t i = 0; i < 2; ++i) {
        const auto closed = running.log.closed()[i];
        CHECK(closed.id == ids[i]);
        CHECK(to_string(closed.reason) == "peer_reset");
        CHECK(closed.code == asio::error::connection_reset);
        CHECK(closed.bytes_read == 10);
        CHECK(closed.bytes_written == 7);
    }
    CHECK(running.server.stats().bytes_read == 20);
    CHECK(running.server.stats().bytes_written == 14);
    CHECK(running.log.errors().empty());
}
