// fairlead: a connection as its server sees it: the transport, why and when it ends, and what it
// has moved. The handler's view is connection.hpp. No policy of the server: no accepting, no
// limits, no drain.

#ifndef FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_CORE_HPP

#include <fairlead/detail/connection_record.hpp>
#include <fairlead/detail/deadlines.hpp>
#include <fairlead/detail/output_queue.hpp>
#include <fairlead/detail/shard.hpp>
#include <fairlead/detail/transport.hpp>

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

namespace fairlead::detail
{
/// pre_open -> open -> closing -> closed. Each step is taken once; any may be skipped.
///
/// There are two ways to be ended from outside the handler. `stop_in_order` ends the pending
/// operations, sends FIN and leaves the rest to the session, which closes without losing bytes once
/// the handler has returned; the wheel closes the socket if the handler does not return. `stop_now`
/// closes the socket. Both note the reason first, and the first reason stays.
class connection_core : public connection_record, public deadline_wheel::node
{
public:
    using milliseconds = std::chrono::milliseconds;

    enum class phase : std::uint8_t
    {
        pre_open,
        open,
        closing,
        closed,
    };

    connection_core(shard& owner, const asio::ip::tcp::endpoint& remote_endpoint)
        : connection_record(owner, remote_endpoint),
          node(&connection_core::deadline_passed),
          stream(server.get_executor())
    {
        deadlines_.last_activity = accepted_at;
        deadlines_.begin_lifetime(accepted_at, server.config.max_lifetime, id());
    }

    connection_core(const connection_core&) = delete;
    connection_core& operator=(const connection_core&) = delete;

    ~connection_core()
    {
        stop_now(close_reason::server_closed, errc::server_closed);
    }

    // -- the end

    void stop_in_order(close_reason reason, errc code)
    {
        if (ending_.note(reason, code)) {
            stop_in_order_as_noted();
        }
    }

    void stop_in_order_as_noted()
    {
        if (!is_open() || phase_ == phase::closing) {
            return;
        }
        const auto& config = server.config;
        const auto patience =
            stream.is_tls() ? std::max(config.linger, config.tls_close_timeout) : config.linger;
        if (patience.count() == 0) {
            if (!writing_ && may_say_goodbye()) {
                stream.close_notify(); // if it goes at once
            }
            close_socket();
            return;
        }
        stream.cancel();
        if (!stream.is_tls() && !std::exchange(send_finished_, true)) {
            stream.shutdown_send();
            emit(connection_event_kind::close_write);
        }
        server.schedule_by(*this, deadlines_.closing_ends = clock::now() + patience);
    }

    /// With `reset` the peer gets RST.
    void stop_now(close_reason reason, errc code, bool reset = false) noexcept
    {
        ending_.note(reason, code);
        close_socket(reset);
    }

    /// With `reset` the peer gets RST.
    void close_socket(bool reset = false) noexcept
    {
        if (phase_ == phase::closed) {
            return;
        }
        phase_ = phase::closed;
        server.cancel(*this);
        stream.close(reset);
        server.connection_closed(*this);
    }

    /// The drain has begun: ends a wait for a first byte when none has come. True when it did.
    bool drain_begins()
    {
        drain_limit_ = bytes_read + stream.input_size();
        if (!waiting_ || drain_limit_ != bytes_read) {
            return false;
        }
        woken_by_drain_ = true;
        if (!writing_) {
            stream.cancel();
        }
        return true;
    }

    /// The handler returned or threw. Notes why the connection ends, if nothing has ended it
    /// before; an exception that is news is reported.
    void handler_ended(const std::exception_ptr& failure)
    {
        const bool is_news = failure && !ending_.explains(failure);
        ending_.conclude(is_news, is_news ? report(failure) : std::error_code(), server.draining);
    }

    /// Failed before the handler started.
    void pre_open_failed(close_reason reason, std::error_code cause)
    {
        ending_.note(reason, errc::connection_closed, cause);
    }

    /// No place for it: it ends as it begins.
    void refuse() noexcept
    {
        ending_.note(close_reason::rejected_by_limit, errc::connection_refused_by_limit);
        emit(connection_event_kind::closed);
    }

    /// Its time until the handler must start begins.
    void begin_pre_open()
    {
        const auto timeout = server.config.pre_open_timeout;
        begin_phase(
            phase::pre_open, timeout.count() > 0 ? later(accepted_at, timeout) : time_point::max());
    }

    /// The handler starts.
    void open()
    {
        begin_phase(phase::open);
        server.counters.opened.add();
        emit(connection_event_kind::opened);
    }

    /// The handler takes a step that belongs before it: `pre_open_timeout` counts from `since`.
    void late_pre_open_begins(time_point since)
    {
        const auto timeout = server.config.pre_open_timeout;
        if (timeout.count() > 0 && is_open() && !is_stopped()) {
            deadlines_.pre_open_ends = later(since, timeout);
            server.schedule_by(*this, deadlines_.pre_open_ends);
        }
    }

    void late_pre_open_ends() noexcept
    {
        deadlines_.pre_open_ends = time_point::max();
    }

    /// What a frame has begun with is here; the rest must come within `timeout`.
    void frame_begins(milliseconds timeout)
    {
        if (phase_ == phase::open && !is_stopped()) {
            deadlines_.frame_ends = later(clock::now(), timeout);
            server.schedule_by(*this, deadlines_.frame_ends);
        }
    }

    void frame_ends() noexcept
    {
        deadlines_.frame_ends = time_point::max();
    }

    /// The TLS handshake waits for the peer: `handshake_stalled` tells the server when that takes
    /// too long.
    void handshake_waits(clock::duration patience)
    {
        touch();
        handshake_stall_ = deadlines_.last_activity + patience;
        server.schedule_by(*this, handshake_stall_);
    }

    void handshake_continues() noexcept
    {
        handshake_stall_ = time_point::max();
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
        if (phase_ == phase::closed) {
            return;
        }
        phase_ = next;
        touch();
        deadlines_.pre_open_ends = next == phase::pre_open ? ends : time_point::max();
        deadlines_.closing_ends = next == phase::closing ? ends : deadlines_.closing_ends;
        look_at_deadlines(deadlines_.last_activity);
    }

    // -- questions

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

    /// No TLS record was cut, so that close_notify may follow what was written.
    bool may_say_goodbye() const noexcept
    {
        return !write_cut_ && !ending_.has_transport_error();
    }

    /// Messages that were sent are not with the kernel yet, or an operation is pending for them.
    bool has_output() const noexcept
    {
        return output && !output->is_idle();
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

    time_point last_activity() const noexcept
    {
        return deadlines_.last_activity;
    }

    connection_info info() const
    {
        const auto now = clock::now();
        return {
            .id = id(),
            .local = local,
            .remote = remote,
            .age = now - accepted_at,
            .idle = now - deadlines_.last_activity,
            .bytes_read = bytes_read,
            .bytes_written = bytes_written,
            .opened = phase_ != phase::pre_open,
            .tls = stream.is_tls()};
    }

    void touch() noexcept
    {
        deadlines_.last_activity = clock::now();
    }

    void sending_finished() noexcept
    {
        if (is_open() && !std::exchange(send_finished_, true)) {
            emit(connection_event_kind::close_write);
        }
    }

    transport stream;
    std::unique_ptr<output_queue> output; // null: the handler sends no messages
    bool holds_handshake_place = false;

private:
    static void deadline_passed(node& expired, time_point now)
    {
        static_cast<connection_core&>(expired).look_at_deadlines(now);
    }

    void look_at_deadlines(time_point now)
    {
        const auto stage = is_stopped()                ? deadlines::stage::closing
                           : phase_ == phase::pre_open ? deadlines::stage::pre_open
                                                       : deadlines::stage::open;
        if (now >= handshake_stall_) {
            handshake_stall_ = time_point::max();
            server.handshake_stalled(*this);
        }
        auto verdict = deadlines_.look(now, stage, writing_, server.config, [this] {
            return deadlines::outgoing{
                .acknowledged = stream.acknowledged(bytes_written),
                .pending = native::unacknowledged_bytes(stream.native_handle()) != 0};
        });
        if (!verdict.reason) {
            verdict.next = std::min(verdict.next, handshake_stall_);
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
            return stop_now(*verdict.reason, errc::connection_closed);
        }
    }

protected:
    deadlines deadlines_;
    time_point handshake_stall_ = time_point::max();
    std::uint64_t drain_limit_ = 0; // bytes_read up to here answers what came before the drain
    phase phase_ = phase::pre_open;
    bool reading_ = false;
    bool waiting_ = false;
    bool writing_ = false;
    bool woken_by_drain_ = false;
    bool send_finished_ = false;
    bool write_cut_ = false;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_CORE_HPP
