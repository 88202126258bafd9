// The event loop of the raw servers: accepts in batches and hands each event to the session it
// belongs to. One thread, no timers, no limits: the floor that servers are compared with, not a
// server to copy.

#ifndef FAIRLEAD_BENCHMARKS_COMMON_EPOLL_LOOP_HPP
#define FAIRLEAD_BENCHMARKS_COMMON_EPOLL_LOOP_HPP

#include "common/loopback.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench
{
/// Registers `descriptor` for `interest` (EPOLL_CTL_ADD or _MOD); events carry `owner`.
inline void watch(int poll, int operation, int descriptor, std::uint32_t interest, void* owner)
{
    epoll_event event{};
    event.events = interest;
    event.data.ptr = owner;
    if (::epoll_ctl(poll, operation, descriptor, &event) != 0)
        throw_errno("epoll_ctl");
}

/// Serves for ever. `make_session(descriptor)` returns a std::unique_ptr to a session, whose
/// `on_ready(poll, events)` returns false when the session is over; its destructor closes the
/// descriptor.
template <typename MakeSession>
[[noreturn]] void run_epoll_loop(int listener, std::uint32_t interest, MakeSession make_session)
{
    using session = typename decltype(make_session(0))::element_type;
    const int poll = ::epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0)
        throw_errno("epoll_create1");
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN, nullptr);

    std::array<epoll_event, 256> events;
    for (;;) {
        const int count = ::epoll_wait(poll, events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < count; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            if (event.data.ptr != nullptr) {
                auto* const ready = static_cast<session*>(event.data.ptr);
                if (!ready->on_ready(poll, event.events))
                    delete ready;
                continue;
            }
            for (int accepted = 0; accepted < 16; ++accepted) {
                const int descriptor =
                    ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (descriptor < 0)
                    break;
                set_no_delay(descriptor);
                auto fresh = make_session(descriptor);
                watch(poll, EPOLL_CTL_ADD, descriptor, interest, fresh.get());
                fresh.release();
            }
        }
    }
}
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_COMMON_EPOLL_LOOP_HPP
