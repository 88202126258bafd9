// fairlead: a pause in a handler, on its server's one timer.

#ifndef FAIRLEAD_SLEEP_HPP
#define FAIRLEAD_SLEEP_HPP

#include <fairlead/connection.hpp>
#include <fairlead/detail/connection/sleep.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <system_error>

namespace FAIRLEAD_NAMESPACE
{
/// Completes when `time` has passed, counted from where it is awaited: not before, and up to 10 ms
/// after (`deadline_wheel::tick`). 0 or less: in the next turn of the loop, behind what is ready. No
/// timer of Asio's and no allocation: it hangs on the wheel on which all timeouts of the server hang.
///
/// The connection's end ends it at once: a stop by a limit (`expires_after` among them), by the
/// server or by `close()`, a failed operation, a reset that is not preceded by a FIN. It throws `std::system_error` with
/// what an operation would end with: `errc::deadline_exceeded`, `errc::connection_closed`,
/// `asio::error::connection_reset`. Let it out of the handler as one of those. Neither a drain, nor
/// the peer's FIN, nor the handler's return while a child sleeps ends it. A child that pauses for
/// ever, such as one that sends heartbeats, ends when the handler calls `close()`.
///
/// Any number may sleep at a time, handler and children; it does not count as activity
/// (`idle_timeout`). Its cancellation slot ends it with `asio::error::operation_aborted`. Belongs
/// to the connection's thread. When the server and its context are destroyed meanwhile, so is the
/// coroutine, and nothing is called.
/// \code
/// co_await fairlead::sleep_for(conn, 50ms);
/// \endcode
inline asio::awaitable<void> sleep_for(connection& conn, std::chrono::milliseconds time)
{
    return detail::sleep(detail::core_of(conn), time, asio::use_awaitable);
}

/// The same; nothing is thrown, and `error` is cleared when the time has passed.
inline asio::awaitable<void> sleep_for(
    connection& conn, std::chrono::milliseconds time, std::error_code& error)
{
    return detail::sleep(
        detail::core_of(conn), time, asio::redirect_error(asio::use_awaitable, error));
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_SLEEP_HPP
