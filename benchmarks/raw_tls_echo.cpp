// What it is: the least that a TLS echo server on one core can cost, OpenSSL on the descriptor and
// epoll. It is the 1.00 that the other TLS servers are measured against.
// How to run it: raw_tls_echo [127.0.0.1:7777] --tls CERTIFICATE KEY

#include "common/epoll_loop.hpp"
#include "common/loopback.hpp"
#include "common/server_arguments.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{
using tls_context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

/// Shared by all sessions: what was read is sent, or copied to `unsent_`, before the next read.
std::array<char, 65536> buffer;

/// Level-triggered, so that no read has to fail before the next wait; read-ahead takes a record's
/// header and body in one system call.
class session
{
public:
    static constexpr std::uint32_t interest = EPOLLIN;

    session(SSL_CTX* context, int descriptor)
        : descriptor_(descriptor), ssl_(SSL_new(context), &SSL_free)
    {
        if (!ssl_ || SSL_set_fd(ssl_.get(), descriptor_) != 1)
            throw std::runtime_error("SSL_new failed");
        SSL_set_accept_state(ssl_.get());
    }

    session(const session&) = delete;
    session& operator=(const session&) = delete;

    ~session()
    {
        ssl_.reset();
        ::close(descriptor_);
    }

    bool on_ready(int poll, std::uint32_t)
    {
        const auto wanted = progress();
        if (wanted != 0 && wanted != watched_) {
            bench::watch(poll, EPOLL_CTL_MOD, descriptor_, wanted, this);
            watched_ = wanted;
        }
        return wanted != 0;
    }

private:
    /// Works until the socket blocks; returns the event to wait for, 0 when the session is over.
    std::uint32_t progress()
    {
        if (!unsent_.empty()) {
            const auto pending = std::move(unsent_);
            unsent_.clear();
            const auto wanted = send(pending.data(), pending.size());
            if (!unsent_.empty() || wanted == 0)
                return wanted;
        }
        do {
            ERR_clear_error();
            std::size_t n = 0;
            const int result = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &n);
            if (result != 1)
                return blocked(result);
            const auto wanted = send(buffer.data(), n);
            if (!unsent_.empty() || wanted == 0)
                return wanted;
        } while (SSL_has_pending(ssl_.get()) != 0);
        return EPOLLIN;
    }

    std::uint32_t send(const char* data, std::size_t size)
    {
        std::size_t sent = 0;
        while (sent < size) {
            ERR_clear_error();
            std::size_t n = 0;
            const int result = SSL_write_ex(ssl_.get(), data + sent, size - sent, &n);
            if (result != 1) {
                unsent_.assign(data + sent, data + size);
                return blocked(result);
            }
            sent += n;
        }
        return EPOLLIN;
    }

    std::uint32_t blocked(int result)
    {
        const int why = SSL_get_error(ssl_.get(), result);
        if (why == SSL_ERROR_WANT_READ)
            return EPOLLIN;
        if (why == SSL_ERROR_WANT_WRITE)
            return EPOLLOUT;
        if (why == SSL_ERROR_ZERO_RETURN)
            SSL_shutdown(ssl_.get());
        return 0;
    }

    int descriptor_;
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
    std::uint32_t watched_ = interest;
    std::vector<char> unsent_{};
};

tls_context make_context(const bench::server_arguments& arguments)
{
    tls_context context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_read_ahead(context.get(), 1);
    SSL_CTX_set_mode(
        context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                           SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    const auto* certificate = arguments.certificate.c_str();
    const auto* key = arguments.private_key.c_str();
    if (SSL_CTX_use_certificate_chain_file(context.get(), certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context.get(), key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        throw std::invalid_argument("certificate or key not usable");
    }
    return context;
}
} // namespace

int main(int count, char** values)
try {
    const auto arguments = bench::parse_server_arguments(count, values);
    if (!arguments.tls())
        throw std::invalid_argument("--tls CERTIFICATE KEY is missing");
    std::signal(SIGPIPE, SIG_IGN);
    const auto context = make_context(arguments);
    auto address = bench::parse_loopback(arguments.address);
    const int listener = bench::listen_on(address);
    bench::announce(bench::to_string(address));
    bench::run_epoll_loop(listener, session::interest, [&](int descriptor) {
        return std::make_unique<session>(context.get(), descriptor);
    });
} catch (const std::exception& problem) {
    std::fprintf(stderr, "raw_tls_echo: %s\n", problem.what());
    return 2;
}
