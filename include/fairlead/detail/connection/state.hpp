// fairlead: the state of a connection, and what can be asked of it. What changes it is in
// connection/core.hpp and connection/operations.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_STATE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_STATE_HPP

#include <fairlead/detail/connection/deadlines.hpp>
#include <fairlead/detail/connection/output_queue.hpp>
#include <fairlead/detail/connection/record.hpp>
#include <fairlead/detail/io/transport.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/sleeper.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
/// In a drain: who was accepted before it began, and is served only now, has so long for the first
/// byte of the request that is on its way.
inline constexpr std::chrono::milliseconds longest_wait_for_first_request{1000};

/// Whose bytes an operation writes.
enum class write_kind
{
    whole,     // of a write that begins with it
    continued, // the next of a composed operation, such as asio::async_write
    queued,    // of messages, sent before
};

/// pre_open -> open -> closing -> closed. Each step is taken once; any may be skipped.
class connection_state : public connection_record
{
public:
    enum class phase : std::uint8_t
    {
        pre_open,
        open,
        closing,
        closed,
    };

    connection_state(shard& owner, const endpoint& remote_endpoint, connection& as_handlers_see_it)
        : connection_record(owner, remote_endpoint, as_handlers_see_it), stream(server.reactor)
    {}

    phase current_phase() const noexcept
    {
        return phase_;
    }

    /// Its socket is.
    bool is_open() const noexcept
    {
        return phase_ != phase::closed;
    }

    /// It is ending, and the reason is known.
    bool is_stopped() const noexcept
    {
        return ending_.is_noted();
    }

    /// No TLS record was cut and no write ended in the middle: close_notify may follow.
    bool may_say_goodbye() const noexcept
    {
        return !write_cut_ && !has_sent_part() && !ending_.has_transport_error();
    }

    /// Messages that were sent are not with the kernel yet, or an operation is pending for them.
    bool has_output() const noexcept
    {
        return output && !output->is_idle();
    }

    /// A write is pending.
    bool is_writing() const noexcept
    {
        return writing_;
    }

    /// Bytes that are to be written are not with the kernel. A write of which it has the last byte,
    /// and which has only to be completed, is not among them.
    bool has_unsent() const noexcept
    {
        return unsent_ != 0 || (output && output->has_unsent());
    }

    /// The last write of the handler's ended when some of it had been sent, and not all; or messages
    /// were lost.
    bool has_sent_part() const noexcept
    {
        return sent_part_ || output_lost_;
    }

    /// Something is being written, or about to be.
    bool is_sending() const noexcept
    {
        return is_writing() || has_output();
    }

    /// Our direction has ended, or cannot end in order any more.
    bool is_sending_over() const noexcept
    {
        return has_finished_sending() || has_sent_part() || !is_open() || ending_.refuses_write();
    }

    /// Wakes those who wait for our direction's end.
    void sending_may_be_over() noexcept
    {
        if (extras_) {
            extras_->until_sent.notify_all();
        }
    }

    /// The handler of a write is running: what it writes may be the rest of the same operation. What
    /// waits for the end of that comes behind it.
    bool completes_write() const noexcept
    {
        return completes_write_;
    }

    /// A drain found a handshake, or its first bytes, under way.
    bool has_begun() noexcept
    {
        return phase_ != phase::pre_open || stream.is_tls() || stream.input_size() != 0;
    }

    /// In a drain: by when the first bytes must come of who was accepted in it, or opened; `max()`:
    /// they are not waited for. Who has not begun then was accepted in it.
    time_point first_request_due() noexcept
    {
        return !has_begun()        ? accepted_at + longest_wait_for_first_request
               : owes_first_reply_ ? opened_at_ + longest_wait_for_first_request
                                   : time_point::max();
    }

    /// The peer has finished or reset, or the connection was stopped.
    bool has_ended() const noexcept
    {
        return peer_gone_ || !is_open() || is_stopped() || ending_.peer_finished() ||
               ending_.has_transport_error() || ending_.sending_error();
    }

    bool was_idle_at_drain() const noexcept
    {
        return woken_by_drain_;
    }

    /// Waits for the peer, and owes it nothing.
    bool is_idle() const noexcept
    {
        return phase_ == phase::open && !is_stopped() && (reading_ || waiting_) && !writing_;
    }

    /// It holds a place, and is before its handler, or idle in it.
    bool may_be_evicted() const noexcept
    {
        return place && (is_idle() || (phase_ == phase::pre_open && !is_stopped()));
    }

    // -- whether an operation may start

    /// What a read ends with that must not start; empty: it may.
    std::error_code refuses_read() const noexcept
    {
        if (reading_ || waiting_ || is_shaking_hands_) {
            return is_stopped() ? ending_.stop_code() : in_progress();
        }
        return stream.has_input_at_hand() && !is_stopped() ? no_error : ending_.refuses_read();
    }

    std::error_code refuses_write(write_kind kind) const noexcept
    {
        const bool is_others = kind != write_kind::queued;
        const bool overtakes = kind == write_kind::whole && output && output->has_unsent();
        if (is_others && (is_writing() || overtakes) && !is_stopped()) {
            return in_progress();
        }
        if (kind == write_kind::whole) {
            return refuses_output();
        }
        const bool goes_on = kind == write_kind::queued && delivers_output_ && is_open();
        if (const std::error_code ended = ending_.refuses_write(); ended && !goes_on) {
            return ended;
        }
        return writing_ || is_shaking_hands_ ? in_progress()
               : has_finished_sending()      ? std::error_code(asio::error::broken_pipe)
                                             : no_error;
    }

    /// Nothing more can be sent; empty: it can, though perhaps behind what is being written.
    std::error_code refuses_output() const noexcept
    {
        const std::error_code refusal = refuses_rest();
        return !refusal && send_ends_ ? std::error_code(asio::error::broken_pipe) : refusal;
    }

    /// The same for a sender who had begun before the end was asked for.
    std::error_code refuses_rest() const noexcept
    {
        if (is_stopped()) {
            return ending_.stop_code();
        }
        return is_shaking_hands_        ? in_progress()
               : has_finished_sending() ? std::error_code(asio::error::broken_pipe)
                                        : ending_.refuses_write();
    }

    /// The queue may be written now.
    bool may_write_queue() const noexcept
    {
        return !is_writing() && !completes_write_ && !is_shaking_hands_;
    }

    bool may_read_at_hand() const noexcept
    {
        return !is_stopped() && !reading_ && !waiting_ && !is_shaking_hands_ &&
               stream.has_input_at_hand();
    }

    time_point last_activity() const noexcept
    {
        return deadlines_.last_activity;
    }

    /// Any thread, while it is registered: what changes in it is published.
    connection_info info(time_point now) const
    {
        const time_point active = deadlines_.last_activity;
        return {
            .id = id(),
            .local = local,
            .remote = remote,
            .age = now - accepted_at,
            .idle = std::max(now - active, clock::duration::zero()), // active just now, elsewhere
            .bytes_read = bytes_read.get(),
            .bytes_written = bytes_written.get(),
            .opened = phase_ != phase::pre_open,
            .tls = stream.is_tls(),
            .closed = !is_open()};
    }

    void touch() noexcept
    {
        deadlines_.last_activity = clock::now();
    }

    int native_handle() noexcept
    {
        return stream.native_handle();
    }

    /// Its handler, or a child of it, runs.
    bool has_tasks() const noexcept
    {
        return tasks_ != 0;
    }

    transport stream;
    std::unique_ptr<output_queue> output; // null: the handler sends no messages
    sleeper* handshake_bed = nullptr;     // of a handshake that waits for its place
    bool is_counted = false;              // among the accepted
    bool is_accounted_for = false;        // in the report of a drain

protected:
    static std::error_code in_progress() noexcept
    {
        return std::make_error_code(std::errc::operation_in_progress);
    }

    ~connection_state() = default;

    /// A TLS record that was cut short must not be continued by another write.
    bool has_finished_sending() const noexcept
    {
        return send_finished_ || (stream.is_tls() && write_cut_);
    }

    deadlines deadlines_;
    std::size_t unsent_ = 0;        // of what is being written: the kernel has not taken it
    time_point opened_at_ = {};     // in a drain
    std::uint64_t drain_limit_ = 0; // bytes_read up to here answers what came before the drain
    published<phase> phase_ = phase::pre_open;
    bool reading_ = false;
    bool waiting_ = false;
    bool writing_ = false;
    write_kind writes_ = write_kind::whole; // the write that is pending, or was last
    bool completes_write_ = false;
    bool woken_by_drain_ = false;
    bool pending_at_drain_ = false; // an operation, which may have taken input
    bool wait_must_end_ = false;    // a drain, or the handler's end, has ended it
    bool owes_first_reply_ = false;
    bool is_orphaned_ = false;
    bool peer_gone_ = false;
    bool send_finished_ = false;
    bool write_cut_ = false;
    bool sent_part_ = false;
    bool output_lost_ = false;           // messages that were sent and could not be written
    bool write_waits_ = false;           // for room
    bool has_untold_output_ = false;     // written, and no hook has heard of it
    bool delivers_output_ = false;       // though it was stopped
    bool send_ends_ = false;             // behind what is being sent
    bool seeks_room_ = false;            // for that
    bool is_shaking_hands_ = false;      // in the middle of its handler's life
    std::uint32_t senders_ = 0;          // who have more to send, and wait
    published<std::uint32_t> tasks_ = 0; // handler, children, deliveries
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_STATE_HPP
