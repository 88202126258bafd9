// fairlead: notices that peers have gone, for connections whose handlers do not read. Linux; where
// there is no epoll it watches nothing, and an end is noticed by the next read.

#ifndef FAIRLEAD_DETAIL_IO_HANG_UP_WATCH_HPP
#define FAIRLEAD_DETAIL_IO_HANG_UP_WATCH_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/basic_waitable_timer.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/wait_traits.hpp>

#include <chrono>
#include <cstddef>
#include <system_error>
#include <utility>
#if defined(__linux__)
#include <asio/posix/basic_stream_descriptor.hpp>

#include <array>
#include <sys/epoll.h>
#endif

namespace FAIRLEAD_NAMESPACE::detail
{
/// Links those that could not be watched yet; a base class of what is watched.
struct hang_up_tag;
using hang_up_hook = list_hook<hang_up_tag>;

#if defined(__linux__)

/// An epoll descriptor of its own, in the io_context by one pending wait: Asio's cannot tell a FIN
/// behind unread input (`EPOLLRDHUP`), and a wait for readability would complete again and again.
/// Nothing fails for want of a descriptor or of memory: it is tried again. One thread. Lives as long
/// as the context.
template <typename Watched>
class hang_up_watch
{
public:
    using executor_type = asio::io_context::executor_type;

    explicit hang_up_watch(asio::io_context& context)
        : descriptor_(context.get_executor()), retry_(context.get_executor())
    {}

    hang_up_watch(const hang_up_watch&) = delete;
    hang_up_watch& operator=(const hang_up_watch&) = delete;

    /// Takes the descriptor while there is one: before clients may have taken them all.
    void open() noexcept
    {
        if (descriptor_.is_open()) {
            return;
        }
        native::descriptor made(::epoll_create1(EPOLL_CLOEXEC));
        if (!made) {
            return;
        }
        try {
            std::error_code error;
            descriptor_.assign(made.get(), error);
            if (!error) {
                made.release();
            }
        } catch (...) { // no memory
        }
    }

    /// Calls `watched.peer_has_gone()` once, at the peer's FIN or reset, unless `remove` comes
    /// first. False: it is never watched.
    bool add(int socket, Watched& watched) noexcept
    {
        if (!try_add(socket, watched)) {
            unwatched_.push_back(watched);
        }
        try_again();
        return true;
    }

    void remove(int socket, Watched& watched) noexcept
    {
        hang_up_hook& unwatched = watched;
        if (unwatched.is_linked()) {
            unwatched.unlink();
        } else {
            ::epoll_event unused{};
            ::epoll_ctl(descriptor_.native_handle(), EPOLL_CTL_DEL, socket, &unused);
            --watched_;
        }
        if (watched_ == 0) { // the context may run out of work
            std::error_code ignored;
            descriptor_.cancel(ignored);
        }
        if (watched_ == 0 && unwatched_.empty()) {
            retry_.cancel();
        }
    }

private:
    using descriptor_type = asio::posix::basic_stream_descriptor<executor_type>;

    using timer_type = asio::basic_waitable_timer<
        std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, executor_type>;

    static constexpr std::chrono::milliseconds retry_interval{100};

    bool try_add(int socket, Watched& watched) noexcept
    {
        open();
        ::epoll_event event{};
        event.events = EPOLLRDHUP | EPOLLONESHOT;
        event.data.ptr = &watched;
        if (!descriptor_.is_open() ||
            ::epoll_ctl(descriptor_.native_handle(), EPOLL_CTL_ADD, socket, &event) != 0) {
            return false;
        }
        ++watched_;
        wait();
        return true;
    }

    /// To watch those that could not be watched, until one cannot again: then later.
    void try_again() noexcept
    {
        while (!unwatched_.empty()) {
            Watched& first = unwatched_.front();
            first.hang_up_hook::unlink();
            if (!try_add(first.native_handle(), first)) {
                unwatched_.push_back(first); // the others have their turn
                try_again_later();
                return;
            }
        }
    }

    void try_again_later() noexcept
    {
        if (std::exchange(is_to_retry_, true)) {
            return;
        }
        auto again = [this](const std::error_code& = {}) {
            is_to_retry_ = false;
            try_again();
            if (watched_ != 0) {
                wait();
            }
        };
        try {
            retry_.expires_after(retry_interval);
            retry_.async_wait(spared_handler{&retry_memory_, again});
        } catch (...) { // Asio's queue of timers wanted to grow, and could not
            asio::post(descriptor_.get_executor(), spared_handler{&retry_memory_, again});
        }
    }

    void wait() noexcept
    {
        if (is_waiting_) {
            return;
        }
        descriptor_.async_wait(
            descriptor_type::wait_read,
            spared_handler{&wait_memory_, [this](const std::error_code& error) {
                               is_waiting_ = false;
                               if (!error) {
                                   tell();
                               }
                               if (watched_ == 0) {
                                   return;
                               }
                               if (!error || error == asio::error::operation_aborted) {
                                   wait();
                               } else {
                                   try_again_later();
                               }
                           }});
        is_waiting_ = true;
    }

    /// `peer_has_gone` only posts: what is told in one round cannot end what is told after it.
    void tell()
    {
        std::array<::epoll_event, 64> events; // NOLINT(cppcoreguidelines-pro-type-member-init)
        const int count = ::epoll_wait(
            descriptor_.native_handle(), events.data(), static_cast<int>(events.size()), 0);
        for (int index = 0; index < count; ++index) {
            auto& watched =
                *static_cast<Watched*>(events[static_cast<std::size_t>(index)].data.ptr);
            remove(watched.native_handle(), watched);
            watched.peer_has_gone();
        }
    }

    descriptor_type descriptor_;
    timer_type retry_;
    intrusive_list<Watched, hang_up_tag> unwatched_;
    std::size_t watched_ = 0;
    bool is_waiting_ = false;
    bool is_to_retry_ = false;
    spare_memory wait_memory_;
    spare_memory retry_memory_;
};

#else

template <typename Watched>
class hang_up_watch
{
public:
    explicit hang_up_watch(asio::io_context&)
    {}

    void open() noexcept
    {}

    bool add(int, Watched&) noexcept
    {
        return false;
    }

    void remove(int, Watched&) noexcept
    {}
};

#endif
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_HANG_UP_WATCH_HPP
