// The only network that benchmarks may touch: 127.0.0.0/8. Parses such addresses and opens
// listening sockets on them, without any server library.

#ifndef FAIRLEAD_BENCHMARKS_COMMON_LOOPBACK_HPP
#define FAIRLEAD_BENCHMARKS_COMMON_LOOPBACK_HPP

#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

namespace bench
{
/// Throws what errno says.
[[noreturn]] inline void throw_errno(const char* what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

/// Parses "127.x.y.z:port" (port 0 allowed). Anything else, other networks included, throws
/// std::invalid_argument with a message that quotes the text.
inline sockaddr_in parse_loopback(std::string_view text)
{
    const auto refuse = [&](const char* why) {
        return std::invalid_argument("address '" + std::string(text) + "': " + why);
    };
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        throw refuse("expected 127.x.y.z:port");

    sockaddr_in address{};
    address.sin_family = AF_INET;
    const std::string host(text.substr(0, colon));
    if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
        throw refuse("expected 127.x.y.z:port");
    if ((ntohl(address.sin_addr.s_addr) >> 24) != 127)
        throw refuse("only 127.0.0.0/8 is accepted, this is not a tool to load other machines");

    std::uint16_t port = 0;
    const auto digits = text.substr(colon + 1);
    const auto* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, port);
    if (parsed.ec != std::errc{} || parsed.ptr != end)
        throw refuse("the port is not a number up to 65535");
    address.sin_port = htons(port);
    return address;
}

/// The address as "127.x.y.z:port".
inline std::string to_string(const sockaddr_in& address)
{
    char text[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(address.sin_port));
}

inline sockaddr* as_sockaddr(sockaddr_in& address)
{
    return reinterpret_cast<sockaddr*>(&address);
}

inline void set_no_delay(int descriptor)
{
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/// A non-blocking listening socket on `address`, which receives the bound port.
inline int listen_on(sockaddr_in& address)
{
    const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        throw_errno("socket");
    const int on = 1;
    ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(descriptor, as_sockaddr(address), sizeof address) != 0)
        throw_errno("bind");
    if (::listen(descriptor, 4096) != 0)
        throw_errno("listen");
    socklen_t length = sizeof address;
    if (::getsockname(descriptor, as_sockaddr(address), &length) != 0)
        throw_errno("getsockname");
    return descriptor;
}

/// Raises the soft descriptor limit to the hard one and returns it.
inline std::size_t raise_descriptor_limit()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        throw_errno("getrlimit");
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        ::getrlimit(RLIMIT_NOFILE, &limit);
    }
    return static_cast<std::size_t>(limit.rlim_cur);
}
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_COMMON_LOOPBACK_HPP
