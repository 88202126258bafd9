// fairlead: the output of a connection whose handler sends messages: queues them whole, writes as
// many as there are at once, and tells senders when there is room again.

#ifndef FAIRLEAD_DETAIL_CONNECTION_OUTBOX_HPP
#define FAIRLEAD_DETAIL_CONNECTION_OUTBOX_HPP

#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/connection/output_queue.hpp>
#include <fairlead/detail/connection/shared_bytes.hpp>
#include <fairlead/detail/connection/write_parts.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One write at a time, started here and not by a sender, so that a sender waits only for room, and
/// any number of coroutines may send. What comes while a write is pending goes with the next.
///
/// Those who wait are owned by the operations that are pending, not by this object: it belongs to
/// the connection, which belongs to the coroutine that may be waiting, and a circle would never be
/// freed when a context dies with the operations in it. Where a write that is not of this object
/// holds the queue back, an operation is pending for nothing else.
class outbox final : public output_queue
{
public:
    explicit outbox(connection_operations& connection)
        : connection_(connection), waiting_(std::make_shared<wait_list>()), waiting_now_(waiting_)
    {}

    /// Where to append frames, each as a whole. Then `flush` or `flush_soon`.
    std::vector<std::byte>& queue()
    {
        if (filling_.own.capacity() == 0) {
            filling_.own = connection_.home.buffers.take_queue();
        }
        return filling_.own;
    }

    /// Appends what other connections are sent, too, and keeps it until it is with the kernel. All or
    /// nothing. Small things are cheaper to copy.
    void share(const shared_bytes& one)
    {
        if (one->size() < smallest_shared) {
            queue().insert(filling_.own.end(), one->begin(), one->end());
        } else {
            rest_.reserve_for_one_more(filling_);
            filling_.share(one);
        }
    }

    /// Bytes that the kernel has not taken yet.
    std::size_t size() const noexcept
    {
        return filling_.size() + rest_.size();
    }

    bool is_writing() const noexcept
    {
        return writing_;
    }

    /// Tells one write from the next.
    std::size_t writes_begun() const noexcept
    {
        return writes_begun_;
    }

    /// Of the write that failed; nothing is sent any more.
    const std::error_code& error() const noexcept
    {
        return error_;
    }

    bool is_idle() const noexcept override
    {
        return pending_ == 0 && filling_.empty();
    }

    bool has_unsent() const noexcept override
    {
        return !filling_.empty();
    }

    void flush() noexcept override
    {
        if (error_) {
            filling_ = {};
            is_not_held_back();
        } else if (!writing_ && !filling_.empty() && connection_.may_write_queue()) {
            write_queue({}, {});
        }
    }

    /// At the end of this turn of the loop: what is sent until then goes in one write.
    void flush_soon()
    {
        if (writing_ || soon_) {
            return;
        }
        operation pending = begin_operation();
        const auto waiting = pending.waiting;
        try {
            asio::post(connection_.get_executor(), turn_end{std::move(pending)});
            soon_ = true;
        } catch (...) { // no memory: now, then
            --pending_;
            waiting_ = pending_ == 0 ? waiting : nullptr;
            flush();
        }
    }

    /// Writes the queue, then `payload`, then `trailer`, at once and without a copy of the payload,
    /// which must live until this write is over, or `copy_payload`. Not while a write is pending.
    void write_with(std::span<const std::byte> payload, std::vector<std::byte> trailer)
    {
        write_queue(payload, std::move(trailer));
    }

    /// The payload that is being written need not live any longer. False: it must.
    bool copy_payload() noexcept
    {
        try {
            const auto* const first = static_cast<const std::byte*>(rest_.payload().data());
            payload_.assign(first, first + rest_.payload().size());
        } catch (const std::bad_alloc&) {
            return false;
        }
        rest_.payload() = asio::buffer(payload_);
        return true;
    }

    /// Completes at the next change, or with an error when it is cancelled. Not while idle.
    asio::awaitable<void> change(std::error_code& error)
    {
        auto completion = asio::redirect_error(asio::use_awaitable, error);
        return asio::async_initiate<decltype(completion), void(std::error_code)>(
            initiate_wait{this}, completion);
    }

private:
    /// Less is copied: a buffer of its own in a write costs as much.
    static constexpr std::size_t smallest_shared = 512;

    /// What is left to write, whenever an operation looks: the payload may have moved.
    struct buffers_now
    {
        const asio::const_buffer* begin() const noexcept
        {
            return rest->begin();
        }

        const asio::const_buffer* end() const noexcept
        {
            return rest->end();
        }

        const write_parts* rest;
    };

    /// What each pending operation holds.
    struct operation : runs_at_home
    {
        using executor_type = environment::executor_type;

        executor_type get_executor() const noexcept
        {
            return box->connection_.get_executor();
        }

        outbox* box;
        connection_ref connection; // the box is the connection's
        std::shared_ptr<wait_list> waiting;
    };

    struct written : operation
    {
        void operator()(const std::error_code& error, std::size_t bytes)
        {
            this->box->write_ends(std::move(*this), error, bytes);
        }
    };

    struct turn_end : operation
    {
        void operator()()
        {
            outbox& owner = *this->box;
            owner.soon_ = false;
            owner.flush();
            owner.end_operation(std::move(*this));
        }
    };

    struct released : operation
    {
        void operator()(const std::error_code&)
        {
            this->box->end_operation(std::move(*this));
        }
    };

    struct initiate_wait
    {
        outbox* box;

        template <typename Handler>
        void operator()(Handler&& handler) const
        {
            box->wait(box->connection_.get_executor(), std::forward<Handler>(handler));
        }
    };

    std::shared_ptr<wait_list> waiting() override
    {
        auto list = waiting_now_.lock();
        if (pending_ == 0) {
            try {
                hold_back();
            } catch (...) { // no memory for it
                --pending_;
                waiting_ = std::move(list);
                throw;
            }
        }
        return list;
    }

    /// Begins the operation that ends when the queue may be written.
    void hold_back()
    {
        auto pending = begin_operation();
        if (!held_back_) {
            held_back_.emplace(connection_.home.context, asio::steady_timer::time_point::max());
        }
        held_back_->async_wait(released{std::move(pending)});
        is_held_back_ = true;
    }

    void is_not_held_back() noexcept
    {
        if (std::exchange(is_held_back_, false)) {
            held_back_->cancel();
        }
    }

    operation begin_operation()
    {
        auto waiting = waiting_ ? std::move(waiting_) : waiting_now_.lock();
        ++pending_;
        return {{}, this, connection_ref(connection_), std::move(waiting)};
    }

    void end_operation(operation ended)
    {
        --pending_;
        if (pending_ == 0) {
            waiting_ = ended.waiting;
            if (filling_.empty()) {
                connection_.home.buffers.give_back(std::exchange(filling_.own, {}));
            }
        }
        if (is_idle() && !error_) {
            connection_.finish_stopped_sending();
            finish_when_asked(connection_);
        }
        ended.waiting->notify_all();
    }

    void write_queue(std::span<const std::byte> payload, std::vector<std::byte> trailer)
    {
        writing_ = true;
        is_not_held_back();
        ++writes_begun_;
        std::swap(sending_, filling_);
        trailer_ = std::move(trailer);
        rest_.begin_with(sending_, payload, trailer_);
        write_some(begin_operation());
    }

    void write_some(operation pending)
    {
        operation again = pending;
        try {
            const initiate_write_some start{&connection_, write_kind::queued};
            start(written{std::move(pending)}, buffers_now{&rest_});
        } catch (...) { // no memory to wait in
            write_ends(std::move(again), std::make_error_code(std::errc::not_enough_memory), 0);
        }
    }

    void write_ends(operation pending, const std::error_code& error, std::size_t bytes)
    {
        rest_.advance(std::min(bytes, rest_.size()));
        if (!error && rest_.size() != 0) {
            write_some(std::move(pending));
            return;
        }
        if (error && rest_.size() != 0) {
            connection_.output_is_lost();
        }
        error_ = error;
        rest_.clear();
        connection_.home.buffers.give_back(std::exchange(sending_.own, {}));
        sending_.clear();
        payload_ = {};
        trailer_ = {};
        writing_ = false;
        flush();
        end_operation(std::move(pending));
    }

    connection_operations& connection_;
    mixed_bytes filling_;
    mixed_bytes sending_;
    std::vector<std::byte> payload_; // whose sender did not wait for the end of the write
    std::vector<std::byte> trailer_;
    write_parts rest_; // of what is being written
    std::error_code error_;
    std::size_t writes_begun_ = 0;
    std::size_t pending_ = 0; // operations that will call this object
    bool writing_ = false;
    bool soon_ = false;
    bool is_held_back_ = false;
    std::optional<asio::steady_timer> held_back_; // never expires
    std::shared_ptr<wait_list> waiting_;          // null while an operation is pending
    std::weak_ptr<wait_list> waiting_now_;        // the same object, wherever it is
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_OUTBOX_HPP
