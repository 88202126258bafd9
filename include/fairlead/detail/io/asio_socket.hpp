// fairlead: a connected stream socket that waits on Asio's reactor: on systems without epoll, and
// where FAIRLEAD_ASIO_REACTOR is defined. Its counterpart is epoll_socket.hpp.

#ifndef FAIRLEAD_DETAIL_IO_ASIO_SOCKET_HPP
#define FAIRLEAD_DETAIL_IO_ASIO_SOCKET_HPP

#include <fairlead/detail/io/asio_reactor.hpp>
#include <fairlead/detail/io/channel.hpp>
#include <fairlead/detail/io/hang_up_listener.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/error.hpp>
#include <asio/posix/basic_stream_descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <sys/socket.h>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One thread. Operations are attempted first, and wait only where the attempt comes to nothing.
class stream_socket final : public hang_up_hook
{
public:
    explicit stream_socket(detail::reactor& home) : reactor_(home), waiter_(home.get_executor())
    {}

    stream_socket(const stream_socket&) = delete;
    stream_socket& operator=(const stream_socket&) = delete;

    ~stream_socket()
    {
        close();
    }

    /// Takes over a connected, non-blocking descriptor; on failure it is closed.
    std::error_code assign(native::descriptor connected)
    {
        std::error_code error;
        waiter_.assign(connected.get(), error);
        if (!error) {
            channel_.open(connected.release(), channel::input::nothing);
        }
        return error;
    }

    bool is_open() const noexcept
    {
        return channel_.descriptor() >= 0;
    }

    /// -1: closed.
    int native_handle() const noexcept
    {
        return channel_.descriptor();
    }

    /// Where its bytes move, and what is known of its readiness.
    detail::channel& bytes() noexcept
    {
        return channel_;
    }

    const detail::channel& bytes() const noexcept
    {
        return channel_;
    }

    /// Attempts until there is something to say: `handler(error, bytes)`, later. `again()` returns
    /// an `attempt`.
    template <typename Attempt, typename Handler>
    void run(Attempt again, Handler&& handler)
    {
        const attempt result = again();
        if (result.waits_for == attempt::condition::nothing) {
            post_completion(
                reactor_.get_executor(), std::forward<Handler>(handler),
                std::error_code(result.error), result.bytes);
            return;
        }
        using loop = attempt_loop<Attempt, std::decay_t<Handler>>;
        loop waiting(*this, std::move(again), std::forward<Handler>(handler));
        waiting.bytes = result.bytes;
        loop::start(std::move(waiting), result.waits_for);
    }

    /// Ends the pending operations with `operation_aborted`.
    void cancel() noexcept
    {
        ++cancellations_;
        std::error_code ignored;
        waiter_.cancel(ignored);
    }

    /// Sends FIN behind everything written.
    std::error_code shutdown_send() noexcept
    {
        return ::shutdown(channel_.descriptor(), SHUT_WR) == 0 ? std::error_code()
                                                               : native::last_io_error();
    }

    /// Closes the descriptor and ends the pending operations. With `reset` the peer gets RST, and
    /// what the kernel still holds is discarded.
    void close(bool reset = false) noexcept
    {
        if (!is_open()) {
            return;
        }
        if (reset) {
            native::reset_on_close(channel_.descriptor());
        }
        unwatch();
        ++cancellations_;
        std::error_code ignored;
        waiter_.close(ignored);
        channel_.close();
    }

    /// `listener.peer_has_gone()` will be called, once, at the peer's FIN or reset; on Linux also
    /// behind input that nobody reads, elsewhere never.
    void watch(hang_up_listener& listener) noexcept
    {
        if (listener_ == nullptr && is_open() && reactor_.hang_ups.add(native_handle(), *this)) {
            listener_ = &listener;
        }
    }

    void unwatch() noexcept
    {
        if (std::exchange(listener_, nullptr) != nullptr) {
            reactor_.hang_ups.remove(native_handle(), *this);
        }
    }

    /// By the watch, which has ended.
    void peer_has_gone()
    {
        channel_.ends();
        channel_.input_has_come(channel::input::perhaps);
        std::exchange(listener_, nullptr)->peer_has_gone();
    }

private:
    using waiter_type = asio::posix::basic_stream_descriptor<detail::reactor::executor_type>;

    /// A cancellation that comes when a wait is over, and before the attempt, finds no operation of
    /// the descriptor: it is heard here.
    template <typename Attempt, typename Handler>
    struct attempt_loop : handler_wrapper
    {
        using cancellation_slot_type = asio::cancellation_slot;

        attempt_loop(stream_socket& self, Attempt attempt_again, Handler completed)
            : of(&self),
              again(std::move(attempt_again)),
              cancellations_before(self.cancellations_),
              cancellation(
                  asio::get_associated_cancellation_slot(completed),
                  asio::enable_total_cancellation()),
              handler(std::move(completed))
        {}

        cancellation_slot_type get_cancellation_slot() const noexcept
        {
            return cancellation.slot();
        }

        void operator()(const std::error_code& error)
        {
            if (!error) {
                of->is_ready(waits_for);
            }
            const attempt result = error ? attempt{.bytes = bytes, .error = error} : again();
            bytes = result.bytes;
            if (result.waits_for == attempt::condition::nothing) {
                std::move(handler)(std::error_code(result.error), result.bytes);
            } else if (is_cancelled()) {
                std::move(handler)(std::error_code(asio::error::operation_aborted), bytes);
            } else {
                start(std::move(*this), result.waits_for);
            }
        }

        bool is_cancelled() const noexcept
        {
            return cancellations_before != of->cancellations_ ||
                   cancellation.cancelled() != asio::cancellation_type::none;
        }

        static void start(attempt_loop self, attempt::condition condition)
        {
            self.waits_for = condition;
            waiter_type& waiter = self.of->waiter_;
            waiter.async_wait(
                condition == attempt::condition::writable ? waiter_type::wait_write
                                                          : waiter_type::wait_read,
                std::move(self));
        }

        stream_socket* of;
        Attempt again;
        std::uint32_t cancellations_before;
        attempt::condition waits_for = attempt::condition::nothing;
        std::size_t bytes = 0;                 // that the last attempt has told
        asio::cancellation_state cancellation; // the user's
        Handler handler;
    };

    void is_ready(attempt::condition condition) noexcept
    {
        if (condition == attempt::condition::writable) {
            channel_.room_has_come();
        } else {
            channel_.input_has_come(channel::input::perhaps);
        }
    }

    detail::reactor& reactor_;
    waiter_type waiter_;
    channel channel_;
    std::uint32_t cancellations_ = 0;
    hang_up_listener* listener_ = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_ASIO_SOCKET_HPP
