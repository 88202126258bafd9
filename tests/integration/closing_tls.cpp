#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/error_list.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <asio/ssl/error.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

// The end of a TLS connection: close_notify, once, in both directions; an end that was cut; alerts that arrive.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;

namespace test::closing_tls
{
inline fairlead::server_config config()
{
    auto config = test::local_config();
    config.tls = test::make_tls();
    return config;
}

/// Reads one byte, answers, and returns; or half-closes and waits for the client's end first.
struct answering_handler
{
    const std::string* answer;
    bool half_closes = false;
    error_list* errors = nullptr;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        co_await connection.read_some(asio::buffer(&byte, 1));
        co_await connection.write(asio::buffer(*answer));
        if (half_closes) {
            co_await connection.shutdown_send();
            std::error_code error;
            while (co_await connection.read_some(asio::buffer(&byte, 1), error) != 0) {
            }
            errors->add(error);
        }
    }
};

inline std::vector<int> one_close_notify()
{
    return {test::tls_client::close_notify};
}
} // namespace test::closing_tls

using namespace test::closing_tls;

TEST_CASE(
    "a TLS server that leaves first sends the answer, close_notify once, and FIN",
    "[close][tls][network]")
{
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    INFO("version " << version);
    const std::string answer(300'000, 'a');
    test::running_server running(answering_handler{&answer}, config());
    running.start();
    test::tls_client client(test::client(running.port()), version);
    client.send("?");
    const auto rest = client.receive_rest();
    CHECK((rest.bytes == answer));
    CHECK(rest.close_notify);
    CHECK(rest.alerts == one_close_notify());
    CHECK(rest.below.bytes.empty());
    CHECK(rest.below.end == test::stream_end::finished);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
}

TEST_CASE(
    "the client's close_notify is the end of the stream, and is answered", "[close][tls][network]")
{
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const auto how = GENERATE(
        test::reading::read_some, test::reading::read, test::reading::readable,
        test::reading::asio_read_some);
    INFO("version " << version);
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors, how}, config());
    running.start();
    test::tls_client client(test::client(running.port()), version);
    client.send("some bytes");
    client.finish(); // close_notify and no FIN
    const auto rest = client.receive_rest();
    CHECK(rest.close_notify);
    CHECK(rest.alerts == one_close_notify());
    CHECK(rest.below.bytes.empty());
    CHECK(rest.below.end == test::stream_end::finished);
    const auto end = errors.wait();
    CHECK((!end || end == asio::error::eof));
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK_FALSE(running.log.closed().front().code);
    CHECK(running.log.errors().empty());
}

TEST_CASE("a half-closed TLS connection goes on in the other direction", "[close][tls][network]")
{
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    INFO("version " << version);
    const std::string answer = "answer";
    test::error_list errors;
    test::running_server running(answering_handler{&answer, true, &errors}, config());
    running.start();
    test::tls_client client(test::client(running.port()), version);
    client.send("?");
    CHECK(client.receive(answer.size()) == answer);
    char byte = 0;
    const int n = SSL_read(client.ssl(), &byte, 1);
    CHECK(SSL_get_error(client.ssl(), n) == SSL_ERROR_ZERO_RETURN);
    client.send("more, though the server has nothing more to say");
    client.finish();
    CHECK_FALSE(errors.wait());
    const auto rest = client.receive_rest();
    CHECK(rest.alerts == one_close_notify()); // that of shutdown_send, and none at the end
    CHECK(rest.below.bytes.empty());
    CHECK(rest.below.end == test::stream_end::finished);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_read == 1 + 47);
}

TEST_CASE("a FIN without close_notify is told apart from an orderly end", "[close][tls][network]")
{
    const auto how = GENERATE(
        test::reading::read_some, test::reading::read, test::reading::readable,
        test::reading::asio_read_some);
    const bool inside_a_record = GENERATE(false, true);
    INFO("inside a record " << inside_a_record);
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors, how}, config());
    running.start();
    test::tls_client client{test::client(running.port())};
    client.send("some bytes");
    if (inside_a_record) {
        client.tcp().send(std::string("\x17\x03\x03\x00\x50 and no more", 17));
    }
    client.tcp().finish();
    CHECK(errors.wait() == asio::ssl::error::stream_truncated);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::transport_error);
    CHECK(running.log.closed().front().code == asio::ssl::error::stream_truncated);
}

TEST_CASE(
    "a TLS client that keeps sending receives the whole answer and close_notify",
    "[close][tls][network]")
{
    const std::string answer(500'000, 'a');
    test::running_server running(answering_handler{&answer}, config());
    running.start();
    test::tls_client client(test::client(running.port(), "127.0.0.1", 16384));
    client.send("?");
    client.send(std::string(64 << 10, 'm')); // is never read by the handler
    const auto rest = client.receive_rest();
    CHECK((rest.bytes == answer));
    CHECK(rest.close_notify);
    CHECK(rest.alerts == one_close_notify());
    CHECK(rest.below.end == test::stream_end::finished);
}

TEST_CASE(
    "a TLS client that never closes is left after the linger time", "[close][tls][linger][network]")
{
    const auto linger = GENERATE(300ms, 0ms);
    INFO("linger " << linger.count());
    auto settings = config();
    settings.linger = linger;
    const std::string answer = "bye";
    test::running_server running(answering_handler{&answer}, settings);
    running.start();
    test::tls_client client{test::client(running.port())};
    const auto begin = std::chrono::steady_clock::now();
    client.send("?");
    REQUIRE(running.log.wait_for(connection_event_kind::closed)); // though our socket is open
    CHECK(std::chrono::steady_clock::now() - begin >= linger);
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "bye");
    CHECK(rest.alerts == one_close_notify());
    CHECK(rest.below.end == test::stream_end::finished);
}

TEST_CASE("the alert reaches a client that does not stop talking", "[close][tls][network]")
{
    // OpenSSL sends no alert to what does not look like TLS at all; that client sees a FIN.
    const bool looks_like_tls = GENERATE(true, false);
    INFO("looks like TLS " << looks_like_tls);
    const std::string beginning =
        looks_like_tls
            ? std::string("\x16\x03\x01\x00\x10\x01\x00\x00\x0c", 9) + std::string(12, '?')
            : "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    test::running_server running(&test::echo, config());
    running.start();
    for (int round = 0; round < 10; ++round) {
        test::client client(running.port());
        client.send(beginning);
        bool taken = true;
        for (int block = 0; block < 64 && taken; ++block) {
            taken = client.try_send(std::string(4096, 'x'));
        }
        CHECK(taken);
        const auto rest = client.receive_rest();
        CHECK(rest.end == test::stream_end::finished);
        if (looks_like_tls) {
            REQUIRE(rest.bytes.size() == 7);
            CHECK(rest.bytes[0] == SSL3_RT_ALERT);
            CHECK(rest.bytes[5] == SSL3_AL_FATAL);
        } else {
            CHECK(rest.bytes.empty());
        }
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 10));
    for (const auto& end : running.log.closed()) {
        CHECK(end.reason == close_reason::tls_handshake_failed);
        CHECK(end.code);
    }
    CHECK(running.log.errors().size() == 10);
}

TEST_CASE(
    "the alert reaches a client that breaks an established connection", "[close][tls][network]")
{
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors}, config());
    running.start();
    test::tls_client client{test::client(running.port())};
    client.send("fine");
    client.tcp().send(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'z')); // forged
    client.tcp().send(std::string(64 << 10, 'x'));
    const auto rest = client.receive_rest();
    CHECK_FALSE(rest.close_notify);
    REQUIRE(rest.alerts.size() == 1);
    CHECK(rest.alerts.front() == SSL_AD_BAD_RECORD_MAC);
    CHECK(rest.below.bytes.empty());
    CHECK(rest.below.end == test::stream_end::finished);
    CHECK(errors.wait());
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::transport_error);
}

namespace test::closing_tls
{
/// Answers, is stopped, and works on until the test lets it go.
struct working_handler
{
    bool closes;
    test::gate* gate;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        co_await connection.read_some(asio::buffer(&byte, 1));
        co_await connection.write(asio::buffer("answer", 6));
        if (closes) {
            connection.close();
        }
        co_await gate->wait();
    }
};
} // namespace test::closing_tls

TEST_CASE(
    "close_notify does not wait for a handler that works on when its connection is stopped",
    "[close][tls][network]")
{
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const bool closes = GENERATE(true, false);
    CAPTURE(version, closes);
    test::gate gate;
    test::running_server running(working_handler{closes, &gate}, config());
    running.start();
    test::tls_client client(test::client(running.port()), version);
    client.send("?");
    CHECK(client.receive(6) == "answer");
    if (!closes) {
        REQUIRE(test::eventually([&] { return gate.waiting() == 1; }));
        REQUIRE(running.server.close_connection(running.log.connections().front().id));
    }
    const auto rest = client.receive_rest();
    CHECK(rest.close_notify);
    CHECK(rest.alerts == one_close_notify());
    CHECK(rest.below.end == test::stream_end::finished);
    CHECK(running.log.count(connection_event_kind::closed) == 0); // the handler runs
    CHECK(running.log.wait_for(connection_event_kind::close_write));
    client.tcp().close();
    gate.open();
    CHECK(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.count(connection_event_kind::close_write) == 1);
}
