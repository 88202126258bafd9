// fairlead: how far our direction of a connection has come: what is being written, what was cut, and
// its end. Facts only; what follows from them says lifecycle.hpp. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SEND_SIDE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SEND_SIDE_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Whose bytes an operation writes.
enum class write_kind : std::uint8_t
{
    whole,     // of a write that begins with it
    continued, // the next of a composed operation, such as asio::async_write
    queued,    // of messages, sent before
};

/// Messages that a handler has sent, and that wait for a write of theirs.
enum class message_queue : std::uint8_t
{
    empty,
    completing, // the kernel has the last byte, and an operation is pending
    unsent,     // some bytes are not with the kernel
};

/// At most one write is pending. The direction ends once, in order or not at all: behind a part of
/// something there is no end that the peer could take for a good one.
class send_side
{
public:
    // -- the write that is pending

    void write_begins(std::size_t size, write_kind kind) noexcept
    {
        write_ = write_stage::moves;
        kind_ = kind;
        unsent_ = size;
        is_part_sent_ = is_part_sent_ && kind != write_kind::whole;
    }

    /// The kernel has taken so many bytes, and takes no more now, if it waits. True: the clock of
    /// the write starts again.
    bool was_taken(std::size_t bytes, bool waits) noexcept
    {
        assert(is_writing());
        has_untold_ = has_untold_ || bytes != 0;
        unsent_ -= std::min(bytes, unsent_);
        if (!waits || (bytes == 0 && write_ == write_stage::waits)) {
            return false;
        }
        write_ = write_stage::waits;
        return true;
    }

    /// It is over for its account; what it leaves unsent is lost.
    void write_ends() noexcept
    {
        write_ = write_stage::none;
        unsent_ = 0;
    }

    bool is_writing() const noexcept
    {
        return write_ != write_stage::none;
    }

    /// For room in the socket.
    bool is_waiting() const noexcept
    {
        return write_ == write_stage::waits || end_ == end_stage::seeks_room;
    }

    bool has_waited() const noexcept
    {
        return write_ == write_stage::waits;
    }

    std::size_t unsent() const noexcept
    {
        return unsent_;
    }

    /// Of the write that is pending, or was last.
    write_kind kind() const noexcept
    {
        return kind_;
    }

    /// Bytes were written of which no hook has heard; once.
    bool take_untold() noexcept
    {
        return std::exchange(has_untold_, false);
    }

    /// The handler of a write begins to run, or has run; returns what `is_completing` was.
    bool completes(bool runs) noexcept
    {
        return std::exchange(is_completing_, runs);
    }

    /// The handler of a write is running: what it writes may be the rest of the same operation. What
    /// waits for the end of that comes behind it.
    bool is_completing() const noexcept
    {
        return is_completing_;
    }

    // -- what was cut

    /// Some of a write was sent, and not the rest.
    void part_was_sent() noexcept
    {
        is_part_sent_ = true;
    }

    /// Messages that were sent cannot be written.
    void messages_are_lost() noexcept
    {
        has_lost_ = true;
    }

    /// A write has failed: under TLS a record may be cut, and must not be continued by another.
    void record_was_cut() noexcept
    {
        is_record_cut_ = true;
    }

    bool has_sent_part() const noexcept
    {
        return is_part_sent_ || has_lost_;
    }

    bool has_cut_record() const noexcept
    {
        return is_record_cut_;
    }

    // -- its end

    /// Behind what is being sent nothing may follow but the end.
    void shall_end() noexcept
    {
        end_ = std::max(end_, end_stage::asked_for);
    }

    /// close_notify waits for room in the socket.
    void seeks_room() noexcept
    {
        end_ = std::max(end_, end_stage::seeks_room);
    }

    /// It need not wait for it any longer.
    void stops_seeking() noexcept
    {
        end_ = end_ == end_stage::seeks_room ? end_stage::asked_for : end_;
    }

    /// False: it had before.
    bool finishes() noexcept
    {
        return std::exchange(end_, end_stage::finished) != end_stage::finished;
    }

    bool was_asked_to_end() const noexcept
    {
        return end_ != end_stage::open;
    }

    bool is_seeking_room() const noexcept
    {
        return end_ == end_stage::seeks_room;
    }

    /// The end is with the kernel.
    bool has_finished() const noexcept
    {
        return end_ == end_stage::finished;
    }

    // -- who has more to send, and waits until it can be queued

    void sender_begins() noexcept
    {
        ++senders_;
    }

    void sender_ends() noexcept
    {
        --senders_;
    }

    bool has_senders() const noexcept
    {
        return senders_ != 0;
    }

private:
    enum class write_stage : std::uint8_t
    {
        none,
        moves,
        waits, // for room, or did
    };

    /// In this order, some of them skipped.
    enum class end_stage : std::uint8_t
    {
        open,
        asked_for,
        seeks_room,
        finished,
    };

    std::size_t unsent_ = 0; // of what is being written: the kernel has not taken it
    std::uint32_t senders_ = 0;
    write_stage write_ = write_stage::none;
    write_kind kind_ = write_kind::whole;
    end_stage end_ = end_stage::open;
    bool is_completing_ = false;
    bool has_untold_ = false;
    bool is_part_sent_ = false;
    bool has_lost_ = false;
    bool is_record_cut_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SEND_SIDE_HPP
