// fairlead: the system calls of a program that tests itself on a simulated kernel. To be included
// in exactly one source file of the test program: it defines functions of the C library, which then
// lead to the kernel of the thread's simulation for its descriptors and clocks, and to the real one
// for everything else, and always while there is no simulation.
//
// Not pipe(2), through which UndefinedBehaviorSanitizer looks at memory; pipe2(2) is simulated.
//
// Linux with glibc, and libstdc++ as a shared library (as it is unless -static-libstdc++ is given).
// Not with -D_FORTIFY_SOURCE, whose calls have other names.

#ifndef FAIRLEAD_TESTING_SYSTEM_CALLS_HPP
#define FAIRLEAD_TESTING_SYSTEM_CALLS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/file_calls.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/socket_calls.hpp>
#include <fairlead/testing/kernel/wait_calls.hpp>

#if !defined(__linux__) || !defined(__GLIBC__)
#error "fairlead/testing/system_calls.hpp: the simulated kernel needs Linux and glibc"
#endif
#if defined(_FORTIFY_SOURCE) && _FORTIFY_SOURCE > 0
#error "fairlead/testing/system_calls.hpp: compile the test program with -U_FORTIFY_SOURCE"
#endif

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// The next function of this name: the C library's, or a sanitizer's before it.
template <typename Function>
Function* real(const char* name)
{
    void* const found = ::dlsym(RTLD_NEXT, name);
    if (found == nullptr) {
        std::abort();
    }
    return reinterpret_cast<Function*>(found);
}

/// As the C library tells an answer.
template <typename Result = int>
Result told(answer result) noexcept
{
    if (result < 0) {
        errno = static_cast<int>(-result);
        return static_cast<Result>(-1);
    }
    return static_cast<Result>(result);
}

/// This thread's kernel, when `fd` is one of its descriptors.
inline kernel* kernel_of(int fd) noexcept
{
    return descriptor_table::has_number(fd) ? kernel::current() : nullptr;
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

namespace fairlead_simulated = ::fairlead::testing::simulated; // this is one file of a test

// One line each: the simulation's when the descriptor is, the real one otherwise.
#define FAIRLEAD_REAL(name)                                                                        \
    ([]() -> decltype(&::name) {                                                                   \
        static const auto next = fairlead_simulated::real<decltype(::name)>(#name);                \
        return next;                                                                               \
    }())
#define FAIRLEAD_BY_DESCRIPTOR(Result, name, fd, ...)                                              \
    if (auto* const in = fairlead_simulated::kernel_of(fd)) {                                      \
        return fairlead_simulated::told<Result>(                                                   \
            fairlead_simulated::calls::name(*in, __VA_ARGS__));                                    \
    }                                                                                              \
    return FAIRLEAD_REAL(name)(__VA_ARGS__)
#define FAIRLEAD_BY_SIMULATION(Result, name, ...)                                                  \
    if (auto* const in = fairlead_simulated::kernel::current()) {                                  \
        return fairlead_simulated::told<Result>(                                                   \
            fairlead_simulated::calls::name(*in, __VA_ARGS__));                                    \
    }                                                                                              \
    return FAIRLEAD_REAL(name)(__VA_ARGS__)

// One file of a program defines them. NOLINTBEGIN(misc-definitions-in-headers)
extern "C"
{
    // -- descriptors

    int close(int fd)
    {
        FAIRLEAD_BY_DESCRIPTOR(int, close, fd, fd);
    }

    int dup(int fd) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, dup, fd, fd);
    }

    ssize_t read(int fd, void* into, size_t size)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, read, fd, fd, into, size);
    }

    ssize_t readv(int fd, const iovec* parts, int count)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, readv, fd, fd, parts, count);
    }

    ssize_t write(int fd, const void* from, size_t size)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, write, fd, fd, from, size);
    }

    ssize_t writev(int fd, const iovec* parts, int count)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, writev, fd, fd, parts, count);
    }

    int fcntl(int fd, int what, ...)
    {
        va_list arguments;
        va_start(arguments, what);
        void* const argument = va_arg(arguments, void*);
        va_end(arguments);
        FAIRLEAD_BY_DESCRIPTOR(int, fcntl, fd, fd, what, argument);
    }

    int ioctl(int fd, unsigned long what, ...) noexcept
    {
        va_list arguments;
        va_start(arguments, what);
        void* const argument = va_arg(arguments, void*);
        va_end(arguments);
        FAIRLEAD_BY_DESCRIPTOR(int, ioctl, fd, fd, what, argument);
    }

    int pipe2(int ends[2], int flags) noexcept
    {
        FAIRLEAD_BY_SIMULATION(int, pipe2, ends, flags);
    }

    ssize_t splice(int from, off64_t* from_at, int to, off64_t* to_at, size_t size, unsigned flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, splice, from, from, from_at, to, to_at, size, flags);
    }

    ssize_t sendfile(int to, int from, off_t* at, size_t size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, sendfile, to, to, from, at, size);
    }

    int open(const char* path, int flags, ...)
    {
        va_list arguments;
        va_start(arguments, flags);
        const auto mode = va_arg(arguments, mode_t);
        va_end(arguments);
        if (auto* const in = fairlead_simulated::kernel::current();
            in != nullptr && std::strcmp(path, "/dev/null") == 0) {
            return fairlead_simulated::told(fairlead_simulated::calls::open_null(*in, flags));
        }
        return FAIRLEAD_REAL(open)(path, flags, mode);
    }

    // -- sockets

    int socket(int family, int type, int protocol) noexcept
    {
        if (family == AF_INET || family == AF_INET6) {
            FAIRLEAD_BY_SIMULATION(int, socket, family, type, protocol);
        }
        return FAIRLEAD_REAL(socket)(family, type, protocol);
    }

    int bind(int fd, const sockaddr* where, socklen_t size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, bind, fd, fd, where, size);
    }

    int listen(int fd, int backlog) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, listen, fd, fd, backlog);
    }

    int accept(int fd, sockaddr* from, socklen_t* size)
    {
        FAIRLEAD_BY_DESCRIPTOR(int, accept, fd, fd, from, size);
    }

    int accept4(int fd, sockaddr* from, socklen_t* size, int flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(int, accept4, fd, fd, from, size, flags);
    }

    int connect(int fd, const sockaddr* to, socklen_t size)
    {
        FAIRLEAD_BY_DESCRIPTOR(int, connect, fd, fd, to, size);
    }

    ssize_t recv(int fd, void* into, size_t size, int flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, recv, fd, fd, into, size, flags);
    }

    ssize_t recvfrom(
        int fd, void* into, size_t size, int flags, sockaddr* from, socklen_t* from_size)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, recvfrom, fd, fd, into, size, flags, from, from_size);
    }

    ssize_t recvmsg(int fd, msghdr* message, int flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, recvmsg, fd, fd, message, flags);
    }

    ssize_t send(int fd, const void* from, size_t size, int flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, send, fd, fd, from, size, flags);
    }

    ssize_t sendto(
        int fd, const void* from, size_t size, int flags, const sockaddr* to, socklen_t to_size)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, sendto, fd, fd, from, size, flags, to, to_size);
    }

    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    {
        FAIRLEAD_BY_DESCRIPTOR(ssize_t, sendmsg, fd, fd, message, flags);
    }

    int shutdown(int fd, int how) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, shutdown, fd, fd, how);
    }

    int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, setsockopt, fd, fd, level, name, value, size);
    }

    int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, getsockopt, fd, fd, level, name, value, size);
    }

    int getsockname(int fd, sockaddr* into, socklen_t* size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, getsockname, fd, fd, into, size);
    }

    int getpeername(int fd, sockaddr* into, socklen_t* size) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, getpeername, fd, fd, into, size);
    }

    int getaddrinfo(const char* host, const char* service, const addrinfo* hints, addrinfo** found)
    {
        auto* const in = fairlead_simulated::kernel::current();
        if (in != nullptr && fairlead_simulated::calls::is_name(host)) {
            return fairlead_simulated::calls::getaddrinfo(*in, host, service, hints, found);
        }
        return FAIRLEAD_REAL(getaddrinfo)(host, service, hints, found);
    }

    // -- waiting

    int epoll_create(int size) noexcept
    {
        FAIRLEAD_BY_SIMULATION(int, epoll_create, size);
    }

    int epoll_create1(int flags) noexcept
    {
        FAIRLEAD_BY_SIMULATION(int, epoll_create1, flags);
    }

    int epoll_ctl(int fd, int operation, int target, epoll_event* event) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, epoll_ctl, fd, fd, operation, target, event);
    }

    int epoll_wait(int fd, epoll_event* events, int most, int timeout)
    {
        FAIRLEAD_BY_DESCRIPTOR(int, epoll_wait, fd, fd, events, most, timeout);
    }

    int poll(pollfd* asked, nfds_t count, int timeout)
    {
        auto* const in = fairlead_simulated::kernel::current();
        if (in != nullptr && fairlead_simulated::calls::is_simulated(asked, count)) {
            return fairlead_simulated::told(
                fairlead_simulated::calls::poll(*in, asked, count, timeout));
        }
        return FAIRLEAD_REAL(poll)(asked, count, timeout);
    }

    int timerfd_create(clockid_t clock, int flags) noexcept
    {
        FAIRLEAD_BY_SIMULATION(int, timerfd_create, clock, flags);
    }

    int timerfd_settime(int fd, int how, const itimerspec* value, itimerspec* before) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, timerfd_settime, fd, fd, how, value, before);
    }

    int timerfd_gettime(int fd, itimerspec* value) noexcept
    {
        FAIRLEAD_BY_DESCRIPTOR(int, timerfd_gettime, fd, fd, value);
    }

    int eventfd(unsigned count, int flags) noexcept
    {
        FAIRLEAD_BY_SIMULATION(int, eventfd, count, flags);
    }

    // -- time and chance

    int clock_gettime(clockid_t clock, timespec* time) noexcept
    {
        auto* const in = fairlead_simulated::kernel::current();
        if (in != nullptr && fairlead_simulated::calls::shows(clock)) {
            *time = fairlead_simulated::calls::time_on(*in, clock);
            return 0;
        }
        return FAIRLEAD_REAL(clock_gettime)(clock, time);
    }

    int gettimeofday(timeval* time, void* zone) noexcept
    {
        if (auto* const in = fairlead_simulated::kernel::current()) {
            const timespec now = fairlead_simulated::calls::time_on(*in, CLOCK_REALTIME);
            *time = {.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
            return 0;
        }
        return FAIRLEAD_REAL(gettimeofday)(time, zone);
    }

    time_t time(time_t* into) noexcept
    {
        auto* const in = fairlead_simulated::kernel::current();
        if (in == nullptr) {
            return FAIRLEAD_REAL(time)(into);
        }
        const time_t now = fairlead_simulated::calls::time_on(*in, CLOCK_REALTIME).tv_sec;
        if (into != nullptr) {
            *into = now;
        }
        return now;
    }

    int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* left)
    {
        auto* const in = fairlead_simulated::kernel::current();
        if (in != nullptr && fairlead_simulated::calls::shows(clock)) {
            fairlead_simulated::calls::sleep(*in, clock, *time, (flags & TIMER_ABSTIME) != 0);
            return 0;
        }
        return FAIRLEAD_REAL(clock_nanosleep)(clock, flags, time, left);
    }

    int nanosleep(const timespec* time, timespec* left)
    {
        if (auto* const in = fairlead_simulated::kernel::current()) {
            fairlead_simulated::calls::sleep(*in, CLOCK_MONOTONIC, *time, false);
            return 0;
        }
        return FAIRLEAD_REAL(nanosleep)(time, left);
    }

    ssize_t getrandom(void* into, size_t size, unsigned flags)
    {
        FAIRLEAD_BY_SIMULATION(ssize_t, getrandom, into, size, flags);
    }

    // -- threads: there is one

    /// A sanitizer's, where there is one: it must know every thread, and Clang's is no library that
    /// could be found behind this program.
    // NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
    [[gnu::weak]] int __interceptor_pthread_create(
        pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument);

    int pthread_create(
        pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
        void* argument) noexcept
    {
        if (auto* const in = fairlead_simulated::kernel::current()) {
            return fairlead_simulated::calls::refuse_thread(*in);
        }
        if (__interceptor_pthread_create != nullptr) {
            return __interceptor_pthread_create(thread, attributes, start, argument);
        }
        return FAIRLEAD_REAL(pthread_create)(thread, attributes, start, argument);
    }
} // extern "C"
// NOLINTEND(misc-definitions-in-headers)

#undef FAIRLEAD_BY_SIMULATION
#undef FAIRLEAD_BY_DESCRIPTOR
#undef FAIRLEAD_REAL

#endif // FAIRLEAD_TESTING_SYSTEM_CALLS_HPP
