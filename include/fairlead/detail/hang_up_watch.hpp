// fairlead: notices that peers have gone, for connections whose handlers do not read. Linux; where
// there is no epoll it watches nothing, and an end is noticed by the next read.

#ifndef FAIRLEAD_DETAIL_HANG_UP_WATCH_HPP
#define FAIRLEAD_DETAIL_HANG_UP_WATCH_HPP

#include <fairlead/detail/native.hpp>

#include <asio/io_context.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>
#if defined(__linux__)
#include <asio/posix/basic_stream_descriptor.hpp>

#include <array>
#include <sys/epoll.h>
#endif

namespace fairlead::detail
{
#if defined(__linux__)

/// An epoll descriptor of its own, in the io_context by one pending wait: Asio's cannot tell a FIN
/// behind unread input (`EPOLLRDHUP`), and a wait for readability would complete again and again.
/// Costs nothing until the first `add`. One thread.
template <typename Watched>
class hang_up_watch
{
public:
    using executor_type = asio::io_context::executor_type;

    explicit hang_up_watch(asio::io_context& context) : descriptor_(context.get_executor())
    {}

    /// Calls `watched.peer_has_gone()` once, at the peer's FIN or reset, unless `remove` comes
    /// first. `alive` keeps this object while anything is watched. False: it cannot be watched.
    bool add(int socket, Watched& watched, const std::shared_ptr<void>& alive) noexcept
    {
        try {
            if (!descriptor_.is_open() && !open()) {
                return false;
            }
            ::epoll_event event{};
            event.events = EPOLLRDHUP | EPOLLONESHOT;
            event.data.ptr = &watched;
            if (::epoll_ctl(descriptor_.native_handle(), EPOLL_CTL_ADD, socket, &event) != 0) {
                return false;
            }
            ++watched_;
            wait(alive);
            return true;
        } catch (...) { // no memory to wait with
            return false;
        }
    }

    void remove(int socket) noexcept
    {
        ::epoll_event unused{};
        ::epoll_ctl(descriptor_.native_handle(), EPOLL_CTL_DEL, socket, &unused);
        if (--watched_ == 0) { // the context may run out of work
            std::error_code ignored;
            descriptor_.cancel(ignored);
        }
    }

private:
    using descriptor_type = asio::posix::basic_stream_descriptor<executor_type>;

    bool open()
    {
        native::descriptor made(::epoll_create1(EPOLL_CLOEXEC));
        if (!made) {
            return false;
        }
        std::error_code error;
        descriptor_.assign(made.get(), error);
        if (!error) {
            made.release();
        }
        return !error;
    }

    void wait(const std::shared_ptr<void>& alive)
    {
        if (is_waiting_) {
            return;
        }
        descriptor_.async_wait(
            descriptor_type::wait_read, [this, alive](const std::error_code& error) {
                is_waiting_ = false;
                if (!error) {
                    tell();
                }
                if (watched_ != 0) {
                    wait(alive);
                }
            });
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
            remove(watched.native_handle());
            watched.peer_has_gone();
        }
    }

    descriptor_type descriptor_;
    std::size_t watched_ = 0;
    bool is_waiting_ = false;
};

#else

template <typename Watched>
class hang_up_watch
{
public:
    explicit hang_up_watch(asio::io_context&)
    {}

    bool add(int, Watched&, const std::shared_ptr<void>&) noexcept
    {
        return false;
    }

    void remove(int) noexcept
    {}
};

#endif
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_HANG_UP_WATCH_HPP
