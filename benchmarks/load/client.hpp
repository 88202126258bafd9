// One connection of the load generator: a non-blocking socket, TLS over it if asked, and nothing
// else.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_CLIENT_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_CLIENT_HPP

#include "common/loopback.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace bench
{
enum class io_status
{
    done,
    wants_read,
    wants_write,
    /// The peer has finished.
    closed,
    failed,
};

struct io_result
{
    io_status status;
    std::size_t size = 0;
};

class client_socket
{
public:
    client_socket() = default;

    client_socket(const client_socket&) = delete;
    client_socket& operator=(const client_socket&) = delete;

    client_socket(client_socket&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)), ssl_(std::move(other.ssl_))
    {}

    client_socket& operator=(client_socket&&) = delete;

    ~client_socket()
    {
        close();
    }

    int descriptor() const noexcept
    {
        return descriptor_;
    }

    /// Begins to connect from `source` (port 0); `done` or `wants_write`. `tls` may be null: plain
    /// TCP.
    io_status connect(sockaddr_in source, sockaddr_in target, SSL_CTX* tls)
    {
        descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (descriptor_ < 0)
            return io_status::failed;
        set_no_delay(descriptor_);
        // The port is chosen when both ends are known, so that each source has 28 000 per server.
        const int on = 1;
        ::setsockopt(descriptor_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (::bind(descriptor_, as_sockaddr(source), sizeof source) != 0)
            return io_status::failed;
        if (tls != nullptr) {
            ssl_.reset(SSL_new(tls));
            if (!ssl_ || SSL_set_fd(ssl_.get(), descriptor_) != 1)
                throw std::runtime_error("SSL_new failed");
            SSL_set_connect_state(ssl_.get());
        }
        if (::connect(descriptor_, as_sockaddr(target), sizeof target) == 0)
            return io_status::done;
        return errno == EINPROGRESS ? io_status::wants_write : io_status::failed;
    }

    /// After `wants_write`: did it work?
    bool connected() const noexcept
    {
        int error = 0;
        socklen_t length = sizeof error;
        return ::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
    }

    io_status handshake()
    {
        if (!ssl_)
            return io_status::done;
        ERR_clear_error();
        const int result = SSL_do_handshake(ssl_.get());
        return result == 1 ? io_status::done : tls_status(result);
    }

    io_result receive(char* data, std::size_t size)
    {
        if (ssl_) {
            ERR_clear_error();
            std::size_t n = 0;
            const int result = SSL_read_ex(ssl_.get(), data, size, &n);
            return result == 1 ? io_result{io_status::done, n} : io_result{tls_status(result)};
        }
        return plain_result(::recv(descriptor_, data, size, 0), io_status::wants_read);
    }

    /// Has TLS taken bytes from the socket that `receive` has not returned? Epoll does not know
    /// them.
    bool has_pending() const noexcept
    {
        return ssl_ && SSL_has_pending(ssl_.get()) != 0;
    }

    io_result send(const char* data, std::size_t size)
    {
        if (ssl_) {
            ERR_clear_error();
            std::size_t n = 0;
            const int result = SSL_write_ex(ssl_.get(), data, size, &n);
            return result == 1 ? io_result{io_status::done, n} : io_result{tls_status(result)};
        }
        return plain_result(::send(descriptor_, data, size, MSG_NOSIGNAL), io_status::wants_write);
    }

    /// An orderly end, after close_notify with TLS.
    void close() noexcept
    {
        if (descriptor_ < 0)
            return;
        if (ssl_ && SSL_is_init_finished(ssl_.get()) != 0) {
            ERR_clear_error();
            SSL_shutdown(ssl_.get());
        }
        ssl_.reset();
        ::close(descriptor_);
        descriptor_ = -1;
    }

private:
    static io_result plain_result(ssize_t n, io_status when_blocked)
    {
        if (n > 0)
            return {io_status::done, static_cast<std::size_t>(n)};
        if (n == 0)
            return {io_status::closed};
        return {errno == EAGAIN ? when_blocked : io_status::failed};
    }

    io_status tls_status(int result) const
    {
        switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            return io_status::wants_read;
        case SSL_ERROR_WANT_WRITE:
            return io_status::wants_write;
        case SSL_ERROR_ZERO_RETURN:
            return io_status::closed;
        default:
            return io_status::failed;
        }
    }

    int descriptor_ = -1;
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, &SSL_free};
};

/// What the generator remembers of one connection.
struct client
{
    client_socket socket{};
    enum
    {
        closed,
        connecting,
        handshaking,
        open,
    } state = closed;
    /// The epoll events that the socket is registered for.
    std::uint32_t watched = 0;
    /// Where in the endless payload this connection's first byte is.
    std::uint64_t origin = 0;
    /// Bytes that should be, and have been, sent; bytes received.
    std::uint64_t to_send = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    /// When each message in flight was due, in a ring.
    std::vector<std::uint64_t> started{};
};
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_CLIENT_HPP
