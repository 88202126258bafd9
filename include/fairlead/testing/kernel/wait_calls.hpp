// fairlead: the system calls that wait, and those that tell the time, as a simulated kernel answers
// them: virtual time passes in them.

#ifndef FAIRLEAD_TESTING_KERNEL_WAIT_CALLS_HPP
#define FAIRLEAD_TESTING_KERNEL_WAIT_CALLS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/epoll.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/pipe.hpp>
#include <fairlead/testing/kernel/timer.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

namespace FAIRLEAD_NAMESPACE::testing::simulated::calls
{
/// Tries `look` until it finds something, or the time is up; `timeout` in milliseconds, -1: never.
template <typename Look>
answer wait_until(kernel& in, int timeout, Look look)
{
    const auto limit =
        timeout < 0 ? std::nullopt
                    : std::optional<instant>(in.when.now() + std::chrono::milliseconds(timeout));
    for (;;) {
        const answer found = look();
        if (found != 0 || (limit && in.when.now() >= *limit)) {
            return found;
        }
        in.pass(limit);
    }
}

inline answer open_epoll(kernel& in, call which, bool closes_on_exec)
{
    return in.run(which, -1, 0, [&] {
        return in.open_descriptor(std::make_shared<epoll>(), closes_on_exec);
    });
}

inline answer epoll_create1(kernel& in, int flags)
{
    return open_epoll(in, call::epoll_create1, (flags & EPOLL_CLOEXEC) != 0);
}

inline answer epoll_create(kernel& in, int size)
{
    return size <= 0 ? -EINVAL : open_epoll(in, call::epoll_create, false);
}

inline answer epoll_ctl(kernel& in, int fd, int operation, int target, epoll_event* event)
{
    // Linux needs memory and room for those that are added only, and Asio relies on that.
    const bool can_fail = operation == EPOLL_CTL_ADD;
    const auto control = [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        const file_ptr watched = in.table.find(target);
        if (!one || !watched) {
            return !one || descriptor_table::has_number(target) || target < 0
                       ? -EBADF
                       : -EPERM; // a real descriptor has no place here
        }
        auto* const waits = dynamic_cast<epoll*>(one.get());
        if (waits == nullptr) {
            return -EINVAL;
        }
        if (dynamic_cast<const null_file*>(watched.get()) != nullptr) {
            return -EPERM;
        }
        return waits->control(operation, target, watched, event);
    };
    return in.run(call::epoll_ctl, fd, target, control, can_fail);
}

inline answer epoll_wait(kernel& in, int fd, epoll_event* events, int most, int timeout)
{
    const file_ptr one = in.table.find(fd);
    return wait_until(in, timeout, [&] {
        return in.run(call::epoll_wait, fd, most, [&]() -> answer {
            auto* const waits = dynamic_cast<epoll*>(one.get());
            if (waits == nullptr || most <= 0) {
                return one ? -EINVAL : -EBADF;
            }
            return waits->wait({events, static_cast<std::size_t>(most)}, in.disturbances());
        });
    });
}

/// Of simulated descriptors; a wait for nothing is one for time.
inline bool is_simulated(const pollfd* asked, nfds_t count) noexcept
{
    return count == 0 || std::any_of(asked, asked + count, [](const pollfd& one) {
               return descriptor_table::has_number(one.fd);
           });
}

/// Real descriptors among them are never ready.
inline answer poll(kernel& in, pollfd* asked, nfds_t count, int timeout)
{
    const std::span<pollfd> all(asked, count);
    return wait_until(in, timeout, [&] {
        return in.run(call::poll, count == 0 ? -1 : asked->fd, static_cast<long>(count), [&] {
            answer ready = 0;
            for (pollfd& one : all) {
                one.revents = 0;
                if (one.fd < 0) {
                    continue;
                }
                const file_ptr of = in.table.find(one.fd);
                // Both families of constants have the same values.
                const auto wanted =
                    static_cast<std::uint32_t>(static_cast<unsigned short>(one.events)) | EPOLLERR |
                    EPOLLHUP;
                if (of) {
                    one.revents = static_cast<short>(of->poll() & wanted);
                } else if (descriptor_table::has_number(one.fd)) {
                    one.revents = POLLNVAL;
                }
                ready += one.revents != 0 ? 1 : 0;
            }
            return ready;
        });
    });
}

inline bool shows(clockid_t clock) noexcept
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_RAW ||
           clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ||
           clock == CLOCK_BOOTTIME;
}

/// What the clock showed when the simulation began.
inline instant origin_of(const kernel& in, clockid_t clock) noexcept
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? in.wall_clock_start
                                                                     : in.monotonic_start;
}

inline timespec time_on(const kernel& in, clockid_t clock) noexcept
{
    return timespec_of(origin_of(in, clock) + in.when.now());
}

inline void sleep(kernel& in, clockid_t clock, const timespec& time, bool is_absolute)
{
    const instant until =
        is_absolute ? instant_of(time) - origin_of(in, clock) : in.when.now() + instant_of(time);
    while (in.when.now() < until) {
        in.pass(until);
    }
}

inline answer timerfd_create(kernel& in, clockid_t clock, int flags)
{
    return in.run(call::timerfd_create, -1, clock, [&]() -> answer {
        if (!shows(clock)) {
            return -EINVAL;
        }
        const auto made = std::make_shared<timer>(in.when, origin_of(in, clock));
        made->flags |= (flags & TFD_NONBLOCK) != 0 ? O_NONBLOCK : 0;
        return in.open_descriptor(made, (flags & TFD_CLOEXEC) != 0);
    });
}

/// Runs `body(timer)`.
template <typename Body>
answer on_timer(kernel& in, call which, int fd, Body body)
{
    return in.run(which, fd, 0, [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        auto* const found = dynamic_cast<timer*>(one.get());
        return found == nullptr ? (one ? -EINVAL : -EBADF) : body(*found);
    });
}

inline answer timerfd_settime(
    kernel& in, int fd, int how, const itimerspec* value, itimerspec* before)
{
    return on_timer(in, call::timerfd_settime, fd, [&](timer& one) {
        if (before != nullptr) {
            *before = one.get();
        }
        return one.set(how, *value);
    });
}

inline answer timerfd_gettime(kernel& in, int fd, itimerspec* value)
{
    return on_timer(in, call::timerfd_gettime, fd, [&](timer& one) {
        *value = one.get();
        return answer(0);
    });
}

inline answer eventfd(kernel& in, unsigned count, int flags)
{
    return in.run(call::eventfd, -1, flags, [&] {
        const auto made = std::make_shared<event_counter>(count, (flags & EFD_SEMAPHORE) != 0);
        made->flags |= (flags & EFD_NONBLOCK) != 0 ? O_NONBLOCK : 0;
        return in.open_descriptor(made, (flags & EFD_CLOEXEC) != 0);
    });
}

inline answer getrandom(kernel& in, void* into, std::size_t size, unsigned flags)
{
    return in.run(call::getrandom, -1, static_cast<long>(flags), [&] {
        auto* const bytes = static_cast<unsigned char*>(into);
        std::generate(
            bytes, bytes + size, [&] { return static_cast<unsigned char>(in.entropy().next()); });
        return static_cast<answer>(size);
    });
}

/// As pthread_create(3), which returns its error: a simulation has one thread.
inline int refuse_thread(kernel& in) noexcept
{
    in.has_refused_thread = true;
    return EPERM;
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated::calls

#endif // FAIRLEAD_TESTING_KERNEL_WAIT_CALLS_HPP
