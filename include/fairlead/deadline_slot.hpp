// fairlead: a connection's deadline for operations that are not the connection's: what
// `connection::deadline` returns.

#ifndef FAIRLEAD_DEADLINE_SLOT_HPP
#define FAIRLEAD_DEADLINE_SLOT_HPP

#include <fairlead/detail/connection/record.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/cancellation_signal.hpp>

#include <memory>

namespace FAIRLEAD_NAMESPACE
{
/// A cancellation slot that hears of a connection's end: when the time of
/// `connection::expires_after` has passed, when the connection is stopped for whatever other reason,
/// and when it has failed (a reset is noticed without a read). What is bound to the slot is then
/// cancelled (`asio::cancellation_type::terminal`), on the connection's thread and not inside the
/// call that stopped it. A drain is no end, and neither are the peer's FIN and the handler's return
/// while a child of it goes on.
///
/// The connection's own operations and `sleep_for`, of the handler and of its children, need no slot:
/// they end with the connection by themselves.
///
/// A slot holds one operation: take one `deadline_slot` for each that is pending at a time. `slot()`
/// may be asked for again for the next one. When the connection has ended already, what is bound is
/// cancelled in the next turn of the loop.
/// \code
/// asio::steady_timer timer(conn.get_executor(), 1h);
/// co_await timer.async_wait(
///     asio::bind_cancellation_slot(conn.deadline().slot(), asio::use_awaitable));
/// \endcode
///
/// Lifetime: as Asio has it with every `cancellation_signal`, this outlives the operation that is
/// bound to it, and does not outlive the object whose operation that was (the timer, the socket)
/// by a turn of the loop: within one `co_await`, as above, or declared behind that object, both are
/// so. It may outlive the connection, and hears of nothing then. Movable; the slot stays the same.
///
/// Belongs to the connection's thread. Costs an allocation; `slot` none.
class deadline_slot
{
public:
    /// For `asio::bind_cancellation_slot`. Not of an object that was moved from.
    asio::cancellation_slot slot() const noexcept
    {
        if (signal_->of != nullptr) {
            signal_->of->expect_signal(*signal_);
        }
        return signal_->signal.slot();
    }

private:
    friend class connection;

    explicit deadline_slot(detail::connection_record& connection)
        : signal_(std::make_unique<detail::deadline_signal>(connection))
    {
        connection.signals().add(*signal_);
    }

    std::unique_ptr<detail::deadline_signal> signal_;
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_DEADLINE_SLOT_HPP
