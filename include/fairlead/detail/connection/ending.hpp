// fairlead: why a connection ends. Keeps the first reason, puts it into the errors that the handler
// sees, and tells an exception that is news from one by which the handler learnt of the end. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_ENDING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_ENDING_HPP

#include <fairlead/detail/io/attempt.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <cstdint>
#include <exception>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What an error of an operation says. (Asio's errors of the kernel have a category of their own,
/// which does not know `std::errc`, and its end of the stream is not of the kernel: ring 1 tells.)
enum class error_kind : std::uint8_t
{
    other,
    end,       // of the stream
    cancelled, // the operation was
    reset,     // by the peer
    broken,    // the peer's reset as well, as the kernel calls it who had met it before
};

class ending
{
public:
    /// The first reason stays. `cause` is what the closed event carries. False: there was a reason
    /// before.
    bool note(close_reason reason, errc code, std::error_code cause) noexcept
    {
        if (is_noted()) {
            return false;
        }
        reason_ = reason;
        stop_code_ = code;
        is_transport_error_ = is_sending_error_ = false;
        error_ = cause;
        return true;
    }

    /// The server ends the connection: `code` is both what operations end with and the cause.
    bool note(close_reason reason, errc code) noexcept
    {
        return note(reason, code, make_error_code(code));
    }

    /// The handler is done, and nothing else ended the connection.
    void conclude(bool failed, std::error_code failure, bool draining) noexcept
    {
        if (failed) {
            note(close_reason::handler_failed, errc::connection_closed, failure);
        } else if (is_transport_error_ || is_sending_error_) {
            const std::error_code error = error_;
            const bool is_lost = is_transport_error_;
            note(
                is_reset(kind_) ? close_reason::peer_reset : close_reason::transport_error,
                errc::connection_closed, error);
            is_transport_error_ = is_lost;
        } else {
            note(
                end_       ? close_reason::peer_closed
                : draining ? close_reason::drained
                           : close_reason::handler_returned,
                errc::connection_closed, {});
        }
    }

    /// What an operation's error means to the handler: the reason, if the connection was stopped,
    /// else itself. Remembers what it says about the peer.
    std::error_code explain(const std::error_code& error, error_kind kind) noexcept
    {
        if (!error) {
            return no_error; // Asio's success may be of another category, and then differ from none
        }
        if (is_noted()) {
            return stop_code();
        }
        if (kind == error_kind::end) {
            end_ = error;
        } else if (kind != error_kind::cancelled) {
            if (is_sending_error_) { // somebody has been told of it: one end has one error
                is_transport_error_ = true;
                return error_;
            }
            if (!is_transport_error_) {
                error_ = error;
                kind_ = kind;
                is_transport_error_ = true;
            }
        }
        return error;
    }

    /// Nothing can be sent any more; what has arrived can still be read, and then the read says why.
    void sending_failed(const std::error_code& error, error_kind kind) noexcept
    {
        if (!is_noted() && !is_transport_error_) {
            error_ = error;
            kind_ = kind;
            is_sending_error_ = true;
        }
    }

    /// The exception is the way in which the handler learnt of something that is a close reason
    /// already.
    bool explains(const std::exception_ptr& exception) const
    {
        try {
            std::rethrow_exception(exception);
        } catch (const std::system_error& error) {
            return (is_noted() && (error.code() == stop_code() || error.code() == error_)) ||
                   ((is_transport_error_ || is_sending_error_) && error.code() == error_) ||
                   (end_ && error.code() == end_);
        } catch (...) {
            return false;
        }
    }

    /// The connection is ending, and the reason is known.
    bool is_noted() const noexcept
    {
        return stop_code_ != errc();
    }

    /// What operations end with; empty: the connection is not ending.
    std::error_code stop_code() const noexcept
    {
        return stop_code_ == errc() ? no_error : make_error_code(stop_code_);
    }

    close_reason reason() const noexcept
    {
        return reason_;
    }

    std::error_code cause() const noexcept
    {
        return is_noted() ? error_ : no_error;
    }

    bool peer_finished() const noexcept
    {
        return static_cast<bool>(end_);
    }

    /// What a read ends with that must not start: the kernel tells an end or an error once, and a
    /// further read would wait for ever. Empty: it may start.
    std::error_code refuses_read() const noexcept
    {
        return is_noted() ? stop_code() : end_ ? end_ : transport_error();
    }

    std::error_code refuses_write() const noexcept
    {
        return is_noted() ? stop_code() : is_sending_error_ ? error_ : transport_error();
    }

    bool has_transport_error() const noexcept
    {
        return is_transport_error_;
    }

    /// The error that `sending_failed` has noted; empty: none, or another has come since.
    std::error_code sending_error() const noexcept
    {
        return is_sending_error_ && !is_transport_error_ ? error_ : no_error;
    }

    /// An operation has met the peer's reset.
    bool met_reset() const noexcept
    {
        return (is_transport_error_ && kind_ == error_kind::reset) ||
               (is_sending_error_ && is_reset(kind_));
    }

    /// Such errors are the peer's reset, however the kernel calls it.
    static bool is_reset(error_kind kind) noexcept
    {
        return kind == error_kind::reset || kind == error_kind::broken;
    }

    /// What an operation met that ends both directions; empty: nothing.
    std::error_code transport_error() const noexcept
    {
        return is_transport_error_ ? error_ : no_error;
    }

private:
    std::error_code error_;   // the first that an operation met; later, the cause of the end
    std::error_code end_;     // of the stream, as an operation told it
    errc stop_code_ = errc(); // none: the connection is not ending
    close_reason reason_ = close_reason::handler_returned;
    error_kind kind_ = error_kind::other; // of the error that an operation met
    bool is_transport_error_ = false;
    bool is_sending_error_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_ENDING_HPP
