// fairlead: a connection as its server sees it: the transport, why and when it ends, and what it
// has moved. The handler's view is connection.hpp. No policy of the server: no accepting, no
// limits, no drain.

#ifndef FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_CORE_HPP

#include <fairlead/detail/connection/state.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// There are two ways to be ended from outside the handler. `stop_in_order` ends the pending
/// operations, sends FIN and leaves the rest to the session, which closes without losing bytes once
/// the handler has returned; the wheel closes the socket if the handler does not return. `stop_now`
/// closes the socket. Both note the reason first, and the first reason stays. What was being written
/// and is cut by either ends in a reset: the peer must not take a part for the whole.
class connection_core : public connection_state,
                        public deadline_wheel::node,
                        private hang_up_listener
{
public:
    using milliseconds = std::chrono::milliseconds;

    connection_core(
        shard& owner, const asio::ip::tcp::endpoint& remote_endpoint,
        connection& as_handlers_see_it)
        : connection_state(owner, remote_endpoint, as_handlers_see_it),
          node(&connection_core::deadline_passed)
    {
        deadlines_.last_activity = accepted_at;
        deadlines_.begin_lifetime(accepted_at, server.config.max_lifetime, id());
    }

    connection_core(const connection_core&) = delete;
    connection_core& operator=(const connection_core&) = delete;

    // -- the end

    void stop_in_order(close_reason reason, errc code)
    {
        if (ending_.note(reason, code)) {
            stop_in_order_as_noted();
        }
    }

    void stop_in_order_as_noted()
    {
        wake_those_who_wait();
        if (!is_open() || phase_ == phase::closing) {
            return;
        }
        if (closing_patience().count() == 0 && !is_sending() && !completes_write()) {
            close_without_waiting();
            return;
        }
        if (deadlines_.closing_ends == time_point::max()) {
            const auto time =
                closing_patience().count() != 0 ? closing_patience() : shortest_delivery;
            look_by(deadlines_.closing_ends = later(clock::now(), time));
        }
        if (!delivers_output_) { // else its end goes on from here
            stream.cancel();
            finish_stopped_sending();
        }
    }

    /// When it was stopped, and what was being written then is with the kernel: FIN, under TLS
    /// behind close_notify; a reset, if that was a part only. The handler may go on for longer than
    /// the peer shall wait for it.
    void finish_stopped_sending() noexcept
    {
        const bool is_ending = is_stopped() && is_open() && phase_ != phase::closing;
        if (!is_ending || is_sending() || completes_write()) {
            return;
        }
        if (has_sent_part()) {
            close_socket(true);
            return;
        }
        if (std::exchange(delivers_output_, false)) {
            stream.cancel();
        }
        if (closing_patience().count() == 0) {
            close_without_waiting();
        } else if (has_said_goodbye() && !std::exchange(send_finished_, true)) {
            stream.shutdown_send();
            emit(connection_event_kind::close_write);
        }
    }

    /// What is queued now shall still leave, though the connection ends: within the time for
    /// closing, or a second when that is none.
    void deliver_queued()
    {
        if (output && !is_stopped()) {
            output->flush();
            const bool is_others = writing_ && writes_ != write_kind::queued; // what is before it
            const bool is_cut = is_others && unsent_ != 0;
            delivers_output_ = !is_cut && (output->has_unsent() || unsent_ != 0);
        }
    }

    /// The end came inside what was being written. The peer must not take what it got for the
    /// whole: reset.
    void output_was_cut() noexcept
    {
        if (is_stopped()) {
            close_socket(true);
        }
    }

    /// With `reset` the peer gets RST.
    void stop_now(close_reason reason, errc code, bool reset = false) noexcept
    {
        if (ending_.note(reason, code)) {
            wake_those_who_wait();
        }
        close_socket(reset);
    }

    /// With `reset` the peer gets RST, as it does when a write is cut short.
    void close_socket(bool reset = false) noexcept
    {
        if (phase_ == phase::closed) {
            return;
        }
        const bool cuts_output = !reset && (has_unsent() || has_sent_part());
        phase_ = phase::closed;
        server.cancel(*this);
        stream.close(reset || cuts_output);
        server.connection_closed(*this);
        over_if_done();
    }

    /// The drain has begun: ends a wait for a first byte when none has come. True when it did.
    bool drain_begins()
    {
        owes_first_reply_ = false;
        drain_limit_ = bytes_read.get() + stream.input_size();
        pending_at_drain_ = reading_ || waiting_;
        if (extras_) {
            extras_->until_drain.notify_all();
        }
        if (!waiting_ || drain_limit_ != bytes_read.get()) {
            return false;
        }
        woken_by_drain_ = true;
        end_wait();
        return true;
    }

    /// The drain has begun. What has not, or has nothing to finish, ends now; a handshake that has
    /// begun goes on, and the request behind it is served.
    void send_home()
    {
        if (has_begun()) {
            drain_begins();
        } else {
            woken_by_drain_ = true;
            stop_now(close_reason::drained, errc::draining);
        }
    }

    /// When its first request is late, it has had its time; else that is returned.
    time_point await_first_request(time_point now)
    {
        const time_point due = first_request_due();
        if (now < due) {
            return due;
        }
        send_home();
        return time_point::max();
    }

    /// The handler or a child of it threw, and others are still running: their operations end.
    void task_failed(const std::exception_ptr& failure)
    {
        deliver_queued();
        handler_ended(failure);
        stop_in_order_as_noted();
    }

    /// The handler returned or threw, or a child of it threw. Notes why the connection ends, if
    /// nothing has ended it before; an exception that is news is reported.
    void handler_ended(const std::exception_ptr& failure)
    {
        const bool is_news = failure && !ending_.explains(failure);
        ending_.conclude(is_news, is_news ? report(failure) : std::error_code(), server.draining);
        wake_those_who_wait();
    }

    // -- what runs for it: its handler, the handler's children, the delivery of what they sent

    void task_begins() noexcept
    {
        tasks_ = tasks_ + 1;
        if (tasks_ == 1) {
            server.counters.handlers.add(1);
        }
    }

    /// True: it was the last.
    bool task_ends() noexcept
    {
        tasks_ = tasks_ - 1;
        if (tasks_ != 0) {
            return false;
        }
        server.counters.handlers.add(-1);
        return true;
    }

    /// The handler has returned, and children of it are still running: they wait for nothing more.
    void children_are_left()
    {
        is_orphaned_ = true;
        wake_those_who_wait();
        if (waiting_) {
            end_wait();
        }
    }

    /// Its socket is closed and nothing of it runs: its server forgets it, and its place is free.
    void over_if_done() noexcept
    {
        if (phase_ == phase::closed && tasks_ == 0) {
            server.connection_over(*this);
        }
    }

    /// That the peer has gone will be noticed without a read.
    void watch()
    {
        stream.watch(*this);
    }

    /// Failed before the handler started.
    void pre_open_failed(close_reason reason, std::error_code cause)
    {
        ending_.note(reason, errc::connection_closed, cause);
        wake_those_who_wait();
    }

    /// Its time until the handler must start begins.
    void begin_pre_open()
    {
        const auto timeout = server.config.pre_open_timeout;
        begin_phase(
            phase::pre_open, timeout.count() > 0 ? later(accepted_at, timeout) : time_point::max());
        if (server.draining) {
            server.awaits_first_request(accepted_at + longest_wait_for_first_request);
        }
    }

    /// The handler starts.
    void open()
    {
        enter(phase::open);
        server.counters.opened.add();
        task_begins();
        if (server.draining) { // its first request is on its way: it was begun before the drain
            owes_first_reply_ = true;
            opened_at_ = clock::now();
            server.awaits_first_request(opened_at_ + longest_wait_for_first_request);
        }
        emit(connection_event_kind::opened);
        look_at_deadlines(clock::now());
    }

    /// The handler is done; the rest must be done after `timeout`. 0: it is done without waiting.
    void begin_closing(milliseconds timeout)
    {
        begin_phase(
            phase::closing, timeout.count() > 0 ? later(clock::now(), timeout) : time_point::max());
    }

    /// Goes on to `next`, which must end by `ends`.
    void begin_phase(phase next, time_point ends = time_point::max())
    {
        enter(next, ends);
        look_at_deadlines(clock::now());
    }

    /// Ends what is pending that nobody waits for any longer: operations of coroutines that are not
    /// children of the handler.
    void end_operations() noexcept
    {
        if (reading_ || waiting_ || writing_) {
            stream.cancel();
        }
    }

protected:
    /// What still ran for it has been destroyed with its context, or never began.
    ~connection_core()
    {
        if (tasks_ != 0) {
            tasks_ = 0;
            server.counters.handlers.add(-1);
        }
        if (extras_) {
            extras_->deadlines.reset();
        }
        stop_now(close_reason::server_closed, errc::server_closed);
        server.cancel(*this);
        over_if_done();
    }

    /// Ends the pending `readable()`. Not while a write is pending, which would be cut: it does it
    /// when it is done.
    void end_wait() noexcept
    {
        wait_must_end_ = true;
        if (!writing_) {
            stream.cancel();
        }
    }

    void wake_those_who_wait()
    {
        if (handshake_bed != nullptr) {
            handshake_bed->wake();
        }
        if (extras_) {
            extras_->notify_all();
        }
        end_waits();
    }

    /// The wheel looks at `when` at the latest. What is closed is never on the wheel.
    void look_by(time_point when) noexcept
    {
        if (is_open()) {
            server.schedule_by(*this, when);
        }
    }

private:
    /// So long for what is queued when the connection is closed by its handler and does not linger.
    static constexpr milliseconds shortest_delivery{1000};

    milliseconds closing_patience() const noexcept
    {
        const auto& config = server.config;
        return stream.is_tls() ? std::max(config.linger, config.tls_close_timeout) : config.linger;
    }

    /// FIN may follow. Before the handler, and in a handshake, TLS is for those who shake hands to
    /// end; where the socket has no room, the next attempt is made when the handler is done, or out
    /// of time.
    bool has_said_goodbye() noexcept
    {
        return !stream.is_tls() ||
               (phase_ == phase::open && !is_shaking_hands_ && may_say_goodbye() &&
                stream.close_notify().waits_for == transport::attempt::condition::nothing);
    }

    void close_without_waiting() noexcept
    {
        if (may_say_goodbye() && !has_unsent()) {
            stream.close_notify(); // if it goes at once
        }
        close_socket();
    }

    void enter(phase next, time_point ends = time_point::max())
    {
        if (is_open()) {
            phase_ = next;
            touch();
            deadlines_.pre_open_ends = next == phase::pre_open ? ends : time_point::max();
            deadlines_.closing_ends = next == phase::closing ? ends : deadlines_.closing_ends;
        }
    }

    void peer_has_gone() override
    {
        peer_gone_ = true;
        if (handshake_bed != nullptr) {
            handshake_bed->wake();
        }
        if (extras_) {
            extras_->until_closed.notify_all();
            if (extras_->has_bystanders() && native::has_failed(stream.native_handle())) {
                ending_.sending_failed(asio::error::connection_reset); // a read will say so, too
                end_waits();
            }
        }
    }

    static void deadline_passed(node& expired, time_point now)
    {
        static_cast<connection_core&>(expired).look_at_deadlines(now);
    }

    void look_at_deadlines(time_point now)
    {
        if (!is_open()) {
            return;
        }
        const bool is_closing = is_stopped() || phase_ == phase::closing;
        const auto stage = is_closing                  ? deadlines::stage::closing
                           : phase_ == phase::pre_open ? deadlines::stage::pre_open
                                                       : deadlines::stage::open;
        const bool is_writing = (writing_ && write_waits_) || seeks_room_;
        const auto verdict = deadlines_.look(now, stage, is_writing, server.config, [this] {
            return deadlines::outgoing{
                .acknowledged = stream.acknowledged(bytes_written.get()),
                .pending = native::unacknowledged_bytes(stream.native_handle()) != 0};
        });
        if (!verdict.reason) {
            if (verdict.next != time_point::max()) {
                server.schedule(*this, verdict.next);
            }
            return;
        }
        switch (*verdict.reason) {
        case close_reason::idle_timeout:
            return stop_in_order(*verdict.reason, errc::idle_timeout);
        case close_reason::deadline_exceeded:
            return stop_in_order(*verdict.reason, errc::deadline_exceeded);
        case close_reason::max_lifetime:
            return stop_in_order(*verdict.reason, errc::max_lifetime);
        case close_reason::
            write_timeout: // what the peer does not take would stay in the kernel: reset
            return stop_now(*verdict.reason, errc::write_timeout, true);
        case close_reason::pre_open_timeout:
            return stop_now(*verdict.reason, errc::pre_open_timeout);
        default: // closing took too long; the reason is known already
            return close_without_waiting();
        }
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
