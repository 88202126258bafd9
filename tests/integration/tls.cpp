#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;

namespace test::over_tls
{
struct free_openssl
{
    void operator()(SSL_CTX* context) const noexcept
    {
        SSL_CTX_free(context);
    }

    void operator()(SSL* ssl) const noexcept
    {
        SSL_free(ssl);
    }

    void operator()(SSL_SESSION* session) const noexcept
    {
        SSL_SESSION_free(session);
    }
};

using context_ptr = std::unique_ptr<SSL_CTX, free_openssl>;
using ssl_ptr = std::unique_ptr<SSL, free_openssl>;
using session_ptr = std::unique_ptr<SSL_SESSION, free_openssl>;

fairlead::server_config config_of(const certificate& own)
{
    auto config = local_config();
    config.tls =
        fairlead::tls_config{.certificate = own.certificate_pem, .private_key = own.key_pem};
    return config;
}

/// The common name in the certificate that a client was shown.
std::string name_shown_to(const tls_client& client)
{
    const std::unique_ptr<X509, decltype(&X509_free)> shown(
        SSL_get_peer_certificate(client.ssl()), &X509_free);
    char name[128] = {};
    X509_NAME_get_text_by_NID(
        X509_get_subject_name(shown.get()), NID_commonName, name, sizeof name);
    return name;
}

/// A handler that notes what it is told about its peer, says a byte, and waits for the end.
struct identity_handler
{
    struct notes
    {
        std::mutex mutex;
        std::vector<fairlead::tls_info> seen;
    };

    std::shared_ptr<notes> noted = std::make_shared<notes>();

    asio::awaitable<void> operator()(fairlead::connection& conn)
    {
        {
            const std::lock_guard lock(noted->mutex);
            noted->seen.push_back(*conn.tls());
        }
        co_await conn.write(asio::buffer("!", 1));
        std::array<char, 16> buffer;
        while (const std::size_t n = co_await conn.read_some(asio::buffer(buffer))) {
            co_await conn.write(asio::buffer(buffer, n));
        }
    }
};

/// Shakes hands with a client certificate, reads one byte, says goodbye, and returns the session.
session_ptr visit(std::uint16_t port, const certificate& own, SSL_SESSION* session, bool& resumed)
{
    client tcp(port);
    const context_ptr context(SSL_CTX_new(TLS_client_method()));
    const std::unique_ptr<BIO, decltype(&BIO_free)> chain(
        BIO_new_mem_buf(own.certificate_pem.data(), -1), &BIO_free);
    const std::unique_ptr<X509, decltype(&X509_free)> leaf(
        PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr), &X509_free);
    const std::unique_ptr<BIO, decltype(&BIO_free)> key_text(
        BIO_new_mem_buf(own.key_pem.data(), -1), &BIO_free);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
    SSL_CTX_use_certificate(context.get(), leaf.get());
    SSL_CTX_use_PrivateKey(context.get(), key.get());
    const ssl_ptr ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), tcp.fd());
    if (session != nullptr) {
        SSL_set_session(ssl.get(), session);
    }
    char byte = 0;
    if (SSL_connect(ssl.get()) != 1 || SSL_read(ssl.get(), &byte, 1) != 1) {
        throw std::runtime_error("the visit failed");
    }
    resumed = SSL_session_reused(ssl.get()) != 0;
    SSL_shutdown(ssl.get());
    return session_ptr(SSL_get1_session(ssl.get()));
}

/// The first half of a ClientHello: a record header that announces more than follows.
constexpr std::string_view half_a_hello{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11};
} // namespace test::over_tls

using namespace test::over_tls;

TEST_CASE("a thousand silent clients do not keep a good one out", "[tls][handshake][network]")
{
    const test::certificate_authority authority;
    auto config = config_of(authority.issue({}));
    config.max_handshakes = 4;
    config.pre_open_timeout = 1h;
    test::running_server running(&test::echo, config);
    running.start();

    std::vector<test::client> silent;
    for (int n = 0; n < 1000; ++n) {
        silent.emplace_back(running.port());
    }
    test::tls_client good{test::client(running.port())};
    good.send("hello");
    CHECK(good.receive(5) == "hello");
    CHECK(running.server.open_connections() == 1001);
    CHECK(running.server.stats().tls_handshakes == 1);
}

TEST_CASE(
    "clients that stall in the handshake lose their places to others", "[tls][handshake][network]")
{
    const test::certificate_authority authority;
    auto config = config_of(authority.issue({}));
    config.max_handshakes = 2;
    config.pre_open_timeout = 1h;
    test::running_server running(&test::echo, config);
    running.start();

    std::vector<test::client> stalled;
    for (int n = 0; n < 6; ++n) {
        stalled.emplace_back(running.port());
        stalled.back().send(half_a_hello);
    }
    test::tls_client good{test::client(running.port())};
    good.send("hello");
    CHECK(good.receive(5) == "hello");
}

TEST_CASE(
    "set_tls: new clients see the new certificate, open connections live on",
    "[tls][reload][network]")
{
    const test::certificate_authority authority;
    test::running_server running(
        &test::echo, config_of(authority.issue({.common_name = "before"})));
    running.start();
    test::tls_client old{test::client(running.port())};
    CHECK(name_shown_to(old) == "before");

    const auto next = authority.issue({.common_name = "after"});
    running.server.set_tls(
        fairlead::tls_config{.certificate = next.certificate_pem, .private_key = next.key_pem});
    REQUIRE(running.log.wait_for(fairlead::server_event_kind::tls_reloaded));
    test::tls_client fresh{test::client(running.port())};
    CHECK(name_shown_to(fresh) == "after");
    old.send("still here");
    CHECK(old.receive(10) == "still here");

    // One that cannot be used changes nothing, and is told to the caller and to the hook.
    try {
        running.server.set_tls(
            fairlead::tls_config{.certificate = "/nowhere.pem", .private_key = next.key_pem});
        FAIL("a certificate that is not there was accepted");
    } catch (const std::system_error& error) {
        CHECK(error.code() == errc::invalid_tls_config);
        CHECK(std::string(error.what()).find("/nowhere.pem") != std::string::npos);
    }
    REQUIRE(running.log.wait_for_errors());
    CHECK(running.log.errors().front().code == errc::invalid_tls_config);
    test::tls_client third{test::client(running.port())};
    CHECK(name_shown_to(third) == "after");

    // And without TLS, new connections are plain.
    running.server.set_tls(std::nullopt);
    REQUIRE(running.log.wait_for(fairlead::server_event_kind::tls_reloaded, 2));
    test::client plain(running.port());
    plain.send("plain");
    CHECK(plain.receive(5) == "plain");
    old.send("and still");
    CHECK(old.receive(9) == "and still");
}

TEST_CASE(
    "the handler knows its client's certificate, also when the session is resumed",
    "[tls][mtls][network]")
{
    const test::certificate_authority authority;
    auto config = config_of(authority.issue({}));
    config.tls->client_ca = authority.certificate_pem;
    config.tls->client_auth = fairlead::client_auth::require_and_verify;
    identity_handler handler;
    const auto notes = handler.noted;
    test::running_server running(std::move(handler), config);
    running.start();

    const auto own = authority.issue({.common_name = "meter-7", .dns_names = {"meter-7.example"}});
    bool resumed = true;
    const session_ptr session = visit(running.port(), own, nullptr, resumed);
    CHECK_FALSE(resumed);
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 1));
    const session_ptr again = visit(running.port(), own, session.get(), resumed);
    CHECK(resumed);
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));

    const std::lock_guard lock(notes->mutex);
    REQUIRE(notes->seen.size() == 2);
    CHECK_FALSE(notes->seen[0].resumed);
    CHECK(notes->seen[1].resumed);
    for (const auto& info : notes->seen) {
        CHECK(info.version == fairlead::tls_version::tls_1_3);
        CHECK_FALSE(info.cipher.empty());
        REQUIRE(info.peer);
        CHECK(info.peer->verified);
        CHECK(info.peer->subject.find("meter-7") != std::string::npos);
        CHECK(info.peer->dns_names == std::vector<std::string>{"meter-7.example"});
        CHECK(info.peer->sha256_fingerprint.size() == 64);
    }
    CHECK(running.server.stats().tls_handshakes == 2);
    CHECK(running.server.stats().tls_resumed == 1);
}

TEST_CASE(
    "a failed handshake is an error event and a close reason, and no handler runs",
    "[tls][mtls][network]")
{
    const test::certificate_authority authority;
    const test::certificate_authority stranger;
    auto config = config_of(authority.issue({}));
    config.tls->client_ca = authority.certificate_pem;
    config.tls->client_auth = fairlead::client_auth::require_and_verify;
    test::running_server running(&test::echo, config);
    running.start();

    bool resumed = false;
    CHECK_THROWS(visit(running.port(), stranger.issue({}), nullptr, resumed));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto steps = running.log.connections();
    CHECK(steps.front().kind == connection_event_kind::accepted);
    CHECK(steps.back().kind == connection_event_kind::closed);
    CHECK(steps.back().reason == close_reason::tls_handshake_failed);
    CHECK(steps.back().code);
    CHECK(running.log.count(connection_event_kind::opened) == 0);
    const auto errors = running.log.errors();
    REQUIRE(errors.size() == 1);
    CHECK(errors.front().connection_id == steps.front().id);
    CHECK(errors.front().remote == steps.front().remote);
    CHECK(errors.front().what.find("TLS handshake") != std::string::npos);
    CHECK(running.server.stats().tls_handshakes_failed == 1);
    CHECK(running.server.stats().closed_by(close_reason::tls_handshake_failed) == 1);
}
