// A plain blocking client over POSIX sockets, so that the tests do not use our own code at both
// ends. Every wait is bounded: what does not come within ten seconds fails the test.

#ifndef FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP
#define FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP

#include "tests/support/networks.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace test
{
/// How reading ended.
enum class stream_end
{
    /// FIN.
    finished,
    /// RST.
    reset,
    /// Nothing came in time.
    timed_out,
};

/// What was read until the end, and what the end was.
struct remainder
{
    std::string bytes;
    stream_end end;
};

class client
{
public:
    static constexpr int patience_seconds = 10;

    /// On Unix sockets `port` may stand for one (networks.hpp).
    explicit client(std::uint16_t port, const char* address = "127.0.0.1", int receive_buffer = 0)
        : client(unix_network::knows(port) ? AF_UNIX : AF_INET, receive_buffer)
    {
        if (unix_network::knows(port)) {
            const unix_address target(unix_network::path_of(port));
            connect(target.data(), target.size);
            return;
        }
        sockaddr_in target{};
        target.sin_family = AF_INET;
        target.sin_port = htons(port);
        ::inet_pton(AF_INET, address, &target.sin_addr);
        connect(reinterpret_cast<const sockaddr*>(&target), sizeof target);
    }

    /// Of a Unix socket, by its path, or "@name". `own_path`: a name that the client binds first.
    explicit client(const std::string& path, const std::string& own_path = {}) : client(AF_UNIX, 0)
    {
        if (!own_path.empty()) {
            const unix_address own(own_path);
            if (::bind(fd_, own.data(), own.size) != 0) {
                fail("bind");
            }
        }
        const unix_address target(path);
        connect(target.data(), target.size);
    }

    client(client&& other) noexcept : fd_(std::exchange(other.fd_, -1))
    {}

    client& operator=(client&& other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }

    ~client()
    {
        close();
    }

    int fd() const noexcept
    {
        return fd_;
    }

    /// Sends all of it; throws when the peer does not take it.
    void send(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n <= 0) {
                throw std::system_error(errno, std::system_category(), "send");
            }
            bytes.remove_prefix(static_cast<std::size_t>(n));
        }
    }

    /// Sends what it can; false once the peer takes nothing more.
    bool try_send(std::string_view bytes) noexcept
    {
        return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(bytes.size());
    }

    /// Exactly `size` bytes; throws when the stream ends or nothing comes.
    std::string receive(std::size_t size)
    {
        std::string bytes(size, '\0');
        std::size_t got = 0;
        while (got < size) {
            const ssize_t n = ::recv(fd_, bytes.data() + got, size - got, 0);
            if (n == 0) {
                throw std::runtime_error(
                    "the stream ended after " + std::to_string(got) + " of " +
                    std::to_string(size) + " bytes");
            }
            if (n < 0) {
                throw std::system_error(errno, std::system_category(), "recv");
            }
            got += static_cast<std::size_t>(n);
        }
        return bytes;
    }

    /// Everything until the stream ends, one way or another.
    remainder receive_rest()
    {
        remainder rest{.bytes = {}, .end = stream_end::finished};
        char buffer[65536];
        for (;;) {
            const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
            if (n > 0) {
                rest.bytes.append(buffer, static_cast<std::size_t>(n));
                continue;
            }
            if (n < 0) {
                rest.end = errno == EAGAIN || errno == EWOULDBLOCK ? stream_end::timed_out
                                                                   : stream_end::reset;
            }
            return rest;
        }
    }

    /// FIN; reading goes on.
    void finish()
    {
        ::shutdown(fd_, SHUT_WR);
    }

    /// RST.
    void reset()
    {
        const linger off{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &off, sizeof off);
        close();
    }

    void close() noexcept
    {
        if (fd_ >= 0) {
            ::close(std::exchange(fd_, -1));
        }
    }

    std::uint16_t local_port() const
    {
        sockaddr_in own{};
        socklen_t size = sizeof own;
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size);
        return ntohs(own.sin_port);
    }

private:
    client(int family, int receive_buffer) : fd_(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        const timeval timeout{.tv_sec = patience_seconds, .tv_usec = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        if (receive_buffer > 0) {
            ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        }
    }

    void connect(const sockaddr* target, socklen_t size)
    {
        if (fd_ < 0 || ::connect(fd_, target, size) != 0) {
            fail("connect");
        }
    }

    /// The destructor will do its part: another constructor has run to its end.
    [[noreturn]] static void fail(const char* what)
    {
        throw std::system_error(errno, std::system_category(), what);
    }

    int fd_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP
