// fairlead: what a connection sends: whether it may, the accounts of each write, and how our
// direction ends. connection/io.hpp starts the writes.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP

#include <fairlead/detail/connection/core.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class connection_sending : public connection_core
{
public:
    using connection_core::connection_core;

    /// Some of a write was sent, and not the rest: nothing may follow that looks like a good end.
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

    void write_begins(std::size_t size, write_kind kind) noexcept
    {
        writing_ = true;
        writes_ = kind;
        write_waits_ = false;
        sent_part_ = sent_part_ && kind != write_kind::whole;
        unsent_ = size;
    }

    /// There was no memory to wait in, when some of the `size` bytes were sent perhaps; under TLS a
    /// record may have been begun.
    void write_could_not_wait(std::size_t size) noexcept
    {
        const bool is_cut = writes_ == write_kind::continued || unsent_ != size;
        writing_ = false;
        write_cut_ = write_cut_ || (stream.is_tls() && (write_waits_ || unsent_ != size));
        unsent_ = 0;
        sent_part_ = sent_part_ || is_cut;
        output_was_cut();
        sending_may_be_over();
    }

    /// The kernel has taken so many bytes of the write that is pending, and takes no more now.
    void output_taken(std::size_t bytes, bool waits) noexcept
    {
        if (bytes != 0) {
            has_untold_output_ = true;
            unsent_ -= std::min(bytes, unsent_);
            bytes_written.add(bytes);
            server.counters.bytes_written.add(bytes);
            touch();
        }
        if (waits && (bytes != 0 || !write_waits_)) {
            write_waits_ = true;
            write_time_begins();
        }
    }

    /// To the hooks, which may do anything.
    void tell_of_output() noexcept
    {
        if (std::exchange(has_untold_output_, false) && is_open()) {
            emit_io(connection_event_kind::write);
        }
    }

    /// Returns the error as the handler shall see it.
    std::error_code write_ends(const std::error_code& error)
    {
        // It is pending while hooks hear of it: they do not write into the middle of an operation.
        const std::error_code told = is_open() ? write_ends_open(error) : ending_.stop_code();
        writing_ = false;
        unsent_ = 0;
        return told;
    }

    /// The same of a write of all of its buffers, of which so many bytes were sent.
    std::error_code write_all_ends(const std::error_code& error, std::size_t bytes)
    {
        const bool is_cut = bytes != 0 && unsent_ != 0;
        const std::error_code told = write_ends(error);
        if (is_cut) {
            part_was_sent();
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
        if (!error) {
            return no_error; // Asio's success may be of another category, and then differ from none
        }
        // The kernel tells a reset once: when a write was told, a read finds what looks like an
        // end. Under TLS the end is close_notify, and it stays one.
        const bool is_reset = error == asio::error::eof && !stream.is_tls() && ending_.met_reset();
        const bool knew_end = ending_.peer_finished();
        const std::error_code explained =
            error == asio::error::operation_aborted && ending_.sending_error()
                ? ending_.sending_error() // it would have waited for what may never come
                : ending_.explain(
                      is_reset ? std::error_code(asio::error::connection_reset) : error);
        if (!knew_end && ending_.peer_finished()) {
            emit(connection_event_kind::close_read);
        }
        if (explained && extras_ && has_ended()) {
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
        return ending_.stop_code();
    }

private:
    /// The peer may wait for our end, and would never say more: nothing waits for it.
    void sending_failed(const std::error_code& error) noexcept
    {
        ending_.sending_failed(error);
        stream.wait_for_no_input();
        sending_may_be_over();
        if (extras_) {
            extras_->until_closed.notify_all();
            end_waits();
        }
        if ((reading_ || waiting_) && native::unread_bytes(native_handle()) == 0) {
            stream.cancel(); // no event will come that makes it try again
        }
    }

    void write_time_begins() noexcept
    {
        if (server.config.write_timeout.count() > 0) {
            deadlines_.write_begins(clock::now());
            look_by(deadlines_.first_look(server.config.write_timeout));
        }
    }

    std::error_code write_ends_open(const std::error_code& error)
    {
        tell_of_output();
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
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SENDING_HPP
