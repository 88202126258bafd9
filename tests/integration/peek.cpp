#include "support/catch.hpp"
#include "support/peer.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/codec/codec.hpp>

#include <array>
#include <chrono>
#include <string>

// Looking at the first bytes without taking them, and what is built on it: TLS and plain clients on one port.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event_kind;
using fairlead::errc;
using test::peer;
using test::speaks;

namespace test::peeking
{
struct outcome
{
    std::string text;
    std::error_code error;
};

struct room
{
    mailbox<outcome> outcomes = {};
    std::size_t size = 0;
};

asio::awaitable<void> peek_then_read(connection& conn, room& room)
{
    std::error_code error;
    const auto seen = co_await conn.peek(room.size, error);
    room.outcomes.put({std::string(fairlead::codec::text_of(seen)), error});
    if (error) {
        co_return;
    }
    const auto again = co_await conn.peek(room.size, error);
    room.outcomes.put({std::string(fairlead::codec::text_of(again)), error});
    const bool is_readable = co_await conn.readable(error);
    room.outcomes.put({is_readable ? "readable" : "not readable", error});
    std::string text(1000, '\0');
    std::size_t size = 0;
    while (const std::size_t n = co_await conn.read_some(asio::buffer(text) + size, error)) {
        size += n;
    }
    room.outcomes.put({text.substr(0, size), error});
}

asio::awaitable<void> say_what_it_is(connection& conn)
{
    std::array<char, 100> buffer;
    const std::string kind = conn.tls() != nullptr ? "TLS " : "plain ";
    while (const std::size_t n = co_await conn.read_some(asio::buffer(buffer))) {
        const std::string reply = kind + std::string(buffer.data(), n);
        co_await conn.write(asio::buffer(reply));
    }
}

fairlead::server_config detecting()
{
    auto config = local_config(speaks::tls);
    config.tls_detect = true;
    return config;
}
} // namespace test::peeking

using namespace test::peeking;

TEST_CASE("peeked bytes are there for every later read", "[peek]")
{
    const auto protocol = GENERATE(speaks::plain, speaks::tls);
    INFO(test::name_of(protocol));
    const std::size_t size = GENERATE(values<std::size_t>({1, 5, 16, connection::max_peek}));
    const bool in_pieces = GENERATE(false, true);
    CAPTURE(size, in_pieces);
    room room{.size = size};
    test::running_server running(test::scripted{peek_then_read, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    std::string text;
    for (std::size_t i = 0; i < 300; ++i) {
        text += static_cast<char>('a' + i % 26);
    }
    if (in_pieces) {
        for (std::size_t i = 0; i < size; ++i) {
            peer.send(text.substr(i, 1));
        }
        CHECK(room.outcomes.take().text == text.substr(0, size));
        peer.send(text.substr(size));
    } else {
        peer.send(text);
        CHECK(room.outcomes.take().text == text.substr(0, size));
    }
    peer.finish();
    CHECK(room.outcomes.take().text == text.substr(0, size));
    CHECK(room.outcomes.take().text == "readable");
    const auto read = room.outcomes.take();
    CHECK(read.text == text);
    CHECK(!read.error);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_read == 300);
}

TEST_CASE("a peek ends early when the peer does", "[peek]")
{
    const auto protocol = GENERATE(speaks::plain, speaks::tls);
    INFO(test::name_of(protocol));
    room room{.size = 10};
    test::running_server running(test::scripted{peek_then_read, &room}, local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    peer.send("four");
    peer.finish();
    for (int i = 0; i < 2; ++i) {
        const auto seen = room.outcomes.take();
        CHECK(seen.text == "four");
        CHECK(!seen.error);
    }
    CHECK(room.outcomes.take().text == "readable");
    CHECK(room.outcomes.take().text == "four");
}

TEST_CASE("a peek waits no longer than the pre-open timeout", "[peek]")
{
    room room{.size = 10};
    auto config = test::local_config();
    config.pre_open_timeout = 200ms;
    test::running_server running(test::scripted{peek_then_read, &room}, config);
    running.start();
    test::client client(running.port());
    client.send("four");
    const auto seen = room.outcomes.take();
    CHECK(seen.error == errc::pre_open_timeout);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::pre_open_timeout);
}

TEST_CASE("the pre-open timeout does not outlast a peek", "[peek]")
{
    auto config = test::local_config();
    config.pre_open_timeout = 200ms;
    room room{.size = 4};
    test::running_server running(test::scripted{peek_then_read, &room}, config);
    running.start();
    test::client client(running.port());
    client.send("four");
    for (int i = 0; i < 3; ++i) {
        room.outcomes.take();
    }
    std::this_thread::sleep_for(400ms); // the time that must not count
    client.finish();
    CHECK(room.outcomes.take().text == "four");
}

TEST_CASE("a peek beyond the limit is refused", "[peek]")
{
    room room{.size = connection::max_peek + 1};
    test::running_server running(test::scripted{peek_then_read, &room});
    running.start();
    const test::client client(running.port());
    CHECK(room.outcomes.take().error == std::errc::invalid_argument);
}

TEST_CASE("a drain ends a peek that has seen nothing", "[peek][drain]")
{
    room room{.size = 1};
    test::running_server running(test::scripted{peek_then_read, &room});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    auto report = running.shutdown(10s);
    const auto seen = room.outcomes.take();
    CHECK(seen.text.empty());
    CHECK(!seen.error);
    client.finish();
    CHECK(report.get().stragglers.empty());
}

TEST_CASE("TLS and plain clients share a port", "[peek][tls]")
{
    test::running_server running(say_what_it_is, detecting());
    running.start();
    for (int round = 0; round < 3; ++round) {
        test::client plain(running.port());
        plain.send("hello");
        CHECK(plain.receive(11) == "plain hello");
        test::tls_client secure{test::client(running.port())};
        secure.send("hello");
        CHECK(secure.receive(9) == "TLS hello");
    }
    CHECK(running.server.stats().tls_handshakes == 3);
}

TEST_CASE("a client that says nothing is neither, and closed in time", "[peek][tls]")
{
    auto config = detecting();
    config.pre_open_timeout = 200ms;
    test::running_server running(say_what_it_is, config);
    running.start();
    const test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::pre_open_timeout);
    CHECK(running.log.count(connection_event_kind::opened) == 0);
}

TEST_CASE("without detection a plain client of a TLS port fails its handshake", "[peek][tls]")
{
    test::running_server running(say_what_it_is, local_config(speaks::tls));
    running.start();
    test::client plain(running.port());
    plain.send("hello");
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::tls_handshake_failed);
}

TEST_CASE("detection without TLS is a problem of the configuration", "[peek][config]")
{
    fairlead::server_config config{.tls_detect = true};
    const auto problems = check(config);
    REQUIRE(problems.size() == 1);
    CHECK(problems.front().code == errc::invalid_config);
    CHECK(problems.front().message.find("tls_detect") != std::string::npos);
}
