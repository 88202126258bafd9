// fairlead: a connection as its handler's operations see it: whether one may start, and the
// accounts when it ends. connection/io.hpp starts them; how a connection ends as a whole is in
// connection/core.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_OPERATIONS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_OPERATIONS_HPP

#include <fairlead/detail/connection/sending.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_ref.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class connection_operations : public connection_sending
{
public:
    using connection_sending::connection_sending;

    void shake_hands(bool begins) noexcept
    {
        if (begins) {
            life_.input.handshake_begins();
        } else {
            life_.input.operation_ends();
        }
    }

    /// What a read ends with that must not start; none: it may.
    std::error_code refuses_read() const noexcept
    {
        return detail::refuses_read(life_, stream.has_input_at_hand());
    }

    bool may_read_at_hand() const noexcept
    {
        return !is_stopped() && !life_.input.is_busy() && stream.has_input_at_hand();
    }

    /// There is nothing to wait for: an end, an error, the handler's end, or a drain that has begun
    /// and found no input.
    bool refuses_wait() noexcept
    {
        return static_cast<bool>(refuses_read()) || has_nothing_to_wait_for();
    }

    void read_begins() noexcept
    {
        life_.input.read_begins();
    }

    /// Returns the error as the handler shall see it.
    std::error_code read_ends(const std::error_code& error, std::size_t& bytes)
    {
        life_.input.operation_ends();
        life_.input.was_taken(bytes);
        if (!is_open()) { // its end has been told and counted: what came with it came too late
            return too_late(bytes);
        }
        if (bytes != 0) {
            if (bytes_read.get() == 0) {
                owner.first_bytes_read(*this);
            }
            bytes_read.add(bytes);
            home.counters.bytes_read.add(bytes);
            touch();
            first_input_has_come();
            emit_io(connection_event_kind::read);
        }
        return explain(error);
    }

    /// Reads without waiting; the end is 0 bytes. Only when `may_read_at_hand`. Empty: there was
    /// nothing after all.
    template <typename Buffers>
    std::optional<std::size_t> read_at_hand(const Buffers& buffers, std::error_code& error)
    {
        auto result = stream.read(buffers);
        if (result.waits_for != transport::attempt::condition::nothing) {
            return std::nullopt;
        }
        error = read_ends(result.error, result.bytes);
        if (error == asio::error::eof) {
            error.clear();
        }
        return result.bytes;
    }

    void wait_begins() noexcept
    {
        life_.input.wait_begins();
    }

    /// Returns the error as the handler shall see it; `eof` becomes an answer.
    std::error_code input_wait_ends(const std::error_code& error)
    {
        life_.input.was_taken(0);
        return wait_ends(error);
    }

    /// Our direction has failed: an operation takes what has arrived, whatever is known of it.
    void begins_to_read() noexcept
    {
        if (life_.end.sending_error()) {
            stream.look_again();
        }
    }

    /// Nothing more can be read ahead; a drain ends this wait as it does the other.
    bool refuses_read_ahead() noexcept
    {
        return life_.input.is_busy() || static_cast<bool>(life_.end.refuses_read()) ||
               has_nothing_to_wait_for();
    }

    /// What a read ahead that may not start ends with.
    std::error_code why_no_read_ahead() const noexcept
    {
        return is_stopped()            ? life_.end.stop_code()
               : life_.input.is_busy() ? in_progress()
                                       : no_error;
    }

    /// Why TLS cannot begin now; empty: it can.
    std::error_code refuses_tls() noexcept
    {
        if (const std::error_code ended = life_.end.refuses_read()) {
            return ended;
        }
        if (stream.is_tls()) {
            return make_error_code(std::errc::operation_not_permitted);
        }
        if (life_.input.is_busy() || life_.is_sending(messages())) {
            return make_error_code(std::errc::operation_in_progress);
        }
        const bool has_taken = output && output->unread_input != 0;
        const auto next = stream.first_byte();
        return has_taken || (next && *next != tls_first_byte)
                   ? make_error_code(errc::plaintext_before_tls)
                   : no_error;
    }

    /// The handler closes the connection itself: nobody's error. `why` is its word for it.
    void close_by_handler(std::string_view why = {})
    {
        if (!is_stopped()) {
            deliver_queued();
            remember_why(why);
            life_.end.conclude(false, {}, false);
            stop_as_noted();
        }
    }

    /// The same by a reset. What ended the connection before stays the reason.
    void abort_by_handler() noexcept
    {
        if (!is_stopped()) {
            life_.end.conclude(false, {}, false);
            wake_those_who_wait();
        }
        close_socket(true);
    }

    /// The handler takes a step that belongs before it: `pre_open_timeout` counts from `since`.
    void late_pre_open_begins(time_point since)
    {
        const auto timeout = home.config.pre_open_timeout;
        if (timeout.count() > 0 && is_open() && !is_stopped()) {
            life_.times.pre_open_ends = later(since, timeout);
            look_by(life_.times.pre_open_ends);
        }
    }

    void late_pre_open_ends() noexcept
    {
        life_.times.pre_open_ends = time_point::max();
    }

    /// What a frame has begun with is here; the rest must come within `timeout`.
    void frame_begins(milliseconds timeout)
    {
        if (life_.current() == phase::open && !is_stopped()) {
            life_.times.frame_ends = later(clock::now(), timeout);
            look_by(life_.times.frame_ends);
        }
    }

    void frame_ends() noexcept
    {
        life_.times.frame_ends = time_point::max();
    }

    // -- the peer's leaving, without a read

    /// `handler(error)` when the connection ends: the peer has gone or finished, or it was stopped.
    template <typename Handler>
    void wait_until_closed(Handler&& handler)
    {
        if (life_.is_orphaned() || life_.has_ended()) {
            post_completion(get_executor(), std::forward<Handler>(handler), std::error_code());
        } else {
            extras().until_closed.push(get_executor(), std::forward<Handler>(handler));
            watch();
        }
    }

    template <typename Handler>
    void wait_until_drain(Handler&& handler)
    {
        if (life_.is_orphaned() || home.draining || is_stopped() || !is_open()) {
            post_completion(get_executor(), std::forward<Handler>(handler), std::error_code());
        } else {
            extras().until_drain.push(get_executor(), std::forward<Handler>(handler));
        }
    }

    void expires_after(milliseconds timeout)
    {
        life_.times.expires_at =
            timeout.count() > 0 ? later(clock::now(), timeout) : time_point::max();
        if (life_.current() == phase::open && !is_stopped()) {
            look_by(life_.times.expires_at);
        }
    }

private:
    std::error_code wait_ends(const std::error_code& error)
    {
        life_.input.operation_ends();
        const bool must_end = life_.input.take_must_end();
        if (!is_open()) {
            return life_.end.stop_code();
        }
        if (!error) {
            life_.input.was_sent_home(false); // there was something when it began
            touch();
            first_input_has_come();
            return {};
        }
        if (error == asio::error::operation_aborted && must_end) {
            return life_.end.stop_code();
        }
        const std::error_code explained = explain(error);
        return explained == asio::error::eof ? no_error : explained;
    }

    void remember_why(std::string_view why) noexcept
    {
        if (!why.empty()) {
            try {
                extras().why = why;
            } catch (...) { // no memory for a word
            }
        }
    }

    bool has_nothing_to_wait_for() noexcept
    {
        return life_.is_orphaned() ||
               (home.draining && !life_.input.is_first_reply_owed() && !owes_reply());
    }

    /// Of a connection that was opened during a drain: this is what its reply is owed for, with
    /// what has come behind it.
    void first_input_has_come() noexcept
    {
        if (life_.input.is_first_reply_owed()) {
            life_.input.first_request_has_come(bytes_read.get(), stream.input_size());
        }
    }

    /// In a drain: input that had arrived before it began is still to be served.
    bool owes_reply() noexcept
    {
        return life_.input.owes_reply_behind(bytes_read.get()) && stream.input_size() != 0;
    }
};

/// Keeps a connection alive.
using connection_ref = intrusive_ref<connection_operations>;
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_OPERATIONS_HPP
