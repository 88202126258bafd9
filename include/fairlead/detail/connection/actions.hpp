// fairlead: what is to be done for a connection, as its lifecycle says. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_ACTIONS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_ACTIONS_HPP

#include <fairlead/detail/namespace.hpp>

#include <chrono>
#include <cstdint>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What becomes of the socket.
enum class socket_step : std::uint8_t
{
    none,
    finish,           // FIN, under TLS behind close_notify; then `finished`, if it could be sent
    close,            // then `closes`
    notify_and_close, // the same; under TLS close_notify goes before, if it goes at once
    reset,            // the same, and the peer gets RST
};

/// What the caller does now, in the order of the members.
struct actions
{
    using time_point = std::chrono::steady_clock::time_point;

    /// Wakes all who wait for something of the connection: its end, a drain, our direction's end, a
    /// place for its handshake.
    bool wakes = false;
    /// The wheel looks at the deadlines at this time at the latest.
    time_point look_by = time_point::max();
    /// The same, and not before.
    time_point next_look = time_point::max();
    /// Ends the pending operations.
    bool cancels = false;
    socket_step socket = socket_step::none;
    /// Those who wait in `connection::shutdown_send` see whether it is over.
    bool wakes_senders = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_ACTIONS_HPP
