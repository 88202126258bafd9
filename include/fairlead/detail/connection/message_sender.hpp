// fairlead: how the senders of a connection's messages wait: for room in its outbox, or for a large
// payload to leave from where it is. What a message looks like is for framed.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_MESSAGE_SENDER_HPP
#define FAIRLEAD_DETAIL_CONNECTION_MESSAGE_SENDER_HPP

#include <fairlead/detail/connection/outbox.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/error.hpp>
#include <asio/this_coro.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
class message_sender
{
public:
    /// Payloads of this size are written from where they are.
    static constexpr std::size_t written_in_place = std::size_t(64) << 10;

    /// Senders wait above `most` bytes, and go on at `enough`.
    message_sender(connection_operations& connection, std::size_t most, std::size_t enough)
        : connection_(connection), outbox_(outbox_of(connection)), most_(most), enough_(enough)
    {}

    /// The connection's own: it outlives this object, so that nothing is lost that was sent.
    outbox& box() const noexcept
    {
        return outbox_;
    }

    std::error_code refuses() const noexcept
    {
        return outbox_.error() ? outbox_.error() : connection_.refuses_output();
    }

    /// While it lives, our direction does not end: somebody has more to send.
    class under_way
    {
    public:
        explicit under_way(message_sender& sender) noexcept : connection_(sender.connection_)
        {
            connection_.sender_begins();
        }

        under_way(const under_way&) = delete;
        under_way& operator=(const under_way&) = delete;

        ~under_way()
        {
            connection_.sender_ends();
            finish_when_asked(connection_);
        }

    private:
        connection_operations& connection_;
    };

    bool is_full() const noexcept
    {
        return outbox_.size() > most_;
    }

    /// Appends a frame to the queue.
    template <typename Rules>
    void encode(const Rules& rules, std::span<const std::byte> payload, std::error_code& error)
    {
        try {
            rules.encode(payload, outbox_.queue());
        } catch (const std::system_error& refusal) {
            error = refusal.code();
        }
    }

    /// Queues what others are sent, too. False: there is enough, or nothing can be sent.
    bool try_share(const shared_bytes& frame, bool more_follows)
    {
        if (refuses() || is_full()) {
            return false;
        }
        outbox_.share(frame);
        write_soon(more_follows);
        return true;
    }

    /// Now; with `more_follows`, because requests that are here already are to be answered too, at
    /// the end of this turn of the loop.
    void write_soon(bool more_follows)
    {
        if (more_follows && outbox_.size() < enough_) {
            outbox_.flush_soon();
        } else {
            outbox_.flush();
        }
    }

    asio::awaitable<void> wait_for_room(std::error_code& error)
    {
        error = outbox_.error();
        if (is_full()) {
            const auto has_room = [this] { return outbox_.error() || outbox_.size() <= enough_; };
            co_await wait_until(has_room, error);
        }
    }

    asio::awaitable<void> wait_until_written(std::error_code& error)
    {
        outbox_.flush();
        co_await wait_until([this] { return outbox_.is_idle(); }, error);
    }

    /// What is written behind what is queued, and without a copy of `payload`. `enclose(header,
    /// trailer)` appends what stands before and behind it, when it is its turn; may throw
    /// `std::system_error`, and then nothing is sent.
    template <typename Enclose>
    asio::awaitable<void> write_in_place(
        std::span<const std::byte> payload, Enclose enclose, std::error_code& error)
    {
        const under_way sending(*this);
        co_await wait_until([this] { return !outbox_.is_writing(); }, error);
        if (!error) {
            error = connection_.refuses_rest();
        }
        if (!error && connection_.life()
                          .output.is_writing()) { // past the queue: there is nothing to wait for
            error = std::make_error_code(std::errc::operation_in_progress);
        }
        const auto cancellation = co_await asio::this_coro::cancellation_state;
        if (!error && is_cancelled(cancellation)) {
            error = asio::error::operation_aborted;
        }
        if (error) {
            co_return;
        }
        // From here on the outbox refers to the payload, and this must not be left by an exception.
        const bool throws = co_await asio::this_coro::throw_if_cancelled();
        co_await asio::this_coro::throw_if_cancelled(false);
        try {
            std::vector<std::byte> trailer;
            enclose(outbox_.queue(), trailer);
            outbox_.write_with(payload, std::move(trailer));
        } catch (const std::system_error& refusal) {
            error = refusal.code();
        }
        if (!error) {
            const auto number = outbox_.writes_begun();
            bool is_left = false; // to the outbox
            while (outbox_.is_writing() && outbox_.writes_begun() == number && !is_left) {
                is_left = is_cancelled(cancellation) && outbox_.copy_payload();
                if (!is_left) {
                    co_await outbox_.change(error);
                }
            }
            error = is_left ? std::error_code(asio::error::operation_aborted) : outbox_.error();
        }
        co_await asio::this_coro::throw_if_cancelled(throws);
    }

private:
    static bool is_cancelled(const asio::cancellation_state& state) noexcept
    {
        return state.cancelled() != asio::cancellation_type::none;
    }

    /// `error` is that of the outbox, or says that the wait was cancelled.
    template <typename Condition>
    asio::awaitable<void> wait_until(Condition holds, std::error_code& error)
    {
        const auto cancellation = co_await asio::this_coro::cancellation_state;
        error.clear();
        while (!error && !holds()) {
            if (is_cancelled(cancellation)) { // between two waits
                error = asio::error::operation_aborted;
            } else {
                co_await outbox_.change(error);
            }
        }
        if (!error) {
            error = outbox_.error();
        }
    }

    static outbox& outbox_of(connection_operations& connection)
    {
        if (!connection.output) {
            connection.output = std::make_unique<outbox>(connection);
        }
        return static_cast<outbox&>(*connection.output);
    }

    connection_operations& connection_;
    outbox& outbox_;
    std::size_t most_;
    std::size_t enough_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_MESSAGE_SENDER_HPP
