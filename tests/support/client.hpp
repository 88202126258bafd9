// A plain blocking client over POSIX sockets, so that the tests do not use our own code at both
// ends. Every wait is bounded: what does not come within ten seconds fails the test.

#ifndef FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP
#define FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP

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

    explicit client(std::uint16_t port, const char* address = "127.0.0.1", int receive_buffer = 0)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        const timeval timeout{.tv_sec = patience_seconds, .tv_usec = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        if (receive_buffer > 0) {
            ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        }
        sockaddr_in target{};
        target.sin_family = AF_INET;
        target.sin_port = htons(port);
        ::inet_pton(AF_INET, address, &target.sin_addr);
        if (fd_ < 0 ||
            ::connect(fd_, reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0) {
            const std::error_code error(errno, std::system_category());
            close();
            throw std::system_error(error, "connect");
        }
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
    int fd_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_CLIENT_HPP
