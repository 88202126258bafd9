// fairlead: what the hooks are told, and the answers to questions about a running server.
// Plain values: they stay valid after the call, except where a member says otherwise.

#ifndef FAIRLEAD_EVENT_HPP
#define FAIRLEAD_EVENT_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/endpoint.hpp>
#include <fairlead/error.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// A server's life: created -> running -> draining -> stopped -> running again.
enum class server_state
{
    /// Constructed or opened, not accepting yet.
    created,
    /// Accepting.
    running,
    /// No longer accepting; handlers are finishing, or `close()` was called and takes effect now.
    draining,
    /// Every connection is closed. `open()` and `start()` work again. Handlers may be running that
    /// `close()` or a drain's deadline did not wait for.
    stopped,
};

/// What happened to a connection. `accepted` comes first and `closed` last, once each, for every
/// accepted one.
enum class connection_event_kind
{
    /// It was accepted and is counted; its handler has not started.
    accepted,
    /// Its handler starts now: PROXY header and TLS handshake, where there are any, succeeded.
    opened,
    /// Bytes were read (only with `server_config::io_events`).
    read,
    /// The peer finished sending.
    close_read,
    /// Bytes were written (only with `server_config::io_events`).
    write,
    /// This side finished sending.
    close_write,
    /// Its socket is closed. `reason` and `code` say why. Its handler may still be running: see
    /// `server_stats::handlers`.
    closed,
};

/// One step in a connection's life.
struct connection_event
{
    connection_event_kind kind;
    /// Unique in the process, never reused.
    std::uint64_t id;
    endpoint local;
    endpoint remote;
    /// Why it ended; meaningful in `closed` only.
    close_reason reason;
    /// Payload bytes so far (plaintext under TLS).
    std::uint64_t bytes_read;
    std::uint64_t bytes_written;
    /// Since it was accepted.
    std::chrono::steady_clock::duration age;
    /// The error behind `reason`, where there is one.
    std::error_code code;
    /// In `closed`: what the handler gave to `connection::close(why)`; empty: nothing. Valid during
    /// the call.
    std::string_view why = {};
};

/// What happened to a server.
enum class server_event_kind
{
    /// Bound and listening on `local`.
    listening,
    /// Not accepting for now: `code` is `too_many_connections`, `out_of_descriptors`,
    /// `out_of_memory` or the error of accept(2). That is told once of each listening socket, until
    /// it works again; those of other addresses go on meanwhile.
    paused,
    /// Accepting again.
    resumed,
    /// `shutdown()` has begun.
    draining,
    /// Everything is closed.
    stopped,
    /// `set_tls` took effect.
    tls_reloaded,
    /// A limit was met: `max_connections`, or the kernel's own on the listen queue; `what` says
    /// which.
    limit_reached,
    /// The kernel refused a socket option that a server can do without (`TCP_NODELAY`, keep-alive,
    /// `TCP_USER_TIMEOUT`, buffer sizes and the like): `what` names it and the reason, `code` is the
    /// kernel's. The server listens all the same.
    option_refused,
};

/// One step in a server's life.
struct server_event
{
    server_event_kind kind;
    endpoint local;
    std::error_code code;
    /// Details for people. Valid during the call.
    std::string_view what;
};

/// Something failed and nobody else would hear of it: bind, accept, a TLS handshake, an exception
/// that left a handler or a hook. A peer's orderly end or reset and the server's own timeouts are
/// close reasons, not errors.
struct error_event
{
    std::error_code code;
    /// What was being done, and the reason in words. Valid during the call.
    std::string_view what;
    /// The connection concerned; 0: none.
    std::uint64_t connection_id = 0;
    /// Its peer; none when there is no connection.
    endpoint remote = {};
};

/// A live connection as seen from outside.
struct connection_info
{
    std::uint64_t id;
    endpoint local;
    endpoint remote;
    /// Since it was accepted.
    std::chrono::steady_clock::duration age;
    /// Since the last byte in or out.
    std::chrono::steady_clock::duration idle;
    std::uint64_t bytes_read;
    std::uint64_t bytes_written;
    /// Its handler has started.
    bool opened;
    /// It speaks TLS.
    bool tls;
    /// Its socket is closed: only its handler, or a child of it, has not returned yet.
    bool closed = false;
};

/// How a drain went.
struct drain_report
{
    /// Connections whose handlers finished what they were doing.
    std::size_t drained = 0;
    /// Connections that were waiting for a first byte, or of which nothing had arrived, and were
    /// closed at once.
    std::size_t closed_idle = 0;
    /// Connections whose handlers had not returned at the deadline, or whose handshake was under
    /// way, and which were closed then.
    std::vector<connection_info> stragglers = {};
    /// From the call of `shutdown()` to its completion.
    std::chrono::milliseconds took = std::chrono::milliseconds(0);
};

/// Every counter of a server at one moment. Counters only grow, except `open` and `handlers`;
/// they survive a restart.
struct server_stats
{
    /// Connections accepted; each is in exactly one of `closed` and `open`.
    std::uint64_t accepted = 0;
    /// Handlers started.
    std::uint64_t opened = 0;
    std::uint64_t closed = 0;
    /// Connections open now: sockets.
    std::int64_t open = 0;
    /// Connections whose handler, or a child of it, is running now; its socket may be closed
    /// already. These and those not yet opened are what `max_connections` counts.
    std::int64_t handlers = 0;
    /// `closed`, by reason; see `closed_by()`.
    std::array<std::uint64_t, close_reason_count> closed_by_reason = {};
    /// Payload bytes (plaintext under TLS).
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::uint64_t tls_handshakes = 0;
    std::uint64_t tls_handshakes_failed = 0;
    /// Of `tls_handshakes`, those that resumed a session.
    std::uint64_t tls_resumed = 0;
    /// Failures of accept(2), the harmless ones included.
    std::uint64_t accept_errors = 0;
    /// Times that accepting was paused by `max_connections` or by a failure.
    std::uint64_t pauses = 0;
    /// Clients reset unseen because no descriptor was left.
    std::uint64_t refused = 0;
    /// Error events emitted.
    std::uint64_t errors = 0;
    /// Exceptions that left a hook.
    std::uint64_t hook_failures = 0;

    std::uint64_t closed_by(close_reason reason) const noexcept
    {
        return closed_by_reason[static_cast<std::size_t>(reason)];
    }

    /// Adds another server's counters, as for the shards of one.
    server_stats& operator+=(const server_stats& other) noexcept
    {
        accepted += other.accepted;
        opened += other.opened;
        closed += other.closed;
        open += other.open;
        handlers += other.handlers;
        for (std::size_t index = 0; index < close_reason_count; ++index) {
            closed_by_reason[index] += other.closed_by_reason[index];
        }
        bytes_read += other.bytes_read;
        bytes_written += other.bytes_written;
        tls_handshakes += other.tls_handshakes;
        tls_handshakes_failed += other.tls_handshakes_failed;
        tls_resumed += other.tls_resumed;
        accept_errors += other.accept_errors;
        pauses += other.pauses;
        refused += other.refused;
        errors += other.errors;
        hook_failures += other.hook_failures;
        return *this;
    }
};

namespace detail
{
/// In the order of the enumerators.
inline constexpr std::string_view server_state_names[] = {
    "created",
    "running",
    "draining",
    "stopped",
};
static_assert(names_all(server_state_names, server_state::stopped));
} // namespace detail

/// The enumerator's name.
constexpr std::string_view to_string(server_state state) noexcept
{
    return detail::name_in(detail::server_state_names, state);
}

namespace detail
{
/// In the order of the enumerators.
inline constexpr std::string_view connection_event_kind_names[] = {
    "accepted", "opened", "read", "close_read", "write", "close_write", "closed",
};
static_assert(names_all(connection_event_kind_names, connection_event_kind::closed));
} // namespace detail

/// The enumerator's name.
constexpr std::string_view to_string(connection_event_kind kind) noexcept
{
    return detail::name_in(detail::connection_event_kind_names, kind);
}

namespace detail
{
/// In the order of the enumerators.
inline constexpr std::string_view server_event_kind_names[] = {
    "listening", "paused",       "resumed",       "draining",
    "stopped",   "tls_reloaded", "limit_reached", "option_refused",
};
static_assert(names_all(server_event_kind_names, server_event_kind::option_refused));
} // namespace detail

/// The enumerator's name.
constexpr std::string_view to_string(server_event_kind kind) noexcept
{
    return detail::name_in(detail::server_event_kind_names, kind);
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_EVENT_HPP
