// fairlead: the options of sockets, each with an error code. POSIX; what a system has no name for is
// left out there.

#ifndef FAIRLEAD_DETAIL_IO_SOCKET_OPTIONS_HPP
#define FAIRLEAD_DETAIL_IO_SOCKET_OPTIONS_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail::native
{
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

/// The same of an accepted Unix socket, which inherits nothing: the one option that counts.
inline void tune_unix_connection(int fd, const socket_config& options) noexcept
{
    if (options.send_buffer > 0) {
        set_option(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer);
    }
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
} // namespace FAIRLEAD_NAMESPACE::detail::native

#endif // FAIRLEAD_DETAIL_IO_SOCKET_OPTIONS_HPP
