// fairlead: the system calls on sockets, as a simulated kernel answers them.

#ifndef FAIRLEAD_TESTING_KERNEL_SOCKET_CALLS_HPP
#define FAIRLEAD_TESTING_KERNEL_SOCKET_CALLS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/address.hpp>
#include <fairlead/testing/kernel/file_calls.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/tcp_socket.hpp>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/tcp.h>
#include <new>
#include <span>
#include <string>
#include <sys/socket.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing::simulated::calls
{
/// Runs `body(socket)`.
template <typename Body>
answer on_socket(kernel& in, call which, int fd, long argument, Body body)
{
    return in.run(which, fd, argument, [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        if (!one) {
            return -EBADF;
        }
        const auto socket = std::dynamic_pointer_cast<tcp_socket>(one);
        return socket ? body(socket) : -ENOTSOCK;
    });
}

inline answer socket(kernel& in, int family, int type, int protocol)
{
    return in.run(call::socket, -1, family, [&]() -> answer {
        if (family != AF_INET && family != AF_INET6) {
            return -EAFNOSUPPORT;
        }
        const int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (kind != SOCK_STREAM || (protocol != 0 && protocol != IPPROTO_TCP)) {
            return -EPROTONOSUPPORT; // there is only TCP
        }
        const auto made = in.net.make_socket(family == AF_INET6);
        made->flags |= (type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0;
        return in.open_descriptor(made, (type & SOCK_CLOEXEC) != 0);
    });
}

inline answer bind(kernel& in, int fd, const sockaddr* where, socklen_t size)
{
    return on_socket(in, call::bind, fd, 0, [&](const auto& one) -> answer {
        const auto wanted = address::from(where, size);
        return wanted ? in.net.bind(one, *wanted) : -EINVAL;
    });
}

inline answer listen(kernel& in, int fd, int backlog)
{
    return on_socket(in, call::listen, fd, backlog, [&](const auto& one) {
        return in.net.listen(one, backlog);
    });
}

inline answer accept_as(kernel& in, call which, int fd, sockaddr* from, socklen_t* size, int flags)
{
    const file_ptr listener = in.table.find(fd);
    const bool may_wait = listener && !listener->is_nonblocking();
    return in.run_blocking(which, fd, flags, may_wait, [&]() -> answer {
        const auto one = std::dynamic_pointer_cast<tcp_socket>(listener);
        if (!one) {
            return listener ? -ENOTSOCK : -EBADF;
        }
        // As Linux: first the descriptor, so that a client is not lost for want of one.
        if (in.table.is_full(in.is_peer())) {
            return -EMFILE;
        }
        if (one->state() != tcp_socket::phase::listening) {
            return -EINVAL;
        }
        const auto client = one->take_client();
        if (!client) {
            return -EAGAIN;
        }
        client->flags |= (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0;
        client->remote.write(from, size);
        return in.open_descriptor(client, (flags & SOCK_CLOEXEC) != 0);
    });
}

inline answer accept4(kernel& in, int fd, sockaddr* from, socklen_t* size, int flags)
{
    return accept_as(in, call::accept4, fd, from, size, flags);
}

inline answer accept(kernel& in, int fd, sockaddr* from, socklen_t* size)
{
    return accept_as(in, call::accept, fd, from, size, 0);
}

inline answer connect(kernel& in, int fd, const sockaddr* to, socklen_t size)
{
    const answer begun = on_socket(in, call::connect, fd, 0, [&](const auto& one) -> answer {
        const auto wanted = address::from(to, size);
        return wanted ? in.net.connect(one, *wanted) : -EINVAL;
    });
    const auto one = std::dynamic_pointer_cast<tcp_socket>(in.table.find(fd));
    if (begun != -EINPROGRESS || !one || one->is_nonblocking()) {
        return begun;
    }
    while (one->state() == tcp_socket::phase::connecting) {
        in.pass(std::nullopt);
    }
    static_cast<void>(one->tells_of_connection());
    return -one->take_error();
}

inline answer recv(kernel& in, int fd, void* into, std::size_t size, int flags)
{
    const iovec part = {into, size};
    return read_from(in, call::recv, fd, {&part, 1}, flags);
}

inline answer recvfrom(
    kernel& in, int fd, void* into, std::size_t size, int flags, sockaddr*, socklen_t* from_size)
{
    const iovec part = {into, size};
    if (from_size != nullptr) {
        *from_size = 0; // a stream does not say from whom
    }
    return read_from(in, call::recvfrom, fd, {&part, 1}, flags);
}

inline answer recvmsg(kernel& in, int fd, msghdr* message, int flags)
{
    message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = 0;
    return read_from(in, call::recvmsg, fd, {message->msg_iov, message->msg_iovlen}, flags);
}

inline answer send(kernel& in, int fd, const void* from, std::size_t size, int flags)
{
    const iovec part = {const_cast<void*>(from), size};
    return write_to(in, call::send, fd, {&part, 1}, flags);
}

inline answer sendto(
    kernel& in, int fd, const void* from, std::size_t size, int flags, const sockaddr*, socklen_t)
{
    const iovec part = {const_cast<void*>(from), size};
    return write_to(in, call::sendto, fd, {&part, 1}, flags);
}

inline answer sendmsg(kernel& in, int fd, const msghdr* message, int flags)
{
    return write_to(in, call::sendmsg, fd, {message->msg_iov, message->msg_iovlen}, flags);
}

inline answer shutdown(kernel& in, int fd, int how)
{
    return on_socket(in, call::shutdown, fd, how, [&](const auto& one) -> answer {
        return how < SHUT_RD || how > SHUT_RDWR ? -EINVAL : one->shutdown(how);
    });
}

inline answer setsockopt(kernel& in, int fd, int level, int name, const void* value, socklen_t size)
{
    return on_socket(in, call::setsockopt, fd, name, [&](const auto& one) {
        return one->options.set(level, name, value, size);
    });
}

inline answer getsockopt(kernel& in, int fd, int level, int name, void* value, socklen_t* size)
{
    return on_socket(in, call::getsockopt, fd, name, [&](const auto& one) -> answer {
        if (level == SOL_SOCKET && name == SO_ERROR) {
            return socket_options::copy(one->take_error(), value, size);
        }
        if (level == SOL_SOCKET && name == SO_ACCEPTCONN) {
            return socket_options::copy(
                int(one->state() == tcp_socket::phase::listening), value, size);
        }
        if (level == SOL_SOCKET && name == SO_DOMAIN) {
            return socket_options::copy(one->local.is_v6 ? AF_INET6 : AF_INET, value, size);
        }
        if (level == IPPROTO_TCP && name == TCP_INFO) {
            return socket_options::copy(one->info(), value, size);
        }
        return one->options.get(level, name, value, size);
    });
}

inline answer getsockname(kernel& in, int fd, sockaddr* into, socklen_t* size)
{
    return on_socket(in, call::getsockname, fd, 0, [&](const auto& one) -> answer {
        one->local.write(into, size);
        return 0;
    });
}

inline answer getpeername(kernel& in, int fd, sockaddr* into, socklen_t* size)
{
    return on_socket(in, call::getpeername, fd, 0, [&](const auto& one) -> answer {
        if (!one->is_connected()) {
            return -ENOTCONN;
        }
        one->remote.write(into, size);
        return 0;
    });
}

/// A host that the simulation is to look up: not a number, and not none.
inline bool is_name(const char* host) noexcept
{
    if (host == nullptr) {
        return false;
    }
    in6_addr ignored = {};
    return ::inet_pton(AF_INET, host, &ignored) != 1 && ::inet_pton(AF_INET6, host, &ignored) != 1;
}

/// As getaddrinfo(3), an EAI_ value; what it finds is freed by the C library's freeaddrinfo.
inline int getaddrinfo(
    kernel& in, const char* host, const char* service, const addrinfo* hints, addrinfo** found)
{
    const auto known = in.names.find(host);
    if (known == in.names.end() || (hints != nullptr && (hints->ai_flags & AI_NUMERICHOST) != 0)) {
        return EAI_NONAME;
    }
    const int family = hints == nullptr ? AF_UNSPEC : hints->ai_family;
    const int port = service == nullptr ? 0 : std::atoi(service);
    *found = nullptr;
    addrinfo** next = found;
    for (const std::string& text : known->second) {
        const address one = address::parse(text, static_cast<std::uint16_t>(port));
        if (family != AF_UNSPEC && family != (one.is_v6 ? AF_INET6 : AF_INET)) {
            continue;
        }
        // One block each, as glibc has it.
        void* const block = std::calloc(1, sizeof(addrinfo) + sizeof(sockaddr_in6));
        if (block == nullptr) {
            return EAI_MEMORY;
        }
        auto* const made = new (block) addrinfo{};
        made->ai_family = one.is_v6 ? AF_INET6 : AF_INET;
        made->ai_socktype = SOCK_STREAM;
        made->ai_protocol = IPPROTO_TCP;
        made->ai_addr = reinterpret_cast<sockaddr*>(made + 1);
        made->ai_addrlen = sizeof(sockaddr_in6);
        one.write(made->ai_addr, &made->ai_addrlen);
        *next = made;
        next = &made->ai_next;
    }
    return *found == nullptr ? EAI_NONAME : 0;
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated::calls

#endif // FAIRLEAD_TESTING_KERNEL_SOCKET_CALLS_HPP
