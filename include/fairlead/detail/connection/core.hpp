// fairlead: a connection as its server sees it: how it begins, is drained and ends. What is to be
// done decides lifecycle.hpp; here it is done. The handler's view is fairlead/connection.hpp. No policy
// of the server: no accepting, no limits.

#ifndef FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_CORE_HPP

#include <fairlead/detail/connection/output_queue.hpp>
#include <fairlead/detail/connection/record.hpp>
#include <fairlead/detail/io/transport.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/sleeper.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// There are two ways to be ended from outside the handler. `stop_in_order` ends the pending
/// operations, sends FIN and leaves the rest to the session, which closes without losing bytes once
/// the handler has returned; the wheel closes the socket if the handler does not return. `stop_now`
/// closes the socket. Both note the reason first, and the first reason stays. What was being written
/// and is cut by either ends in a reset: the peer must not take a part for the whole.
class connection_core : public connection_record,
                        public deadline_wheel::node,
                        private hang_up_listener
{
public:
    using milliseconds = std::chrono::milliseconds;
    using phase = lifecycle::phase;

    connection_core(
        environment& belongs_to, connection_owner& told, const endpoint& remote_endpoint,
        connection& as_handlers_see_it)
        : connection_record(belongs_to, told, remote_endpoint, as_handlers_see_it),
          node(&connection_core::deadline_passed),
          stream(home.reactor)
    {
        life_.times.last_activity = accepted_at;
        life_.times.begin_lifetime(accepted_at, home.config.max_lifetime, id());
    }

    connection_core(const connection_core&) = delete;
    connection_core& operator=(const connection_core&) = delete;

    /// Its socket is.
    bool is_open() const noexcept
    {
        return life_.is_open();
    }

    /// It is ending, and the reason is known.
    bool is_stopped() const noexcept
    {
        return life_.is_stopped();
    }

    /// Messages that were sent are not with the kernel yet, or an operation is pending for them.
    bool has_output() const noexcept
    {
        return messages() != message_queue::empty;
    }

    /// Bytes that are to be written are not with the kernel.
    bool has_unsent() const noexcept
    {
        return life_.has_unsent(messages());
    }

    /// Our direction has ended, or cannot end in order any more.
    bool is_sending_over() const noexcept
    {
        return life_.is_sending_over(stream.is_tls());
    }

    /// It holds a place, and is before its handler, or idle in it.
    bool may_be_evicted() const noexcept
    {
        return place && life_.may_give_way();
    }

    time_point last_activity() const noexcept
    {
        return life_.times.last_activity;
    }

    /// Any thread, while it is registered: what changes in it is published.
    connection_info info(time_point now) const
    {
        const time_point active = life_.times.last_activity;
        return {
            .id = id(),
            .local = local,
            .remote = remote,
            .age = now - accepted_at,
            .idle = std::max(now - active, clock::duration::zero()), // active just now, elsewhere
            .bytes_read = bytes_read.get(),
            .bytes_written = bytes_written.get(),
            .opened = life_.current() != phase::pre_open,
            .tls = stream.is_tls(),
            .closed = !is_open()};
    }

    void touch() noexcept
    {
        life_.times.last_activity = clock::now();
    }

    int native_handle() noexcept
    {
        return stream.native_handle();
    }

    /// Its time until the handler must start begins.
    void begin_pre_open()
    {
        const auto timeout = home.config.pre_open_timeout;
        enter(
            phase::pre_open, timeout.count() > 0 ? later(accepted_at, timeout) : time_point::max());
        if (home.draining) {
            owner.awaits_first_request(accepted_at + longest_wait_for_first_request);
        }
    }

    /// Failed before the handler started.
    void pre_open_failed(close_reason reason, std::error_code cause)
    {
        life_.end.note(reason, errc::connection_closed, cause);
        wake_those_who_wait();
    }

    /// The handler starts.
    void open()
    {
        const time_point now = clock::now();
        life_.enter(phase::open, now);
        home.counters.opened.add();
        task_begins();
        if (home.draining) { // its first request is on its way: it was begun before the drain
            life_.input.owes_first_reply(now);
            owner.awaits_first_request(now + longest_wait_for_first_request);
        }
        emit(connection_event_kind::opened);
        look_at_deadlines(clock::now());
    }

    // -- how it is drained

    /// The drain has begun. What has not, or has nothing to finish, ends now; a handshake that has
    /// begun goes on, and the request behind it is served.
    void send_home()
    {
        if (!has_begun()) {
            return perform(life_.is_sent_away());
        }
        if (extras_) {
            extras_->until_drain.notify_all();
        }
        perform(life_.drain_begins(bytes_read.get(), stream.input_size()));
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

    // -- what runs for it: its handler, the handler's children, the delivery of what they sent

    void task_begins() noexcept
    {
        if (life_.task_begins()) {
            home.counters.handlers.add(1);
        }
    }

    /// True: it was the last.
    bool task_ends() noexcept
    {
        const bool was_last = life_.task_ends();
        if (was_last) {
            home.counters.handlers.add(-1);
        }
        return was_last;
    }

    /// The handler or a child of it threw, and others are still running: their operations end.
    void task_failed(const std::exception_ptr& failure)
    {
        deliver_queued();
        handler_ended(failure);
        stop_as_noted();
    }

    /// The handler returned or threw, or a child of it threw. Notes why the connection ends, if
    /// nothing has ended it before; an exception that is news is reported.
    void handler_ended(const std::exception_ptr& failure)
    {
        const bool is_news = failure && !life_.end.explains(failure);
        life_.end.conclude(is_news, is_news ? report(failure) : no_error, home.draining);
        wake_those_who_wait();
    }

    /// The handler has returned, and children of it are still running: they wait for nothing more.
    void children_are_left()
    {
        perform(life_.children_are_left());
    }

    // -- how it ends

    void stop_in_order(close_reason reason, errc code)
    {
        perform(life_.stop(reason, code, clock::now(), around()));
    }

    /// With `reset` the peer gets RST.
    void stop_now(close_reason reason, errc code, bool reset = false) noexcept
    {
        perform(life_.stop_at_once(reason, code, reset ? socket_step::reset : socket_step::close));
    }

    /// The handler is done; the rest must be done after `timeout`. 0: it is done without waiting.
    void begin_closing(milliseconds timeout)
    {
        enter(
            phase::closing, timeout.count() > 0 ? later(clock::now(), timeout) : time_point::max());
    }

    /// Ends what is pending that nobody waits for any longer: operations of coroutines that are not
    /// children of the handler.
    void end_operations() noexcept
    {
        if (life_.input.is_pending() || life_.output.is_writing()) {
            stream.cancel();
        }
    }

    /// With `reset` the peer gets RST, as it does when a write is cut short.
    void close_socket(bool reset = false) noexcept
    {
        const socket_step how = life_.closes(reset, messages());
        if (how != socket_step::none) {
            home.cancel(*this);
            stream.close(how == socket_step::reset);
            owner.connection_closed(*this);
            over_if_done();
        }
    }

    /// Its socket is closed and nothing of it runs: its server forgets it, and its place is free.
    void over_if_done() noexcept
    {
        if (life_.is_over()) {
            owner.connection_over(*this);
        }
    }

    /// That the peer has gone will be noticed without a read.
    void watch()
    {
        stream.watch(*this);
    }

    transport stream;
    std::unique_ptr<output_queue> output; // null: the handler sends no messages
    sleeper* handshake_bed = nullptr;     // of a handshake that waits for its place
    bool is_counted = false;              // among the accepted
    bool is_accounted_for = false;        // in the report of a drain

protected:
    /// What still ran for it has been destroyed with its context, or never began.
    ~connection_core()
    {
        if (life_.tasks_are_gone()) {
            home.counters.handlers.add(-1);
        }
        if (extras_) {
            extras_->deadlines.reset();
        }
        stop_now(close_reason::server_closed, errc::server_closed);
        home.cancel(*this);
        over_if_done();
    }

    lifecycle::surroundings around() const noexcept
    {
        return {.config = home.config, .is_tls = stream.is_tls(), .messages = messages()};
    }

    message_queue messages() const noexcept
    {
        return !output || output->is_idle() ? message_queue::empty
               : output->has_unsent()       ? message_queue::unsent
                                            : message_queue::completing;
    }

    void perform(const actions& todo) noexcept
    {
        if (todo.wakes) {
            wake_those_who_wait();
        }
        look_by(todo.look_by);
        if (todo.next_look != time_point::max()) {
            home.schedule(*this, todo.next_look);
        }
        if (todo.cancels) {
            stream.cancel();
        }
        perform(todo.socket);
        if (todo.wakes_senders) {
            wake_senders();
        }
    }

    /// Why it ends was noted just now.
    void stop_as_noted() noexcept
    {
        perform(life_.stops_as_noted(clock::now(), around()));
    }

    /// What is queued now shall still leave, though the connection ends.
    void deliver_queued() noexcept
    {
        if (output && !is_stopped()) {
            output->flush();
            life_.delivers(messages());
        }
    }

    void wake_those_who_wait() noexcept
    {
        if (handshake_bed != nullptr) {
            handshake_bed->wake();
        }
        if (extras_) {
            extras_->notify_all();
        }
        end_waits();
    }

    void wake_senders() noexcept
    {
        if (extras_) {
            extras_->until_sent.notify_all();
        }
    }

    /// The wheel looks at `when` at the latest. What is closed is never on the wheel.
    void look_by(time_point when) noexcept
    {
        if (when != time_point::max() && is_open()) {
            home.schedule_by(*this, when);
        }
    }

private:
    void perform(socket_step step) noexcept
    {
        switch (step) {
        case socket_step::none:
            break;
        case socket_step::finish: // where the socket has no room, when the handler is done, or late
            if (stream.close_notify().waits_for == transport::attempt::condition::nothing &&
                life_.output.finishes()) {
                stream.shutdown_send();
                emit(connection_event_kind::close_write);
            }
            break;
        case socket_step::notify_and_close:
            stream.close_notify();
            close_socket();
            break;
        case socket_step::close:
            close_socket();
            break;
        case socket_step::reset:
            close_socket(true);
            break;
        }
    }

    void enter(phase next, time_point ends)
    {
        const time_point now = clock::now();
        life_.enter(next, now, ends);
        look_at_deadlines(now);
    }

    /// A drain found a handshake, or its first bytes, under way.
    bool has_begun() noexcept
    {
        return life_.current() != phase::pre_open || stream.is_tls() || stream.input_size() != 0;
    }

    /// In a drain: by when the first bytes must come of who was accepted in it, or opened; `max()`:
    /// they are not waited for. Who has not begun then was accepted in it.
    time_point first_request_due() noexcept
    {
        return !has_begun() ? accepted_at + longest_wait_for_first_request
               : life_.input.is_first_reply_owed()
                   ? life_.input.opened_at() + longest_wait_for_first_request
                   : time_point::max();
    }

    void peer_has_gone() override
    {
        life_.peer_has_gone();
        if (handshake_bed != nullptr) {
            handshake_bed->wake();
        }
        if (extras_) {
            extras_->until_closed.notify_all();
            if (extras_->has_bystanders() && native::has_failed(stream.native_handle())) {
                life_.end.sending_failed(
                    asio::error::connection_reset, error_kind::reset); // a read will say so, too
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
        const auto facts = [this] {
            return deadlines::outgoing{
                .acknowledged = stream.acknowledged(bytes_written.get()),
                .pending = native::unacknowledged_bytes(stream.native_handle()) != 0};
        };
        perform(life_.look(now, around(), facts, clock::now));
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
