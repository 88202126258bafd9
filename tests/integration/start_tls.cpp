#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/peer.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/subprocess.hpp"
#include "support/tls_client.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/steady_timer.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

// A connection that begins in plain text and goes on under TLS.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::framed;
using fairlead::codec::line;

namespace test::upgrading
{
struct room
{
    fairlead::tls_context context{*local_config(speaks::tls).tls};
    mailbox<std::error_code> results;
    mailbox<std::string> texts;
    gate hold;
};

/// A line protocol with a STARTTLS command, as SMTP has it.
asio::awaitable<void> mail_like(connection& conn, room& room)
{
    framed lines(conn, line{.crlf = true});
    co_await lines.send("220 ready");
    for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
        const std::string command(*text);
        if (command.rfind("EHLO", 0) == 0) {
            co_await lines.send("250-greetings");
            co_await lines.send("250 STARTTLS");
        } else if (command == "STARTTLS") {
            co_await lines.send("220 go ahead");
            std::error_code error;
            try {
                co_await lines.start_tls(room.context);
            } catch (const std::system_error& refusal) {
                error = refusal.code();
            }
            room.results.put(error);
            if (error) {
                co_return;
            }
        } else {
            room.texts.put(command);
            const std::string reply = (conn.tls() != nullptr ? "secret " : "open ") + command;
            co_await lines.send(reply);
        }
    }
}

asio::awaitable<void> upgrade_at_once(connection& conn, room& room)
{
    std::array<char, 1> byte;
    co_await conn.read(asio::buffer(byte));
    co_await room.hold.wait();
    std::error_code error;
    co_await conn.start_tls(room.context, error);
    room.results.put(error);
    if (!error) {
        co_await conn.start_tls(room.context, error);
        room.results.put(error);
        std::array<char, 100> buffer;
        while (const std::size_t n = co_await conn.read_some(asio::buffer(buffer))) {
            co_await conn.write(asio::buffer(buffer, n));
        }
    }
}

test::client upgraded(std::uint16_t port, const std::string& behind = {})
{
    test::client client(port);
    CHECK(client.receive(11) == "220 ready\r\n");
    client.send("STARTTLS\r\n" + behind);
    CHECK(client.receive(14) == "220 go ahead\r\n");
    return client;
}
} // namespace test::upgrading

using namespace test::upgrading;

TEST_CASE("a connection goes on under TLS after STARTTLS", "[start_tls]")
{
    room room;
    test::running_server running(test::scripted{mail_like, &room});
    running.start();
    test::client plain(running.port());
    CHECK(plain.receive(11) == "220 ready\r\n");
    plain.send("hello\r\n");
    CHECK(plain.receive(12) == "open hello\r\n");
    plain.send("STARTTLS\r\n");
    CHECK(plain.receive(14) == "220 go ahead\r\n");
    test::tls_client secure(std::move(plain));
    CHECK(!room.results.take());
    secure.send("hello\r\nagain\r\n");
    CHECK(secure.receive(28) == "secret hello\r\nsecret again\r\n");
    secure.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK(running.server.stats().tls_handshakes == 1);
    CHECK(running.log.errors().empty());
}

TEST_CASE("plain text behind the command is refused", "[start_tls]")
{
    // With the command, as an attacker between the two would put it (CVE-2011-0411), or after it.
    room room;
    test::running_server running(test::scripted{mail_like, &room});
    running.start();
    test::client client = upgraded(running.port(), "evil\r\n");
    CHECK(room.results.take() == errc::plaintext_before_tls);
    CHECK(client.receive_rest().bytes.empty());
    CHECK(room.texts.size() == 0);
    CHECK(running.server.stats().tls_handshakes == 0);
}

TEST_CASE("plain text that the handler has not seen yet is refused too", "[start_tls]")
{
    room room;
    test::running_server running(test::scripted{upgrade_at_once, &room});
    running.start();
    test::client client(running.port());
    client.send("!evil");
    while (running.server.stats().bytes_read == 0) {
        std::this_thread::yield();
    }
    room.hold.open();
    CHECK(room.results.take() == errc::plaintext_before_tls);
}

TEST_CASE(
    "a client that does not wait for the answer to its command may shake hands", "[start_tls]")
{
    room room;
    test::running_server running(test::scripted{upgrade_at_once, &room});
    running.start();
    test::client plain(running.port());
    plain.send("!");
    room.hold.open();
    test::tls_client secure(std::move(plain));
    CHECK(!room.results.take());
    CHECK(room.results.take() == std::errc::operation_not_permitted); // it is TLS already
    secure.send("echo");
    CHECK(secure.receive(4) == "echo");
}

TEST_CASE("a handshake that fails ends the connection, and is reported once", "[start_tls]")
{
    room room;
    test::running_server running(test::scripted{mail_like, &room});
    running.start();
    test::client client = upgraded(running.port());
    client.send("\x16\x03\x01" + std::string(100, 'x')); // begins like a record, and is none
    CHECK(room.results.take());
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::tls_handshake_failed);
    CHECK(running.log.errors().size() == 1);
    CHECK(running.server.stats().tls_handshakes_failed == 1);
}

TEST_CASE("a handshake that stalls ends after the pre-open timeout", "[start_tls]")
{
    room room;
    auto config = test::local_config();
    config.pre_open_timeout = 300ms;
    test::running_server running(test::scripted{mail_like, &room}, config);
    running.start();
    test::client client(running.port());
    CHECK(client.receive(11) == "220 ready\r\n");
    std::this_thread::sleep_for(400ms); // it counts from the command, not from the accept
    client.send("STARTTLS\r\n");
    CHECK(client.receive(14) == "220 go ahead\r\n");
    client.send("\x16\x03");
    CHECK(room.results.take() == errc::pre_open_timeout);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::pre_open_timeout);
}

TEST_CASE("the timeouts of the connection carry on under TLS", "[start_tls]")
{
    room room;
    auto config = test::local_config();
    config.idle_timeout = 300ms;
    test::running_server running(test::scripted{mail_like, &room}, config);
    running.start();
    test::tls_client secure(upgraded(running.port()));
    secure.send("hello\r\n");
    CHECK(secure.receive(14) == "secret hello\r\n");
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::idle_timeout);
    CHECK(secure.receive_rest().close_notify);
}

TEST_CASE("TLS does not begin beside a pending operation", "[start_tls]")
{
    const auto script = [](connection& conn, room& shared) -> asio::awaitable<void> {
        const auto reading = [](connection& stream) -> asio::awaitable<void> {
            std::error_code ignored;
            std::array<char, 10> buffer;
            co_await stream.read_some(asio::buffer(buffer), ignored);
        };
        asio::co_spawn(conn.get_executor(), reading(conn), asio::detached);
        asio::steady_timer turn(conn.get_executor(), 1ms);
        co_await turn.async_wait(asio::use_awaitable);
        std::error_code error;
        co_await conn.start_tls(shared.context, error);
        shared.results.put(error);
        conn.close();
        turn.expires_after(1ms);
        co_await turn.async_wait(asio::use_awaitable); // the other coroutine ends first
    };
    room room;
    test::running_server running(test::scripted<test::upgrading::room>{script, &room});
    running.start();
    const test::client client(running.port());
    CHECK(room.results.take() == std::errc::operation_in_progress);
}

TEST_CASE("openssl s_client -starttls smtp is served", "[start_tls][foreign]")
{
    if (!test::has_program("openssl")) {
        SKIP_TEST("needs openssl");
    }
    room room;
    test::running_server running(test::scripted{mail_like, &room});
    running.start();
    const auto result = test::subprocess::run(
        {"openssl", "s_client", "-connect", "127.0.0.1:" + std::to_string(running.port()),
         "-starttls", "smtp", "-quiet", "-no_ign_eof"},
        "hello\n", 14);
    CHECK(!room.results.take());
    CHECK(room.texts.take() == "hello");
    CHECK(result.output.find("secret hello\r\n") != std::string::npos);
    CHECK(running.server.stats().tls_handshakes == 1);
}
