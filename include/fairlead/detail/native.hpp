// fairlead: the calls to the kernel that Asio has no name for, each with an error code and without
// state. POSIX; what only Linux has is left out elsewhere, and the functions say what then happens.

#ifndef FAIRLEAD_DETAIL_NATIVE_HPP
#define FAIRLEAD_DETAIL_NATIVE_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/integer_cast.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <string>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#if defined(__linux__)
#include <linux/sockios.h>
#endif

namespace fairlead::detail::native
{
/// Of calls that set up: comparable with `std::errc`.
inline std::error_code last_error() noexcept
{
    return {errno, std::system_category()};
}

/// Of calls that move bytes: as Asio tells it, comparable with `asio::error`, whose category is not
/// the standard library's in every version.
inline std::error_code last_io_error() noexcept
{
    return {errno, asio::error::get_system_category()};
}

/// Owns a descriptor.
class descriptor
{
public:
    descriptor() = default;

    explicit descriptor(int fd) noexcept : fd_(fd)
    {}

    descriptor(descriptor&& other) noexcept : fd_(other.release())
    {}

    descriptor& operator=(descriptor&& other) noexcept
    {
        reset(other.release());
        return *this;
    }

    ~descriptor()
    {
        reset();
    }

    int get() const noexcept
    {
        return fd_;
    }

    explicit operator bool() const noexcept
    {
        return fd_ >= 0;
    }

    int release() noexcept
    {
        return std::exchange(fd_, -1);
    }

    void reset(int fd = -1) noexcept
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

/// A descriptor that is kept open only to be given back when no other is left.
inline descriptor open_reserve() noexcept
{
    return descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

/// Takes one client from the listening socket: close-on-exec, not blocking. `EINTR` is retried.
inline descriptor accept(
    int listener, asio::ip::tcp::endpoint& remote, std::error_code& error) noexcept
{
    for (;;) {
        auto size = integer_cast<socklen_t>(remote.capacity());
#if defined(__linux__) || defined(__FreeBSD__)
        const int fd = ::accept4(listener, remote.data(), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
#else
        const int fd = ::accept(listener, remote.data(), &size);
        if (fd >= 0) {
            ::fcntl(fd, F_SETFD, FD_CLOEXEC);
            ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
        }
#endif
        if (fd >= 0) {
#if defined(SO_NOSIGPIPE)
            const int on = 1;
            ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
            remote.resize(size);
            error.clear();
            return descriptor(fd);
        }
        if (errno != EINTR) {
            error = last_error();
            return {};
        }
    }
}

/// Makes the next close of the socket a reset, which discards what the kernel still holds for it.
inline void reset_on_close(int fd) noexcept
{
    const ::linger off{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
}

/// The bound address; unspecified, with an error, when the kernel does not say.
inline asio::ip::tcp::endpoint local_endpoint(int fd, std::error_code& error) noexcept
{
    asio::ip::tcp::endpoint endpoint;
    auto size = integer_cast<socklen_t>(endpoint.capacity());
    if (::getsockname(fd, endpoint.data(), &size) != 0) {
        error = last_error();
        return {};
    }
    error.clear();
    endpoint.resize(size);
    return endpoint;
}

inline asio::ip::tcp::endpoint local_endpoint(int fd) noexcept
{
    std::error_code ignored;
    return local_endpoint(fd, ignored);
}

/// An IPv4 client of a dual-stack socket as the IPv4 address that it is.
inline asio::ip::tcp::endpoint unmapped(const asio::ip::tcp::endpoint& endpoint) noexcept
{
    if (endpoint.address().is_v6() && endpoint.address().to_v6().is_v4_mapped()) {
        return {
            asio::ip::make_address_v4(asio::ip::v4_mapped, endpoint.address().to_v6()),
            endpoint.port()};
    }
    return endpoint;
}

/// What a call on a non-blocking socket came to: bytes, nothing for now, the end, or an error.
struct io_result
{
    std::size_t bytes = 0;
    bool would_block = false;
    std::error_code error = {};
};

/// The two names of the error of a call that would have to wait, which are one on most systems.
inline bool is_not_ready(int error) noexcept
{
#if EAGAIN != EWOULDBLOCK
    if (error == EWOULDBLOCK) {
        return true;
    }
#endif
    return error == EAGAIN;
}

/// Reads what is there, without waiting. No bytes, no error and not `would_block`: the peer has
/// finished.
inline io_result receive(int fd, void* data, std::size_t size, int flags = 0) noexcept
{
    for (;;) {
        const ssize_t n = ::recv(fd, data, size, flags | MSG_DONTWAIT);
        if (n >= 0) {
            return {.bytes = static_cast<std::size_t>(n)};
        }
        if (is_not_ready(errno)) {
            return {.would_block = true};
        }
        if (errno != EINTR) {
            return {.error = last_io_error()};
        }
    }
}

#if defined(MSG_NOSIGNAL)
inline constexpr int send_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
inline constexpr int send_flags = MSG_DONTWAIT; // SO_NOSIGPIPE was set at accept
#endif

/// What `call()`, which sends, came to.
template <typename Call>
io_result sent_by(Call call) noexcept
{
    for (;;) {
        const ssize_t n = call();
        if (n >= 0) {
            return {.bytes = static_cast<std::size_t>(n)};
        }
        if (is_not_ready(errno)) {
            return {.would_block = true};
        }
        if (errno != EINTR) {
            return {.error = last_io_error()};
        }
    }
}

/// Sends what the kernel takes, without waiting and without SIGPIPE.
inline io_result send(int fd, const void* data, std::size_t size) noexcept
{
    return sent_by([=] { return ::send(fd, data, size, send_flags); });
}

/// The same for a sequence of buffers: the first 64 that are not empty. Of none it sends none.
template <typename ConstBuffers>
io_result send_buffers(int fd, const ConstBuffers& buffers) noexcept
{
    constexpr std::size_t most = 64;
    ::iovec parts[most]; // NOLINT(cppcoreguidelines-pro-type-member-init)
    std::size_t count = 0;
    const auto end = asio::buffer_sequence_end(buffers);
    for (auto it = asio::buffer_sequence_begin(buffers); it != end && count < most; ++it) {
        const asio::const_buffer part(*it);
        if (part.size() != 0) {
            parts[count++] = {const_cast<void*>(part.data()), part.size()};
        }
    }
    if (count == 0) {
        return {};
    }
    if (count == 1) {
        return send(fd, parts[0].iov_base, parts[0].iov_len);
    }
    ::msghdr message = {};
    message.msg_iov = parts;
    message.msg_iovlen = integer_cast<decltype(message.msg_iovlen)>(count);
    return sent_by([&] { return ::sendmsg(fd, &message, send_flags); });
}

/// The error that the socket has met, which is told once; empty: none.
inline std::error_code take_error(int fd) noexcept
{
    int error = 0;
    socklen_t size = sizeof error;
    return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0
               ? std::error_code(error, asio::error::get_system_category())
               : std::error_code();
}

/// Bytes that have arrived and were not read.
inline std::size_t unread_bytes(int fd) noexcept
{
    int bytes = 0;
    return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}

/// The first of them; empty: there is none.
inline std::optional<std::byte> first_unread_byte(int fd) noexcept
{
    std::byte first = {};
    return ::recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1 ? std::optional(first)
                                                               : std::nullopt;
}

/// Bytes that were written and that the peer has not acknowledged: `SIOCOUTQ` of Linux (tcp(7)),
/// `FIONWRITE` of FreeBSD, `SO_NWRITE` of macOS. 0 where the kernel does not tell: a slow peer then
/// looks like one that takes everything at once.
inline std::size_t unacknowledged_bytes([[maybe_unused]] int fd) noexcept
{
    int bytes = 0;
#if defined(SIOCOUTQ)
    const bool known = ::ioctl(fd, SIOCOUTQ, &bytes) == 0;
#elif defined(FIONWRITE)
    const bool known = ::ioctl(fd, FIONWRITE, &bytes) == 0;
#elif defined(SO_NWRITE)
    socklen_t size = sizeof bytes;
    const bool known = ::getsockopt(fd, SOL_SOCKET, SO_NWRITE, &bytes, &size) == 0;
#else
    const bool known = false;
#endif
    return known && bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}

template <typename Value>
std::error_code set_option(int fd, int level, int name, const Value& value) noexcept
{
    return ::setsockopt(fd, level, name, &value, sizeof value) != 0 ? last_error()
                                                                    : std::error_code();
}

/// Sets options that a socket can do without, and tells `refused(name, error)` of each that the
/// kernel refuses.
template <typename Refused>
class option_setter
{
public:
    option_setter(int fd, Refused& refused) noexcept : fd_(fd), refused_(refused)
    {}

    template <typename Value>
    void set(const char* text, int level, int name, const Value& value) const
    {
        if (const auto error = set_option(fd_, level, name, value)) {
            refused_(text, error);
        }
    }

private:
    int fd_;
    Refused& refused_;
};

/// Applies the options of an accepted socket, which it inherits from the listening one. All are
/// tried; `refused(name, error)` is told of each that fails.
template <typename Refused>
void tune_connection(int fd, const socket_config& options, Refused&& refused)
{
    const option_setter setter(fd, refused);
    if (options.no_delay) {
        setter.set("TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (options.keep_alive) {
        setter.set("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined(TCP_KEEPIDLE)
        constexpr int idle = TCP_KEEPIDLE;
#elif defined(TCP_KEEPALIVE)
        constexpr int idle = TCP_KEEPALIVE; // macOS
#endif
#if defined(TCP_KEEPIDLE) || defined(TCP_KEEPALIVE)
        if (options.keep_alive_idle.count() > 0) {
            setter.set(
                "TCP_KEEPIDLE", IPPROTO_TCP, idle,
                static_cast<int>(options.keep_alive_idle.count()));
        }
#endif
#if defined(TCP_KEEPINTVL)
        if (options.keep_alive_interval.count() > 0) {
            setter.set(
                "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL,
                static_cast<int>(options.keep_alive_interval.count()));
        }
        if (options.keep_alive_count > 0) {
            setter.set("TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, options.keep_alive_count);
        }
#endif
    }
#if defined(TCP_USER_TIMEOUT)
    if (options.user_timeout.count() > 0) {
        setter.set(
            "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT,
            static_cast<unsigned int>(options.user_timeout.count()));
    }
#endif
}

/// Applies the options of a listening socket before it is bound, as `tune_connection` does.
template <typename Refused>
void tune_listener(int fd, const socket_config& options, Refused&& refused)
{
    const option_setter setter(fd, refused);
    setter.set("SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.receive_buffer > 0) {
        setter.set("SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, options.receive_buffer);
    }
    if (options.send_buffer > 0) {
        setter.set("SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, options.send_buffer);
    }
#if defined(TCP_FASTOPEN)
    if (options.fast_open > 0) {
        setter.set("TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, options.fast_open);
    }
#endif
#if defined(TCP_DEFER_ACCEPT)
    if (options.defer_accept.count() > 0) {
        setter.set(
            "TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT,
            static_cast<int>(options.defer_accept.count()));
    }
#endif
}

/// Whether several sockets may share a port and the kernel spreads clients over them (Linux).
/// Elsewhere the option exists without the spreading, and counts as missing.
inline constexpr bool has_reuse_port =
#if defined(__linux__) && defined(SO_REUSEPORT)
    true;
#else
    false;
#endif

inline std::error_code share_port([[maybe_unused]] int fd) noexcept
{
#if defined(SO_REUSEPORT)
    return set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#else
    return std::make_error_code(std::errc::operation_not_supported);
#endif
}
} // namespace fairlead::detail::native

#endif // FAIRLEAD_DETAIL_NATIVE_HPP
