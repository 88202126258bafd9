// The client's end of a connection, plain or TLS, blocking, over OpenSSL itself: a test that must
// hold for both says so by a parameter.

#ifndef FAIRLEAD_TESTS_SUPPORT_PEER_HPP
#define FAIRLEAD_TESTS_SUPPORT_PEER_HPP

#include "tests/support/catch.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/client.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/config.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace test
{
enum class speaks
{
    plain,
    tls,
};

/// The test runs once for each.
inline speaks either()
{
    return GENERATE(speaks::plain, speaks::tls);
}

inline const char* name_of(speaks protocol)
{
    return protocol == speaks::tls ? "TLS" : "plain TCP";
}

/// A configuration for tests: a free port of 127.0.0.1, with a certificate where one is needed.
inline fairlead::server_config local_config(speaks protocol)
{
    auto config = local_config();
    if (protocol == speaks::tls) {
        static const certificate own{certificate_options{}};
        config.tls.emplace();
        config.tls->certificate = own.certificate_pem;
        config.tls->private_key = own.key_pem;
    }
    return config;
}

class peer
{
public:
    /// Connects, and shakes hands under TLS (the server's certificate is not verified).
    peer(std::uint16_t port, speaks protocol) : tcp_(port)
    {
        if (protocol == speaks::plain) {
            return;
        }
        const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
            SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
        ssl_.reset(SSL_new(context.get()));
        SSL_set_fd(ssl_.get(), tcp_.fd());
        if (SSL_connect(ssl_.get()) != 1) {
            throw std::runtime_error("the TLS handshake failed");
        }
    }

    void send(std::string_view bytes)
    {
        if (ssl_ == nullptr) {
            tcp_.send(bytes);
        } else if (
            !bytes.empty() && SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) !=
                                  static_cast<int>(bytes.size())) {
            throw std::runtime_error("SSL_write");
        }
    }

    std::string receive(std::size_t size)
    {
        if (ssl_ == nullptr) {
            return tcp_.receive(size);
        }
        std::string bytes(size, '\0');
        for (std::size_t got = 0; got < size;) {
            const int n = SSL_read(ssl_.get(), bytes.data() + got, static_cast<int>(size - got));
            if (n <= 0) {
                throw std::runtime_error("the stream ended after " + std::to_string(got));
            }
            got += static_cast<std::size_t>(n);
        }
        return bytes;
    }

    /// Everything until the stream ends: `finished` is a FIN, under TLS a close_notify; any other
    /// end of a TLS stream counts as a reset.
    remainder receive_rest()
    {
        if (ssl_ == nullptr) {
            return tcp_.receive_rest();
        }
        remainder rest{.bytes = {}, .end = stream_end::finished};
        char buffer[16384];
        for (;;) {
            ERR_clear_error();
            const int n = SSL_read(ssl_.get(), buffer, sizeof buffer);
            if (n > 0) {
                rest.bytes.append(buffer, static_cast<std::size_t>(n));
                continue;
            }
            const int reason = SSL_get_error(ssl_.get(), n);
            rest.end = reason == SSL_ERROR_ZERO_RETURN ? stream_end::finished
                       : reason == SSL_ERROR_WANT_READ ? stream_end::timed_out
                                                       : stream_end::reset;
            return rest;
        }
    }

    /// FIN, under TLS behind a close_notify; reading goes on.
    void finish()
    {
        if (ssl_ != nullptr) {
            SSL_shutdown(ssl_.get());
        }
        tcp_.finish();
    }

    void reset()
    {
        tcp_.reset();
    }

    client& tcp() noexcept
    {
        return tcp_;
    }

    SSL* tls() const noexcept
    {
        return ssl_.get();
    }

private:
    struct ssl_deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            SSL_free(ssl);
        }
    };

    client tcp_;
    std::unique_ptr<SSL, ssl_deleter> ssl_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_PEER_HPP
