// fairlead: the calls to the kernel that Asio has no name for, each with an error code and without
// state. POSIX; what only Linux has is left out elsewhere, and the functions say what then happens.

#ifndef FAIRLEAD_DETAIL_IO_NATIVE_HPP
#define FAIRLEAD_DETAIL_IO_NATIVE_HPP

#include <fairlead/detail/io/attempt.hpp>
#include <fairlead/detail/io/socket_address.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <system_error>
#include <type_traits>
#include <unistd.h>
#include <utility>
#if defined(__linux__)
#include <linux/sockios.h>
#endif

namespace FAIRLEAD_NAMESPACE::detail::native
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

/// A descriptor that an exec closes, and whose calls do not wait.
inline void set_flags(int fd) noexcept
{
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/// Takes one client from the listening socket: close-on-exec, not blocking. `EINTR` is retried. A
/// Unix client that has bound no name of its own, as most, is one without a path.
inline descriptor accept(int listener, endpoint& remote, std::error_code& error) noexcept
{
    for (;;) {
        socket_address from;
#if defined(__linux__) || defined(__FreeBSD__)
        const int fd = ::accept4(listener, from.data(), &from.size(), SOCK_CLOEXEC | SOCK_NONBLOCK);
#else
        const int fd = ::accept(listener, from.data(), &from.size());
        if (fd >= 0) {
            set_flags(fd);
        }
#endif
        if (fd >= 0) {
#if defined(SO_NOSIGPIPE)
            const int on = 1;
            ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
            remote = from.to_endpoint();
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
/// Unix sockets have no reset: what was sent stays readable, and behind it comes an end, or
/// ECONNRESET when something was left unread here.
inline void reset_on_close(int fd) noexcept
{
    const ::linger off{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off);
}

/// The bound address; none, with an error, when the kernel does not say.
inline endpoint local_endpoint(int fd, std::error_code& error) noexcept
{
    socket_address bound;
    if (::getsockname(fd, bound.data(), &bound.size()) != 0) {
        error = last_error();
        return {};
    }
    error.clear();
    return bound.to_endpoint();
}

inline endpoint local_endpoint(int fd) noexcept
{
    std::error_code ignored;
    return local_endpoint(fd, ignored);
}

/// An IPv4 client of a dual-stack socket as the IPv4 address that it is.
inline endpoint unmapped(const endpoint& where) noexcept
{
    constexpr unsigned char prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const auto& bytes = where.address().to_v6_bytes();
    if (!where.address().is_v6() ||
        !std::equal(std::begin(prefix), std::end(prefix), bytes.begin())) {
        return where;
    }
    return {
        ip_address(ip_address::v4_bytes{bytes[12], bytes[13], bytes[14], bytes[15]}), where.port()};
}

/// What a call on a non-blocking socket came to: bytes, nothing for now, the end, or an error.
struct io_result
{
    std::size_t bytes = 0;
    bool would_block = false;
    failure error = {};
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

/// What `call()`, which moves bytes, came to.
template <typename Call>
io_result moved_by(Call call) noexcept
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

/// The first 64 buffers of a sequence that are not empty, for the kernel.
struct gathered_buffers
{
    static constexpr std::size_t most = 64;

    template <typename Buffers>
    explicit gathered_buffers(const Buffers& buffers) noexcept
    {
        using buffer = std::conditional_t<
            asio::is_mutable_buffer_sequence<Buffers>::value, asio::mutable_buffer,
            asio::const_buffer>;
        const auto end = asio::buffer_sequence_end(buffers);
        for (auto it = asio::buffer_sequence_begin(buffers); it != end && count < most; ++it) {
            const buffer part(*it);
            if (part.size() != 0) {
                first[count++] = {
                    const_cast<void*>(static_cast<const void*>(part.data())), part.size()};
                size += part.size();
            }
        }
    }

    ::msghdr message() noexcept
    {
        ::msghdr made = {};
        made.msg_iov = first;
        made.msg_iovlen = integer_cast<decltype(made.msg_iovlen)>(count);
        return made;
    }

    ::iovec first[most]; // NOLINT(cppcoreguidelines-pro-type-member-init)
    std::size_t count = 0;
    std::size_t size = 0;
};

/// Reads what is there, without waiting. No bytes, no error and not `would_block`: the peer has
/// finished.
inline io_result receive(int fd, void* data, std::size_t size, int flags = 0) noexcept
{
    return moved_by([=] { return ::recv(fd, data, size, flags | MSG_DONTWAIT); });
}

/// The same for a sequence of buffers: the first 64 that are not empty, which have room for `asked`
/// bytes. Of none it reads none.
template <typename MutableBuffers>
io_result receive_buffers(int fd, const MutableBuffers& buffers, std::size_t& asked) noexcept
{
    if constexpr (std::is_convertible_v<const MutableBuffers&, asio::mutable_buffer>) {
        const asio::mutable_buffer only(buffers);
        asked = only.size();
        return only.size() != 0 ? receive(fd, only.data(), only.size()) : io_result{};
    }
    gathered_buffers parts(buffers);
    if (parts.count == 0) {
        return {};
    }
    asked = parts.size;
    if (parts.count == 1) {
        return receive(fd, parts.first[0].iov_base, parts.first[0].iov_len);
    }
    ::msghdr message = parts.message();
    return moved_by([&] { return ::recvmsg(fd, &message, MSG_DONTWAIT); });
}

#if defined(MSG_NOSIGNAL)
inline constexpr int send_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
inline constexpr int send_flags = MSG_DONTWAIT; // SO_NOSIGPIPE was set at accept
#endif

/// Sends what the kernel takes, without waiting and without SIGPIPE.
inline io_result send(int fd, const void* data, std::size_t size) noexcept
{
    return moved_by([=] { return ::send(fd, data, size, send_flags); });
}

/// The same for a sequence of buffers: the first 64 that are not empty. Of none it sends none.
template <typename ConstBuffers>
io_result send_buffers(int fd, const ConstBuffers& buffers) noexcept
{
    if constexpr (std::is_convertible_v<const ConstBuffers&, asio::const_buffer>) {
        const asio::const_buffer only(buffers);
        return only.size() != 0 ? send(fd, only.data(), only.size()) : io_result{};
    }
    gathered_buffers parts(buffers);
    if (parts.count == 0) {
        return {};
    }
    if (parts.count == 1) {
        return send(fd, parts.first[0].iov_base, parts.first[0].iov_len);
    }
    const ::msghdr message = parts.message();
    return moved_by([&] { return ::sendmsg(fd, &message, send_flags); });
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

/// The socket has met an error, which is left for whoever asks: the peer's reset, say.
inline bool has_failed(int fd) noexcept
{
    ::pollfd asked{.fd = fd, .events = 0, .revents = 0};
    return ::poll(&asked, 1, 0) == 1 && (asked.revents & POLLERR) != 0;
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
/// looks like one that takes everything at once. Of a Unix socket Linux tells the memory, headers
/// included, of what the peer has not read: more than the bytes, and 0 when it has read everything.
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
} // namespace FAIRLEAD_NAMESPACE::detail::native

#endif // FAIRLEAD_DETAIL_IO_NATIVE_HPP
