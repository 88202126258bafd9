// fairlead: what the kernel tells of the queue of a listening socket, without taking anybody from it.

#ifndef FAIRLEAD_DETAIL_SERVER_LISTEN_QUEUE_HPP
#define FAIRLEAD_DETAIL_SERVER_LISTEN_QUEUE_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

namespace FAIRLEAD_NAMESPACE::detail::native
{
/// What accept(2) would say if it had a descriptor to give: nothing when somebody waits, or when the
/// kernel does not tell. By poll(2), so that it is the same that a wait for readiness goes by.
inline std::error_code look_for_client(int fd) noexcept
{
    ::pollfd asked{.fd = fd, .events = POLLIN, .revents = 0};
    const int answers = ::poll(&asked, 1, 0);
    if (answers == 0) {
        return {EAGAIN, std::system_category()};
    }
    if (answers < 0 || (asked.revents & POLLIN) != 0) {
        return {};
    }
    return {EINVAL, std::system_category()}; // it hangs up: it does not listen any more
}

/// Clients that wait in the queue of a listening socket, at most `bound`; none when it does not
/// listen. `bound` where somebody waits and the kernel does not tell how many (Linux alone does, and
/// of TCP alone: tcp(7)).
inline std::size_t queued_clients(int fd, std::size_t bound) noexcept
{
#if defined(__linux__)
    tcp_info info = {};
    socklen_t size = sizeof info;
    constexpr int listening = 10; // TCP_LISTEN, which not every libc names
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
        return info.tcpi_state == listening ? std::min<std::size_t>(info.tcpi_unacked, bound) : 0;
    }
#endif
    return look_for_client(fd) ? 0 : bound;
}

/// The longest listen queue that the kernel allows; 0: unknown.
inline int longest_backlog() noexcept
{
#if defined(__linux__)
    const descriptor file(::open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC));
    char text[16] = {};
    if (file && ::read(file.get(), text, sizeof text - 1) > 0) {
        return std::atoi(text);
    }
#endif
    return 0;
}
} // namespace FAIRLEAD_NAMESPACE::detail::native

#endif // FAIRLEAD_DETAIL_SERVER_LISTEN_QUEUE_HPP
