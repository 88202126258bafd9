// fairlead: the system calls that a simulated kernel knows, by name.

#ifndef FAIRLEAD_TESTING_KERNEL_CALLS_HPP
#define FAIRLEAD_TESTING_KERNEL_CALLS_HPP

#include <fairlead/detail/namespace.hpp>

#include <array>
#include <bitset>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
enum class call : unsigned char
{
    accept,
    accept4,
    bind,
    close,
    connect,
    dup,
    epoll_create,
    epoll_create1,
    epoll_ctl,
    epoll_wait,
    eventfd,
    fcntl,
    getpeername,
    getrandom,
    getsockname,
    getsockopt,
    ioctl,
    listen,
    open,
    pipe,
    pipe2,
    poll,
    read,
    readv,
    recv,
    recvfrom,
    recvmsg,
    send,
    sendfile,
    sendmsg,
    sendto,
    setsockopt,
    shutdown,
    socket,
    splice,
    timerfd_create,
    timerfd_gettime,
    timerfd_settime,
    write,
    writev,
};

inline constexpr std::array<std::string_view, 40> call_names = {
    "accept",
    "accept4",
    "bind",
    "close",
    "connect",
    "dup",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd",
    "fcntl",
    "getpeername",
    "getrandom",
    "getsockname",
    "getsockopt",
    "ioctl",
    "listen",
    "open",
    "pipe",
    "pipe2",
    "poll",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "send",
    "sendfile",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "splice",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "write",
    "writev",
};

static_assert(call_names.size() == static_cast<std::size_t>(call::writev) + 1);

constexpr std::string_view to_string(call one) noexcept
{
    return call_names[static_cast<std::size_t>(one)];
}

using call_set = std::bitset<call_names.size()>;

/// "recv" is one call; "recv*" every one whose name begins so. Throws `std::invalid_argument` when
/// there is none.
inline call_set calls_named(std::string_view pattern)
{
    call_set found;
    const bool is_prefix = !pattern.empty() && pattern.back() == '*';
    const std::string_view start = pattern.substr(0, pattern.size() - (is_prefix ? 1 : 0));
    for (std::size_t index = 0; index < call_names.size(); ++index) {
        const bool fits =
            is_prefix ? call_names[index].starts_with(start) : call_names[index] == start;
        found.set(index, fits);
    }
    if (found.none()) {
        throw std::invalid_argument(
            "\"" + std::string(pattern) + "\" names no system call that the simulated kernel has");
    }
    return found;
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_CALLS_HPP
