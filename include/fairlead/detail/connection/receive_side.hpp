// fairlead: what a connection does with its peer's direction: the operation that is pending there, and
// what a drain still owes for what has come. Facts only; what follows from them says lifecycle.hpp.
// Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_RECEIVE_SIDE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_RECEIVE_SIDE_HPP

#include <fairlead/detail/namespace.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class receive_side
{
public:
    using time_point = std::chrono::steady_clock::time_point;

    // -- the operation that is pending: one

    void read_begins() noexcept
    {
        stage_ = stage::reads;
    }

    void wait_begins() noexcept
    {
        stage_ = stage::waits;
    }

    /// In the middle of its handler's life; nothing else is read meanwhile.
    void handshake_begins() noexcept
    {
        stage_ = stage::shakes_hands;
    }

    void operation_ends() noexcept
    {
        stage_ = stage::idle;
    }

    bool is_busy() const noexcept
    {
        return stage_ != stage::idle;
    }

    bool is_waiting() const noexcept
    {
        return stage_ == stage::waits;
    }

    bool is_shaking_hands() const noexcept
    {
        return stage_ == stage::shakes_hands;
    }

    /// It waits for its peer.
    bool is_pending() const noexcept
    {
        return stage_ == stage::reads || stage_ == stage::waits;
    }

    /// The wait that is pending ends by our own doing, and finds nothing.
    void wait_must_end() noexcept
    {
        must_end_ = true;
    }

    /// True, once: it was to end.
    bool take_must_end() noexcept
    {
        return std::exchange(must_end_, false);
    }

    bool must_end() const noexcept
    {
        return must_end_;
    }

    // -- the drain

    /// It was opened in a drain: its first request is on its way, since it was begun before. So long
    /// nothing else is looked for.
    void owes_first_reply(time_point since) noexcept
    {
        expects_first_ = true;
        opened_at_ = since;
    }

    bool is_first_reply_owed() const noexcept
    {
        return expects_first_;
    }

    time_point opened_at() const noexcept
    {
        return opened_at_;
    }

    /// A drain begins, when the handler has had so many bytes and so many more are there. An
    /// operation that is pending may have taken some of them.
    void drain_begins(std::uint64_t had, std::size_t there) noexcept
    {
        expects_first_ = false;
        limit_ = had + there;
        is_pending_at_drain_ = is_pending();
    }

    /// The first request has come after all: this is what a reply is owed for.
    void first_request_has_come(std::uint64_t had, std::size_t there) noexcept
    {
        expects_first_ = false;
        limit_ = had + there;
    }

    /// By an operation; one that was pending when the drain began may have taken it before.
    void was_taken(std::size_t bytes) noexcept
    {
        if (std::exchange(is_pending_at_drain_, false)) {
            limit_ += bytes;
        }
    }

    /// Behind so many bytes came some, before the drain, that the handler has not had.
    bool owes_reply_behind(std::uint64_t had) const noexcept
    {
        return had < limit_;
    }

    /// The drain has sent it home, and found it with nothing to finish.
    void was_sent_home(bool idle) noexcept
    {
        is_sent_home_ = idle;
    }

    bool is_sent_home() const noexcept
    {
        return is_sent_home_;
    }

private:
    enum class stage : std::uint8_t
    {
        idle,
        reads,
        waits, // for input that it does not take
        shakes_hands,
    };

    std::uint64_t limit_ = 0; // of all input up to here, replies are owed in a drain
    time_point opened_at_ = {};
    stage stage_ = stage::idle;
    bool expects_first_ = false; // request
    bool must_end_ = false;
    bool is_pending_at_drain_ = false;
    bool is_sent_home_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_RECEIVE_SIDE_HPP
