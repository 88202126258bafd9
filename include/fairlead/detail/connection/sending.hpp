// fairlead: what a connection sends: the accounts of each write, and how our direction ends. io.hpp
// starts the writes.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP

#include <fairlead/detail/connection/core.hpp>
#include <fairlead/detail/connection/refusals.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/error.hpp>

#include <cstddef>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
inline error_kind kind_of(const std::error_code& error) noexcept
{
    return error == asio::error::eof                 ? error_kind::end
           : error == asio::error::operation_aborted ? error_kind::cancelled
           : error == asio::error::connection_reset  ? error_kind::reset
           : error == asio::error::broken_pipe || error == asio::error::connection_aborted
               ? error_kind::broken
               : error_kind::other;
}

class connection_sending : public connection_core
{
public:
    using connection_core::connection_core;

    // -- whether something may be sent

    /// What a write ends with that must not start; none: it may.
    std::error_code refuses_write(write_kind kind) const noexcept
    {
        return as_asio_says(detail::refuses_write(life_, kind, around()));
    }

    /// Nothing more can be sent; none: it can, though perhaps behind what is being written.
    std::error_code refuses_output() const noexcept
    {
        return as_asio_says(detail::refuses_output(life_, stream.is_tls()));
    }

    /// The same for a sender who had begun before the end was asked for.
    std::error_code refuses_rest() const noexcept
    {
        return as_asio_says(detail::refuses_rest(life_, stream.is_tls()));
    }

    /// The queue may be written now.
    bool may_write_queue() const noexcept
    {
        return !life_.output.is_writing() && !life_.output.is_completing() &&
               !life_.input.is_shaking_hands();
    }

    // -- the accounts of a write

    void write_begins(std::size_t size, write_kind kind) noexcept
    {
        life_.output.write_begins(size, kind);
    }

    /// There was no memory to wait in, when some of the `size` bytes were sent perhaps.
    void write_could_not_wait(std::size_t size) noexcept
    {
        perform(life_.write_could_not_wait(size, stream.is_tls()));
    }

    /// The kernel has taken so many bytes of the write that is pending, and takes no more now.
    void output_taken(std::size_t bytes, bool waits) noexcept
    {
        if (bytes != 0) {
            bytes_written.add(bytes);
            home.counters.bytes_written.add(bytes);
            touch();
        }
        if (life_.output.was_taken(bytes, waits)) {
            write_time_begins();
        }
    }

    /// To the hooks, which may do anything.
    void tell_of_output() noexcept
    {
        if (life_.output.take_untold() && is_open()) {
            emit_io(connection_event_kind::write);
        }
    }

    /// Returns the error as the handler shall see it.
    std::error_code write_ends(const std::error_code& error)
    {
        // It is pending while hooks hear of it: they do not write into the middle of an operation.
        std::error_code told = life_.end.stop_code();
        if (is_open()) {
            tell_of_output();
            if (error || life_.output.unsent() != 0 ||
                life_.input.must_end()) { // not the usual end
                perform(life_.write_ends(error));
            }
            told = explain(error);
        }
        life_.output.write_ends();
        return told;
    }

    /// The same of a write of all of its buffers, of which so many bytes were sent.
    std::error_code write_all_ends(const std::error_code& error, std::size_t bytes)
    {
        const bool is_cut = bytes != 0 && life_.output.unsent() != 0;
        const std::error_code told = write_ends(error);
        if (is_cut) {
            part_was_sent();
        }
        return told;
    }

    /// The handler of a write begins to run, or has run; returns whether one did before.
    bool completes_write(bool runs) noexcept
    {
        return life_.output.completes(runs);
    }

    /// A write is over, and its handler has had its say: what waits for its end comes now.
    void write_is_over() noexcept
    {
        if (output) {
            output->flush();
        }
        finish_stopped_sending();
    }

    /// Nothing is being written, perhaps: if it was stopped, our direction ends then.
    void finish_stopped_sending() noexcept
    {
        if (is_stopped()) {
            perform(life_.finishes_when_stopped(around()));
        }
    }

    /// Some of a write was sent, and not the rest: nothing may follow that looks like a good end.
    void part_was_sent() noexcept
    {
        life_.output.part_was_sent();
        perform(life_.was_cut());
    }

    /// So are messages that were sent.
    void output_is_lost() noexcept
    {
        life_.output.messages_are_lost();
        perform(life_.was_cut());
    }

    /// Somebody has messages that are not queued yet, and waits until they can be.
    void sender_begins() noexcept
    {
        life_.output.sender_begins();
    }

    void sender_ends() noexcept
    {
        life_.output.sender_ends();
    }

    // -- our direction's end

    /// Nothing may be sent but what is being sent, and then the end.
    void sending_shall_end() noexcept
    {
        life_.output.shall_end();
    }

    /// The end was asked for, nothing is before it, and nobody waits for room for it already.
    bool shall_finish_now() const noexcept
    {
        return life_.output.was_asked_to_end() && life_.shall_finish(around());
    }

    void seeks_room(bool begins) noexcept
    {
        if (begins) {
            life_.output.seeks_room();
            write_time_begins();
        } else {
            life_.output.stops_seeking();
        }
    }

    /// Ends our direction, under TLS by close_notify alone. Only when it `shall_finish_now`. False:
    /// the socket has no room for it.
    bool finish_sending()
    {
        if (stream.is_tls()) {
            const auto notify = stream.close_notify();
            if (notify.waits_for == transport::attempt::condition::writable) {
                return false;
            }
            if (notify.error) {
                life_.output.record_was_cut();
                sending_failed(notify.error);
                return true;
            }
        } else if (stream.shutdown_send()) { // the kernel has nobody to send it to, and knows why
            const std::error_code why = native::take_error(native_handle());
            sending_failed(why ? why : std::error_code(asio::error::broken_pipe));
            return true;
        }
        sending_finished();
        return true;
    }

    void sending_finished() noexcept
    {
        if (is_open() && life_.output.finishes()) {
            emit(connection_event_kind::close_write);
            wake_senders();
        }
    }

    /// What who waits for our direction's end is told when it is over.
    std::error_code why_not_finished() const noexcept
    {
        if (life_.output.has_finished()) {
            return no_error;
        }
        const std::error_code ended = life_.end.refuses_write();
        return ended ? ended : std::error_code(asio::error::broken_pipe);
    }

    // -- errors

    /// The error as the handler shall see it.
    std::error_code explain(const std::error_code& error)
    {
        if (!error) {
            return no_error; // Asio's success may be of another category, and then differ from none
        }
        // The kernel tells a reset once: when a write was told, a read finds what looks like an
        // end. Under TLS the end is close_notify, and it stays one.
        const error_kind kind = kind_of(error);
        const bool is_reset = kind == error_kind::end && !stream.is_tls() && life_.end.met_reset();
        const bool knew_end = life_.end.peer_finished();
        const std::error_code explained =
            kind == error_kind::cancelled && life_.end.sending_error()
                ? life_.end.sending_error() // it would have waited for what may never come
            : is_reset ? life_.end.explain(asio::error::connection_reset, error_kind::reset)
                       : life_.end.explain(error, kind);
        if (!knew_end && life_.end.peer_finished()) {
            emit(connection_event_kind::close_read);
        }
        if (explained && extras_ && life_.has_ended()) {
            extras_->until_closed.notify_all();
            extras_->until_sent.notify_all();
            end_waits();
        }
        return explained;
    }

protected:
    ~connection_sending() = default;

    std::error_code too_late(std::size_t& bytes) const noexcept
    {
        bytes = 0;
        return life_.end.stop_code();
    }

private:
    /// As Asio's operations say it, which users compare with.
    static std::error_code as_asio_says(const std::error_code& error) noexcept
    {
        return error && error == broken_pipe() ? std::error_code(asio::error::broken_pipe) : error;
    }

    /// The peer may wait for our end, and would never say more: nothing waits for it.
    void sending_failed(const std::error_code& error) noexcept
    {
        life_.end.sending_failed(error, kind_of(error));
        stream.wait_for_no_input();
        wake_senders();
        if (extras_) {
            extras_->until_closed.notify_all();
            end_waits();
        }
        if (life_.input.is_pending() && native::unread_bytes(native_handle()) == 0) {
            stream.cancel(); // no event will come that makes it try again
        }
    }

    void write_time_begins() noexcept
    {
        if (home.config.write_timeout.count() > 0) {
            life_.times.write_begins(clock::now());
            look_by(life_.times.first_look(home.config.write_timeout));
        }
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
