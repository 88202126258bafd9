// fairlead: the life of one connection as a state machine: what happens to it, and the time, come in,
// and what is to be done comes out. No socket, no clock, no hooks: core.hpp and operations.hpp carry
// out what it says. Ring 0.
//
//             begin_pre_open           open               begin_closing
//   (made) ---------------> pre_open ---------> open ---------------------> closing
//                              |                 |                             |
//                              +-----------------+------------- closes --------+--> closed
//
// The phases follow each other in this order, and any may be skipped; closing has several parts, each
// with its own time. Across the phases it is stopped: the first reason stays, operations end with it,
// and only the time for closing counts. What is legal:
//
//   phase     stopped  receive side      send side                               tasks
//   pre_open  no       idle              open                                    0
//   pre_open  yes      idle              finished, where it may                  0
//   open      no       any one           any; finished when the handler asks     1 or more
//   open      yes      ends              delivers what was queued, then finished 0 or more
//   closing   yes      ends, or is idle  ends, then finished                     0
//   closed    any      ends              ends                                    0 or more
//
// Behind `closed` the answers may still say to wake, to cancel or to close, and there is nothing left
// that it would change.

#ifndef FAIRLEAD_DETAIL_CONNECTION_LIFECYCLE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_LIFECYCLE_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/connection/actions.hpp>
#include <fairlead/detail/connection/deadlines.hpp>
#include <fairlead/detail/connection/ending.hpp>
#include <fairlead/detail/connection/receive_side.hpp>
#include <fairlead/detail/connection/send_side.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/published.hpp>
#include <fairlead/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// In a drain: who was accepted before it began, and is served only now, has so long for the first
/// byte of the request that is on its way.
inline constexpr std::chrono::milliseconds longest_wait_for_first_request{1000};

class lifecycle
{
public:
    using time_point = std::chrono::steady_clock::time_point;
    using milliseconds = std::chrono::milliseconds;

    enum class phase : std::uint8_t
    {
        pre_open,
        open,
        /// The handler has returned, and what is left is done in order.
        closing,
        closed,
    };

    /// What it cannot know by itself, as it is now.
    struct surroundings
    {
        const server_config& config;
        bool is_tls = false;
        message_queue messages = message_queue::empty;
    };

    ending end;
    deadlines times;
    receive_side input;
    send_side output;

    // -- questions

    phase current() const noexcept
    {
        return phase_;
    }

    bool is_open() const noexcept
    {
        return phase_ != phase::closed;
    }

    /// It is ending, and the reason is known.
    bool is_stopped() const noexcept
    {
        return end.is_noted();
    }

    /// Its handler, a child of it, or a delivery runs.
    bool has_tasks() const noexcept
    {
        return tasks_ != 0;
    }

    /// What was sent as messages still leaves, though it was stopped.
    bool is_delivering() const noexcept
    {
        return delivers_ && is_open();
    }

    /// Nothing of it is left.
    bool is_over() const noexcept
    {
        return !is_open() && tasks_ == 0;
    }

    /// The peer has finished or reset, or the connection was stopped.
    bool has_ended() const noexcept
    {
        return has_peer_gone_ || !is_open() || is_stopped() || end.peer_finished() ||
               end.has_transport_error() || end.sending_error();
    }

    /// The handler has returned: its children wait for nothing more.
    bool is_orphaned() const noexcept
    {
        return is_orphaned_;
    }

    /// Waits for the peer, and owes it nothing.
    bool is_idle() const noexcept
    {
        return phase_ == phase::open && !is_stopped() && input.is_pending() && !output.is_writing();
    }

    /// Before its handler, or idle in it.
    bool may_give_way() const noexcept
    {
        return is_idle() || (phase_ == phase::pre_open && !is_stopped());
    }

    /// No TLS record was cut and no write ended in the middle: close_notify may follow.
    bool may_say_goodbye() const noexcept
    {
        return !output.has_cut_record() && !output.has_sent_part() && !end.has_transport_error();
    }

    /// Bytes that are to be written are not with the kernel.
    bool has_unsent(message_queue messages) const noexcept
    {
        return output.unsent() != 0 || messages == message_queue::unsent;
    }

    /// Something is being written, or about to be.
    bool is_sending(message_queue messages) const noexcept
    {
        return output.is_writing() || messages != message_queue::empty;
    }

    /// Our direction has ended in order; or, under TLS, cannot be used any more.
    bool has_finished_sending(bool is_tls) const noexcept
    {
        return output.has_finished() || (is_tls && output.has_cut_record());
    }

    /// Our direction has ended, or cannot end in order any more.
    bool is_sending_over(bool is_tls) const noexcept
    {
        return has_finished_sending(is_tls) || output.has_sent_part() || !is_open() ||
               end.refuses_write();
    }

    /// The end of our direction was asked for, nothing is before it, and nobody waits for room for
    /// it already.
    bool shall_finish(const surroundings& around) const noexcept
    {
        return output.was_asked_to_end() && !output.is_seeking_room() &&
               !is_sending(around.messages) && !output.has_senders() && !output.is_completing() &&
               !input.is_shaking_hands() && !is_sending_over(around.is_tls);
    }

    // -- phases

    /// Goes on to `next`, whose end must come by `ends`, and looks at the deadlines then.
    void enter(phase next, time_point now, time_point ends = time_point::max()) noexcept
    {
        if (is_open()) {
            phase_ = next;
            times.last_activity = now;
            times.pre_open_ends = next == phase::pre_open ? ends : time_point::max();
            times.closing_ends = next == phase::closing ? ends : times.closing_ends;
        }
    }

    /// What `now` means, which may be some time ago: `clock()` tells the time from which closing
    /// counts. `facts()` says how far the peer has come.
    template <typename Facts, typename Clock>
    actions look(time_point now, const surroundings& around, Facts&& facts, Clock&& clock)
    {
        if (!is_open()) {
            return {};
        }
        const bool is_closing = is_stopped() || phase_ == phase::closing;
        const auto stage = is_closing                  ? deadlines::stage::closing
                           : phase_ == phase::pre_open ? deadlines::stage::pre_open
                                                       : deadlines::stage::open;
        const auto verdict =
            times.look(now, stage, output.is_waiting(), around.config, std::forward<Facts>(facts));
        if (!verdict.reason) {
            return {.next_look = verdict.next};
        }
        switch (*verdict.reason) {
        case close_reason::idle_timeout:
            return stop(*verdict.reason, errc::idle_timeout, clock(), around);
        case close_reason::deadline_exceeded:
            return stop(*verdict.reason, errc::deadline_exceeded, clock(), around);
        case close_reason::max_lifetime:
            return stop(*verdict.reason, errc::max_lifetime, clock(), around);
        case close_reason::write_timeout: // what the peer does not take would stay in the kernel
            return stop_at_once(*verdict.reason, errc::write_timeout, socket_step::reset);
        case close_reason::pre_open_timeout:
            return stop_at_once(*verdict.reason, errc::pre_open_timeout);
        default: // closing took too long; the reason is known already
            return close_quietly(around.messages);
        }
    }

    // -- the end

    /// Ends operations, and the connection when what is being written is with the kernel; the rest
    /// is done when the handler has returned. The first reason stays.
    actions stop(
        close_reason reason, errc code, time_point now, const surroundings& around) noexcept
    {
        return end.note(reason, code) ? stops_as_noted(now, around) : actions{};
    }

    /// The same; the reason is noted, just now or before.
    actions stops_as_noted(time_point now, const surroundings& around) noexcept
    {
        actions todo{.wakes = true};
        if (!is_open() || phase_ == phase::closing) {
            return todo;
        }
        const auto patience = closing_patience(around);
        if (patience.count() == 0 && !is_sending(around.messages) && !output.is_completing()) {
            todo.socket = close_quietly(around.messages).socket;
            return todo;
        }
        if (times.closing_ends == time_point::max()) {
            times.closing_ends = later(now, patience.count() != 0 ? patience : shortest_delivery);
            todo.look_by = times.closing_ends;
        }
        if (!delivers_) { // else its end goes on from here
            todo.cancels = true;
            todo.socket = finishes_when_stopped(around).socket;
        }
        return todo;
    }

    /// Closes the socket now. The first reason stays.
    actions stop_at_once(
        close_reason reason, errc code, socket_step how = socket_step::close) noexcept
    {
        return {.wakes = end.note(reason, code), .socket = how};
    }

    /// It was stopped, and what was being written then is with the kernel: the end of our direction;
    /// a reset, if that was a part only. The handler may go on for longer than the peer shall wait
    /// for it.
    actions finishes_when_stopped(const surroundings& around) noexcept
    {
        const bool is_ending = is_stopped() && is_open() && phase_ != phase::closing;
        if (!is_ending || is_sending(around.messages) || output.is_completing()) {
            return {};
        }
        if (output.has_sent_part()) {
            return {.socket = socket_step::reset};
        }
        actions todo{.cancels = std::exchange(delivers_, false)};
        const bool may_notify =
            phase_ == phase::open && !input.is_shaking_hands() && may_say_goodbye();
        if (closing_patience(around).count() == 0) {
            todo.socket = close_quietly(around.messages).socket;
        } else if (!around.is_tls || may_notify) { // else TLS is for those who shake hands to end
            todo.socket = socket_step::finish;
        }
        return todo;
    }

    /// What is queued shall still leave, though the connection is about to be stopped: within the
    /// time for closing, or a second when that is none.
    void delivers(message_queue messages) noexcept
    {
        const bool is_others = output.is_writing() && output.kind() != write_kind::queued;
        const bool is_cut = is_others && output.unsent() != 0; // by what is before it
        delivers_ = !is_cut && has_unsent(messages);
    }

    /// Behind what was cut nothing may look like a good end.
    actions was_cut() const noexcept
    {
        return {
            .socket = is_stopped() ? socket_step::reset : socket_step::none, .wakes_senders = true};
    }

    /// The socket is closed now. `none`: it was before. What is cut by it ends in a reset.
    socket_step closes(bool with_reset, message_queue messages) noexcept
    {
        if (phase_ == phase::closed) {
            return socket_step::none;
        }
        phase_ = phase::closed;
        const bool cuts = has_unsent(messages) || output.has_sent_part();
        return with_reset || cuts ? socket_step::reset : socket_step::close;
    }

    /// The peer has left, as is known without a read.
    void peer_has_gone() noexcept
    {
        has_peer_gone_ = true;
    }

    // -- what runs for it

    /// True: it is the first.
    bool task_begins() noexcept
    {
        tasks_ = tasks_ + 1;
        return tasks_ == 1;
    }

    /// True: it was the last.
    bool task_ends() noexcept
    {
        tasks_ = tasks_ - 1;
        return tasks_ == 0;
    }

    /// Its context has been destroyed, and they with it. True: there were some.
    bool tasks_are_gone() noexcept
    {
        const bool were_some = tasks_ != 0;
        tasks_ = 0;
        return were_some;
    }

    /// The handler has returned, and children of it are still running.
    actions children_are_left() noexcept
    {
        is_orphaned_ = true;
        return {.wakes = true, .cancels = input.is_waiting() && ends_wait()};
    }

    // -- the drain

    /// It begins, when the handler has had so many bytes and so many more are there: ends a wait for
    /// a first byte when none has come.
    actions drain_begins(std::uint64_t had, std::size_t there) noexcept
    {
        input.drain_begins(had, there);
        if (!input.is_waiting() || there != 0) {
            return {};
        }
        input.was_sent_home(true);
        return {.cancels = ends_wait()};
    }

    /// What has not begun has nothing to finish.
    actions is_sent_away() noexcept
    {
        input.was_sent_home(true);
        return stop_at_once(close_reason::drained, errc::draining);
    }

    // -- our direction's end

    /// A write is over, of whose bytes the kernel has not taken all, or which met an error.
    actions write_ends(const std::error_code& error) noexcept
    {
        if (error) {
            output.record_was_cut();
        }
        if (error && output.kind() == write_kind::continued) {
            output.part_was_sent();
        }
        const bool goes_on = delivers_ && output.kind() == write_kind::queued;
        const bool is_whole = !error && (output.unsent() == 0 || goes_on);
        actions todo = is_whole ? actions{} : was_cut(); // no other part may follow
        todo.cancels =
            input.is_waiting() && input.must_end(); // the wait that could not be, beside it
        return todo;
    }

    /// There was no memory to wait in, when some of the `size` bytes were sent perhaps; under TLS a
    /// record may have been begun.
    actions write_could_not_wait(std::size_t size, bool is_tls) noexcept
    {
        const bool has_moved = output.unsent() != size;
        if (is_tls && (output.has_waited() || has_moved)) {
            output.record_was_cut();
        }
        if (has_moved || output.kind() == write_kind::continued) {
            output.part_was_sent();
        }
        output.write_ends();
        return was_cut();
    }

private:
    /// So long for what is queued when the connection is closed by its handler and does not linger.
    static constexpr milliseconds shortest_delivery{1000};

    static milliseconds closing_patience(const surroundings& around) noexcept
    {
        const auto& config = around.config;
        return around.is_tls ? std::max(config.linger, config.tls_close_timeout) : config.linger;
    }

    actions close_quietly(message_queue messages) const noexcept
    {
        const bool may_notify = may_say_goodbye() && !has_unsent(messages);
        return {.socket = may_notify ? socket_step::notify_and_close : socket_step::close};
    }

    /// False: not now, a write is pending, which would be cut. It does it when it is done.
    bool ends_wait() noexcept
    {
        input.wait_must_end();
        return !output.is_writing();
    }

    published<phase> phase_ = phase::pre_open;
    published<std::uint32_t> tasks_ = 0; // handler, children, deliveries
    bool delivers_ = false;              // what was sent, though it was stopped
    bool is_orphaned_ = false;
    bool has_peer_gone_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_LIFECYCLE_HPP
