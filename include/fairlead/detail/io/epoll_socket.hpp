// fairlead: a connected stream socket that waits on the shard's own epoll descriptor. Linux; its
// counterpart elsewhere is asio_socket.hpp.

#ifndef FAIRLEAD_DETAIL_IO_EPOLL_SOCKET_HPP
#define FAIRLEAD_DETAIL_IO_EPOLL_SOCKET_HPP

#if defined(__linux__)

#include <fairlead/detail/io/channel.hpp>
#include <fairlead/detail/io/epoll_reactor.hpp>
#include <fairlead/detail/io/hang_up_listener.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/error.hpp>

#include <cassert>
#include <cstdint>
#include <sys/socket.h>
#include <system_error>
#include <type_traits>
#include <unistd.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One thread. Operations are attempted first, and wait only where the attempt comes to nothing.
class stream_socket final : private reactor_client
{
public:
    explicit stream_socket(detail::reactor& home) noexcept : reactor_(home), memory_(home.blocks())
    {}

    stream_socket(const stream_socket&) = delete;
    stream_socket& operator=(const stream_socket&) = delete;

    /// No operation is pending: each keeps what the socket is a part of.
    ~stream_socket()
    {
        close();
        assert(operations_ == nullptr);
    }

    /// Takes over a connected, non-blocking descriptor; on failure it is closed.
    std::error_code assign(native::descriptor connected) noexcept
    {
        channel_.open(connected.get(), channel::input::nothing);
        if (const std::error_code error = reactor_.add(*this)) {
            channel_.close();
            return error;
        }
        connected.release();
        return {};
    }

    bool is_open() const noexcept
    {
        return channel_.descriptor() >= 0;
    }

    /// -1: closed.
    int native_handle() const noexcept override
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
    /// an `attempt`. Throws what copying the handler throws, and `std::bad_alloc`; nothing has been
    /// attempted then.
    template <typename Attempt, typename Handler>
    void run(Attempt again, Handler&& handler)
    {
        using operation_type = operation_of<stream_socket, Attempt, std::decay_t<Handler>>;
        auto& operation =
            *operation_type::make(*this, std::move(again), std::forward<Handler>(handler));
        operation.next_of_socket = operations_;
        operations_ = &operation;
        const auto slot = operation.cancellation_slot();
        if (slot.is_connected()) {
            connect(operation, slot);
        }
        if (reactor_.has_ended()) {
            return operation.drop();
        }
        operation.is_immediate = true;
        operation.attempts();
        if (operation.outcome.waits_for == attempt::condition::nothing) {
            operation.now = pending_operation::stage::is_over;
            reactor_.line_up(operation);
        } else {
            waits(operation);
        }
    }

    /// Ends the pending operations with `operation_aborted`.
    void cancel() noexcept
    {
        for (auto* each = operations_; each != nullptr; each = each->next_of_socket) {
            cancel(*each);
        }
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
        cancel();
        reactor_.remove(*this);
        ::close(channel_.descriptor());
        channel_.close();
    }

    /// `listener.peer_has_gone()` will be called, once, at the peer's FIN or reset, also behind input
    /// that nobody reads; now, if it has come already.
    void watch(hang_up_listener& listener)
    {
        if (listener_ != nullptr || !is_open()) {
            return;
        }
        if (has_hung_up_) {
            listener.peer_has_gone();
            return;
        }
        listener_ = &listener;
        reactor_.wait_begins();
    }

    void unwatch() noexcept
    {
        if (std::exchange(listener_, nullptr) != nullptr) {
            reactor_.wait_ends();
        }
    }

private:
    template <typename Operation, typename Slot>
    static void connect(Operation& operation, Slot slot)
    {
        try {
            slot.template emplace<cancellation_link>(operation);
        } catch (...) {
            operation.drop();
            throw;
        }
    }

    template <typename Socket, typename Attempt, typename Handler>
    friend class operation_of;

    operation_memory& memory() noexcept
    {
        return memory_;
    }

    void waits(pending_operation& operation) noexcept
    {
        if (channel_.meets(operation.outcome.waits_for)) { // it stopped for another reason
            operation.now = pending_operation::stage::ready;
            operation.is_immediate = true;
            reactor_.line_up_for_next_turn(operation);
        } else {
            operation.now = pending_operation::stage::waits;
            operation.is_immediate = false;
            reactor_.wait_begins();
            if (operation.outcome.waits_for == attempt::condition::writable) {
                reactor_.look_again(*this);
            }
        }
    }

    void is_over(pending_operation& operation) noexcept
    {
        pending_operation** link = &operations_;
        while (*link != &operation) {
            link = &(*link)->next_of_socket;
        }
        *link = operation.next_of_socket;
    }

    void cancel(pending_operation& operation) noexcept
    {
        using stage = pending_operation::stage;
        if (operation.now == stage::is_over) {
            return;
        }
        operation.outcome.error = asio::error::operation_aborted; // its bytes stay
        operation.outcome.waits_for = attempt::condition::nothing;
        if (std::exchange(operation.now, stage::is_over) == stage::waits) {
            reactor_.line_up(operation);
            reactor_.wait_ends();
        }
    }

    void events_have_come(std::uint32_t events) noexcept override
    {
        constexpr std::uint32_t over = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
        if ((events & (over | EPOLLPRI)) != 0) {
            channel_.ends();
        }
        if ((events & (EPOLLIN | EPOLLPRI | over)) != 0) {
            channel_.input_has_come(
                channel_.has_ended() ? channel::input::perhaps : channel::input::something);
        }
        if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
            channel_.room_has_come();
        }
        if ((events & over) != 0) {
            has_hung_up_ = true;
            if (hang_up_listener* const told = std::exchange(listener_, nullptr)) {
                reactor_.wait_ends();
                told->peer_has_gone();
            }
        }
        for (auto* each = operations_; each != nullptr; each = each->next_of_socket) {
            if (each->now == pending_operation::stage::waits &&
                channel_.meets(each->outcome.waits_for)) {
                each->now = pending_operation::stage::ready;
                reactor_.line_up(*each);
                reactor_.wait_ends();
            }
        }
    }

    void context_ends() noexcept override
    {
        for (auto* next = operations_; next != nullptr;) { // each keeps what this is a part of
            auto* const each = std::exchange(next, next->next_of_socket);
            if (each->now == pending_operation::stage::waits) { // the others: from the line
                each->drop();
            }
        }
    }

    detail::reactor& reactor_;
    operation_memory memory_;
    channel channel_;
    bool has_hung_up_ = false;
    hang_up_listener* listener_ = nullptr;
    pending_operation* operations_ = nullptr; // one a direction, seldom another
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif

#endif // FAIRLEAD_DETAIL_IO_EPOLL_SOCKET_HPP
