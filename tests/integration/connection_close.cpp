// How a connection is ended from this side: in order, by half, by reset, by another thread; and
// what its operations say then.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/co_spawn.hpp>
#include <asio/use_future.hpp>

#include <algorithm>
#include <string>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::either;
using test::speaks;

namespace
{
struct findings
{
    test::mailbox<std::error_code> errors;
    test::mailbox<bool> facts;
    test::gate gate;
};

/// Tries each operation once, and tells how it ended.
asio::awaitable<void> try_everything(connection& connection, findings& room)
{
    char buffer[8];
    std::error_code error;
    co_await connection.read_some(asio::buffer(buffer), error);
    room.errors.put(error);
    co_await connection.read(asio::buffer(buffer), error);
    room.errors.put(error);
    co_await connection.readable(error);
    room.errors.put(error);
    co_await connection.write_some(asio::buffer("late", 4), error);
    room.errors.put(error);
    co_await connection.write(asio::buffer("late", 4), error);
    room.errors.put(error);
    co_await connection.async_read_some(
        asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
    room.errors.put(error);
    co_await connection.async_write_some(
        asio::buffer("late", 4), asio::redirect_error(asio::use_awaitable, error));
    room.errors.put(error);
    error.clear();
    try {
        co_await connection.read_some(asio::buffer(buffer));
    } catch (const std::system_error& thrown) {
        error = thrown.code();
    }
    room.errors.put(error);
}

constexpr int everything = 8;

asio::awaitable<void> close_twice(connection& connection, findings& room)
{
    co_await connection.write(asio::buffer("goodbye", 7));
    connection.close();
    connection.close();
    room.facts.put(connection.is_open());
    co_await try_everything(connection, room);
    connection.close();
    co_await connection.shutdown_send(); // nothing left to do
}

asio::awaitable<void> abort_twice(connection& connection, findings& room)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
    connection.abort();
    connection.abort();
    room.facts.put(connection.is_open());
    co_await try_everything(connection, room);
    connection.close();
}

asio::awaitable<void> read_one(connection& connection, findings& room)
{
    char byte = 0;
    std::error_code error;
    co_await connection.read_some(asio::buffer(&byte, 1), error);
    room.errors.put(error);
}

asio::awaitable<void> close_while_reading(connection& connection, findings& room)
{
    auto reading =
        asio::co_spawn(connection.get_executor(), read_one(connection, room), asio::use_future);
    co_await asio::post(connection.get_executor(), asio::use_awaitable); // it reads now
    connection.close();
    room.facts.put(reading.wait_for(0s) == std::future_status::ready);
    co_await room.gate.wait(); // the reader refers to the connection
}
} // namespace

TEST_CASE("close() is idempotent, loses nothing, and ends what comes later", "[close][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    findings room;
    test::running_server running(test::scripted{close_twice, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    CHECK_FALSE(room.facts.take());
    for (int i = 0; i < everything; ++i) {
        CAPTURE(i);
        CHECK(room.errors.take() == errc::connection_closed);
    }
    const auto rest = peer.receive_rest();
    CHECK(rest.bytes == "goodbye");
    CHECK(rest.end == test::stream_end::finished);
    peer.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
    CHECK(running.log.count(connection_event_kind::close_write) == 1);
    CHECK(running.log.errors().empty());
}

TEST_CASE("abort() resets the connection, and ends what comes later", "[close]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    findings room;
    test::running_server running(test::scripted{abort_twice, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send("x");
    CHECK_FALSE(room.facts.take());
    for (int i = 0; i < everything; ++i) {
        CAPTURE(i);
        CHECK(room.errors.take() == errc::connection_closed);
    }
    // Of the socket itself: a TLS stream that ends early is not yet a reset.
    CHECK(peer.tcp().receive_rest().end == test::stream_end::reset);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
    running.stop();
    CHECK(running.log.connections().back().kind == connection_event_kind::closed);
    CHECK(running.log.errors().empty());
}

TEST_CASE("close() ends the pending operation of another coroutine", "[close][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    findings room;
    test::running_server running(
        test::scripted{close_while_reading, &room}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    CHECK_FALSE(room.facts.take()); // not inside close() itself
    CHECK(room.errors.take() == errc::connection_closed);
    room.gate.open();
    CHECK(peer.receive_rest().end == test::stream_end::finished);
}

namespace
{
asio::awaitable<void> pending_read(connection& connection, findings& room)
{
    return read_one(connection, room);
}

asio::awaitable<void> pending_wait(connection& connection, findings& room)
{
    std::error_code error;
    co_await connection.readable(error);
    room.errors.put(error);
    co_await try_everything(connection, room);
}

asio::awaitable<void> pending_write(connection& connection, findings& room)
{
    const std::string block(1 << 20, 'x');
    std::error_code error;
    while (!error) {
        co_await connection.write(asio::buffer(block), error);
    }
    room.errors.put(error);
}

asio::awaitable<void> throwing_read(connection& connection, findings& room)
{
    char byte = 0;
    try {
        co_await connection.read_some(asio::buffer(&byte, 1));
    } catch (const std::system_error& error) {
        room.errors.put(error.code());
        throw; // the usual way to end a handler: no failure
    }
}
} // namespace

TEST_CASE("close_connection() from another thread ends the pending operation", "[close]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const auto script = GENERATE(
        as<asio::awaitable<void> (*)(connection&, findings&)>{}, pending_read, pending_wait,
        pending_write, throwing_read);
    findings room;
    auto config = test::local_config(protocol);
    config.linger = 100ms; // the writer's peer reads nothing
    config.socket.send_buffer = 4096;
    test::running_server running(test::scripted{script, &room}, config);
    running.start();
    test::peer peer(running.port(), protocol);
    test::peer other(running.port(), protocol);
    REQUIRE(running.log.wait_for(connection_event_kind::opened, 2));
    const auto id = running.log.connections().front().id;
    if (script == &pending_write) { // far more than the kernel takes
        REQUIRE(test::eventually([&] { return running.server.stats().bytes_written != 0; }));
    }
    CHECK_FALSE(running.server.close_connection(0));
    CHECK_FALSE(running.server.close_connection(id + 1'000'000));
    CHECK(running.server.close_connection(id));
    CHECK(room.errors.take() == errc::server_closed);
    if (script == &pending_wait) {
        for (int i = 0; i < everything; ++i) {
            CHECK(room.errors.take() == errc::server_closed);
        }
    }
    if (script != &pending_write) {
        const auto rest = peer.receive_rest();
        CHECK(rest.bytes.empty());
        CHECK(rest.end == test::stream_end::finished);
        peer.finish();
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().id == id);
    CHECK(running.log.closed().front().reason == close_reason::server_closed);
    CHECK_FALSE(running.server.close_connection(id));
    CHECK(running.server.open_connections() == 1);
    CHECK(running.log.errors().empty());
}

namespace
{
asio::awaitable<void> send_by_half(connection& connection, findings& room, bool waits)
{
    co_await connection.write(asio::buffer("all", 3));
    if (waits) {
        co_await connection.shutdown_send();
        co_await connection.shutdown_send();
    } else {
        connection.shutdown_send();
        connection.shutdown_send();
    }
    room.facts.put(connection.is_open());
    std::error_code error;
    co_await connection.write(asio::buffer("more", 4), error);
    room.errors.put(error);
    std::string got(5, '\0');
    co_await connection.read(asio::buffer(got));
    room.facts.put(got == "later");
    const auto end = co_await connection.read_some(asio::buffer(got));
    room.facts.put(end == 0);
}

asio::awaitable<void> half_close_waiting(connection& connection, findings& room)
{
    return send_by_half(connection, room, true);
}

asio::awaitable<void> half_close_ignoring(connection& connection, findings& room)
{
    return send_by_half(connection, room, false);
}
} // namespace

TEST_CASE("after shutdown_send() the peer sees the end, and may go on sending", "[close][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const bool waits = GENERATE(true, false);
    CAPTURE(waits);
    findings room;
    test::running_server running(
        test::scripted{waits ? half_close_waiting : half_close_ignoring, &room},
        test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    const auto rest = peer.receive_rest();
    CHECK(rest.bytes == "all");
    CHECK(rest.end == test::stream_end::finished);
    CHECK(room.facts.take());
    CHECK(room.errors.take() == asio::error::broken_pipe);
    CHECK(running.log.wait_for(connection_event_kind::close_write));
    peer.send("later");
    CHECK(room.facts.take());
    peer.finish();
    CHECK(room.facts.take());
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK(running.log.count(connection_event_kind::close_write) == 1);
    CHECK(running.log.count(connection_event_kind::close_read) == 1);
    CHECK(running.log.errors().empty());
}

namespace
{
asio::awaitable<void> answer_after_the_end(connection& connection)
{
    std::string request(4096, '\0');
    std::size_t size = 0;
    while (const auto n = co_await connection.read_some(asio::buffer(request))) {
        size += n;
    }
    const std::string answer(size * 100, 'a');
    co_await connection.write(asio::buffer(answer));
}
} // namespace

TEST_CASE(
    "a peer that half-closes after its request gets the whole answer", "[close][parity][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    test::running_server running(&answer_after_the_end, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send(std::string(20'000, 'q'));
    peer.finish();
    const auto rest = peer.receive_rest();
    CHECK(rest.bytes.size() == 2'000'000);
    CHECK(rest.end == test::stream_end::finished);
}

namespace
{
asio::awaitable<void> expire_never(connection& connection)
{
    connection.expires_after(std::chrono::milliseconds::max());
    co_await test::echo(connection);
}
} // namespace

TEST_CASE("a deadline beyond all time never comes", "[close][network]")
{
    test::running_server running(&expire_never);
    running.start();
    test::client client(running.port());
    for (int i = 0; i < 3; ++i) {
        client.send("x");
        CHECK(client.receive(1) == "x");
    }
    client.finish();
    CHECK(client.receive_rest().end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
}
