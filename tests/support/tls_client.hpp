// A TLS client over OpenSSL itself and a blocking socket that notes what a test of closing must know: every alert that
// came, and how the TCP stream below ended after the TLS stream did.

#ifndef FAIRLEAD_TESTS_SUPPORT_TLS_CLIENT_HPP
#define FAIRLEAD_TESTS_SUPPORT_TLS_CLIENT_HPP

#include "support/certificates.hpp"
#include "support/client.hpp"
#include <fairlead/config.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <csignal>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace test
{
/// How a TLS stream ended.
struct tls_remainder
{
    std::string bytes;
    /// The stream ended with close_notify.
    bool close_notify = false;
    /// The descriptions of all alerts, in order (RFC 8446, section 6).
    std::vector<int> alerts;
    /// What TCP brought after the end of the TLS stream: nothing, one hopes, and then FIN.
    remainder below = {.bytes = {}, .end = stream_end::finished};
};

class tls_client
{
public:
    static constexpr int close_notify = 0;

    /// Shakes hands; throws when that fails. The server's certificate is not verified.
    explicit tls_client(client connected, int max_version = TLS1_3_VERSION)
        : tcp_(std::move(connected)), alerts_(std::make_unique<std::vector<int>>())
    {
        std::signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
        const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
            SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
        SSL_CTX_set_max_proto_version(context.get(), max_version);
        ssl_.reset(SSL_new(context.get()));
        SSL_set_msg_callback(ssl_.get(), &tls_client::note_message);
        SSL_set_msg_callback_arg(ssl_.get(), alerts_.get());
        SSL_set_fd(ssl_.get(), tcp_.fd());
        ERR_clear_error();
        if (SSL_connect(ssl_.get()) != 1) {
            throw std::runtime_error("the TLS handshake failed");
        }
    }

    client& tcp() noexcept
    {
        return tcp_;
    }

    SSL* ssl() const noexcept
    {
        return ssl_.get();
    }

    /// Sends all of it; throws when the peer does not take it.
    void send(std::string_view bytes)
    {
        if (!try_send(bytes)) {
            throw std::runtime_error("SSL_write");
        }
    }

    bool try_send(std::string_view bytes)
    {
        ERR_clear_error();
        return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) ==
               static_cast<int>(bytes.size());
    }

    /// Exactly `size` bytes; throws when the stream ends or nothing comes.
    std::string receive(std::size_t size)
    {
        std::string bytes(size, '\0');
        std::size_t got = 0;
        while (got < size) {
            ERR_clear_error();
            const int n = SSL_read(ssl_.get(), bytes.data() + got, static_cast<int>(size - got));
            if (n <= 0) {
                throw std::runtime_error("the TLS stream ended after " + std::to_string(got));
            }
            got += static_cast<std::size_t>(n);
        }
        return bytes;
    }

    /// Everything until the stream ends, and what comes below it afterwards.
    tls_remainder receive_rest()
    {
        tls_remainder rest;
        char buffer[16384];
        for (;;) {
            ERR_clear_error();
            const int n = SSL_read(ssl_.get(), buffer, sizeof buffer);
            if (n <= 0) {
                rest.close_notify = SSL_get_error(ssl_.get(), n) == SSL_ERROR_ZERO_RETURN;
                break;
            }
            rest.bytes.append(buffer, static_cast<std::size_t>(n));
        }
        rest.below = tcp_.receive_rest();
        rest.alerts = *alerts_;
        return rest;
    }

    /// close_notify; reading goes on.
    void finish()
    {
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
    }

private:
    struct ssl_deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            SSL_free(ssl);
        }
    };

    static void note_message(
        int is_sent, int, int content_type, const void* message, std::size_t size, SSL*,
        void* alerts)
    {
        if (is_sent == 0 && content_type == SSL3_RT_ALERT && size == 2) {
            static_cast<std::vector<int>*>(alerts)->push_back(
                static_cast<const unsigned char*>(message)[1]);
        }
    }

    client tcp_;
    std::unique_ptr<std::vector<int>> alerts_; // OpenSSL keeps its address
    std::unique_ptr<SSL, ssl_deleter> ssl_;
};

/// TLS with a certificate made on the spot.
inline fairlead::tls_config make_tls()
{
    static const certificate own{
        certificate_options{.dns_names = {"localhost"}, .ip_addresses = {"127.0.0.1"}}};
    fairlead::tls_config config;
    config.certificate = own.certificate_pem;
    config.private_key = own.key_pem;
    return config;
}
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_TLS_CLIENT_HPP
