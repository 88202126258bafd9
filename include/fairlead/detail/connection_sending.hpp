// fairlead: what a connection sends: whether it may, the accounts of each write, and how our
// direction ends. connection_io.hpp starts the writes.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP

#include <fairlead/detail/connection_core.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <utility>

namespace fairlead::detail
{
class connection_sending : public connection_core
{
public:
    using connection_core::connection_core;

    void write_all_begins(std::size_t size) noexcept
    {
        is_writing_all_ = true;
        sent_part_ = false;
        unsent_ = size;
    }

    /// `is_cut`: some of it was sent, and not the rest.
    void write_all_ends(bool is_cut) noexcept
    {
        is_writing_all_ = false;
        unsent_ = 0;
        if (is_cut) {
            part_was_sent();
        }
    }

    /// And not the rest: nothing may follow that looks like a good end.
    void part_was_sent() noexcept
    {
        sent_part_ = true;
        output_was_cut();
        sending_may_be_over();
    }

    /// So are messages that were sent.
    void output_is_lost() noexcept
    {
        output_lost_ = true;
        output_was_cut();
        sending_may_be_over();
    }

    /// The handler of a write begins to run, or has run; returns what `completes_write` was.
    bool completes_write(bool runs) noexcept
    {
        return std::exchange(completes_write_, runs);
    }

    using connection_state::completes_write;

    /// A write is over, and its handler has had its say: what waits for its end comes now.
    void write_is_over() noexcept
    {
        if (step_left_rest_ && !is_sending() && !completes_write()) { // there is no next step
            step_left_rest_ = false;
            part_was_sent();
        }
        if (output) {
            output->flush();
        }
        finish_stopped_sending();
    }

    /// Somebody has messages that are not queued yet, and waits until they can be.
    void sender_begins() noexcept
    {
        ++senders_;
    }

    void sender_ends() noexcept
    {
        --senders_;
    }

    /// Nothing may be sent but what is being sent, and then the end.
    void sending_shall_end() noexcept
    {
        send_ends_ = true;
    }

    /// The end was asked for, nothing is before it, and nobody waits for room for it already.
    bool shall_finish_now() const noexcept
    {
        return send_ends_ && !seeks_room_ && !is_sending() && senders_ == 0 && !completes_write() &&
               !is_shaking_hands_ && !is_sending_over();
    }

    void seeks_room(bool begins) noexcept
    {
        seeks_room_ = begins;
        if (begins) {
            write_time_begins();
        }
    }

    void write_begins(std::size_t size, write_kind kind)
    {
        writing_ = true;
        writes_ = kind;
        sent_part_ = sent_part_ && kind != write_kind::whole;
        step_left_rest_ = false;
        if (!is_writing_all_) {
            unsent_ = size;
        }
        write_time_begins();
    }

    /// There was no memory to wait in, when some of the `size` bytes were sent perhaps; under TLS a
    /// record may have been begun.
    void write_could_not_wait(std::size_t size) noexcept
    {
        writing_ = false;
        write_cut_ = write_cut_ || stream.is_tls();
        if (!is_writing_all_) {
            const bool is_cut = writes_ == write_kind::continued || unsent_ != size;
            unsent_ = 0;
            sent_part_ = sent_part_ || is_cut;
        }
        sending_may_be_over();
    }

    /// The same of a whole write of so many bytes.
    void write_all_could_not_wait(std::size_t size) noexcept
    {
        write_all_ends(unsent_ != size);
    }

    /// The kernel has taken so many bytes of the write that is pending.
    void output_taken(std::size_t bytes) noexcept
    {
        unsent_ -= std::min(bytes, unsent_);
    }

    /// Returns the error as the handler shall see it.
    std::error_code write_ends(const std::error_code& error, std::size_t& bytes)
    {
        // It is pending while hooks hear of it: they do not write into the middle of an operation.
        const std::error_code told = is_open() ? write_ends_open(error, bytes) : too_late(bytes);
        writing_ = false;
        step_left_rest_ = !error && writes_ == write_kind::continued && unsent_ != 0;
        if (!is_writing_all_) {
            unsent_ = 0;
        }
        return told;
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
                write_cut_ = true;
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
        if (is_open() && !std::exchange(send_finished_, true)) {
            emit(connection_event_kind::close_write);
            sending_may_be_over();
        }
    }

    /// What who waits for our direction's end is told when it is over.
    std::error_code why_not_finished() const noexcept
    {
        if (send_finished_) {
            return {};
        }
        const std::error_code ended = ending_.refuses_write();
        return ended ? ended : std::error_code(asio::error::broken_pipe);
    }

    /// The error as the handler shall see it.
    std::error_code explain(const std::error_code& error)
    {
        // The kernel tells a reset once: when a write was told, a read finds what looks like an
        // end. Under TLS the end is close_notify, and it stays one.
        const bool is_reset = error == asio::error::eof && !stream.is_tls() && ending_.met_reset();
        const bool no_input = error == asio::error::operation_aborted && ending_.sending_error() &&
                              native::unread_bytes(native_handle()) == 0;
        const bool knew_end = ending_.peer_finished();
        const std::error_code explained = ending_.explain(
            is_reset   ? std::error_code(asio::error::connection_reset)
            : no_input ? ending_.sending_error()
                       : error);
        if (!knew_end && ending_.peer_finished()) {
            emit(connection_event_kind::close_read);
        }
        if (explained && extras_ && has_ended()) {
            extras_->until_closed.notify_all();
            extras_->until_sent.notify_all();
        }
        return explained;
    }

protected:
    ~connection_sending() = default;

    std::error_code too_late(std::size_t& bytes) const noexcept
    {
        bytes = 0;
        return ending_.stop_code();
    }

private:
    void sending_failed(const std::error_code& error) noexcept
    {
        ending_.sending_failed(error);
        sending_may_be_over();
        if (extras_) {
            extras_->until_closed.notify_all();
        }
        if ((reading_ || waiting_) && native::unread_bytes(native_handle()) == 0) {
            stream.cancel(); // `input_is_over`
        }
    }

    void write_time_begins() noexcept
    {
        if (server.config.write_timeout.count() > 0) {
            deadlines_.write_begins(clock::now());
            look_by(deadlines_.first_look(server.config.write_timeout));
        }
    }

    std::error_code write_ends_open(const std::error_code& error, std::size_t bytes)
    {
        if (bytes != 0) {
            bytes_written.add(bytes);
            server.counters.bytes_written.add(bytes);
            touch();
            emit_io(connection_event_kind::write);
        }
        write_cut_ = write_cut_ || error;
        const bool goes_on = delivers_output_ && writes_ == write_kind::queued;
        if (error && writes_ == write_kind::continued) {
            part_was_sent();
        } else if (error || (unsent_ != 0 && !goes_on)) { // no other part may follow
            output_was_cut();
            sending_may_be_over();
        }
        if (wait_must_end_ && waiting_) {
            stream.cancel(); // the wait that could not be ended beside the write
        }
        return explain(error);
    }
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
