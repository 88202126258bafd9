// fairlead: the library's error codes and the reasons for which a connection ends. Ring 0.

#ifndef FAIRLEAD_ERROR_HPP
#define FAIRLEAD_ERROR_HPP

#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace FAIRLEAD_NAMESPACE
{
/// Errors of this library. Those with a counterpart in `std::errc` compare equal to it:
/// `code == std::errc::timed_out` holds for each of the timeouts.
enum class errc
{
    /// The address is not `"host:port"`, `":port"`, `"[v6]:port"` or `"unix:/path"`, or its name did
    /// not resolve.
    invalid_address = 1,
    /// The handler is a null function pointer or an empty `std::function`.
    invalid_handler,
    /// A member of `server_config` is out of its range.
    invalid_config,
    /// A member of `tls_config` cannot be used: the message names the file and OpenSSL's reason.
    invalid_tls_config,
    /// The server is open already, or a setter was called that works only before `open()`.
    already_running,
    /// The server closed the connection: `close()` or `close_connection()`.
    server_closed,
    /// The connection was closed by its own handler; the operation cannot complete.
    connection_closed,
    /// The drain's deadline passed while the connection was still open.
    shutdown_timeout,
    /// No byte went in or out for `server_config::idle_timeout`.
    idle_timeout,
    /// The connection was not ready for its handler within `server_config::pre_open_timeout`.
    pre_open_timeout,
    /// The peer took no byte of a write for `server_config::write_timeout`.
    write_timeout,
    /// The time given to `connection::expires_after` is over.
    deadline_exceeded,
    /// The connection reached `server_config::max_lifetime`.
    max_lifetime,
    /// The peer moves data more slowly than the configured minimum rate. Reserved: nothing makes it yet.
    rate_too_low,
    /// `server_config::max_connections` are open.
    too_many_connections,
    /// A limit refused the connection, or gave its place to another.
    connection_refused_by_limit,
    /// A frame is larger than its codec allows.
    frame_too_large,
    /// The bytes are not a frame of this codec, or a payload cannot be made one.
    malformed_frame,
    /// The stream ended inside a frame.
    truncated_frame,
    /// The PROXY protocol header cannot be parsed. Reserved: nothing makes it yet.
    malformed_proxy_header,
    /// A PROXY protocol header is required and none came. Reserved: nothing makes it yet.
    proxy_header_required,
    /// The process or the system has no descriptor left (`EMFILE`, `ENFILE`).
    out_of_descriptors,
    /// The kernel has no memory for another socket (`ENOBUFS`, `ENOMEM`), or the process has none to
    /// serve a client, or to wait for the next.
    out_of_memory,
    /// The server is draining, and the connection had nothing left to do.
    draining,
    /// An exception that carries no error code left a handler.
    handler_failed,
    /// An exception that carries no error code left a hook.
    hook_failed,
    /// Plain text follows the command after which `connection::start_tls` was called: somebody may
    /// have put it there (CVE-2011-0411).
    plaintext_before_tls,
    /// An exception left something else that ran on a shard's thread: a coroutine that nobody
    /// waits for, the completion of an operation.
    unhandled_exception,
};

/// Why a connection ended: exactly one per connection, in its `closed` event and in the counters.
enum class close_reason
{
    /// The peer finished (FIN or close_notify) and the handler returned.
    peer_closed,
    /// The peer reset the connection.
    peer_reset,
    /// The handler returned or closed the connection while the peer was still there.
    handler_returned,
    /// An exception left the handler.
    handler_failed,
    /// `server_config::idle_timeout` passed.
    idle_timeout,
    /// `server_config::pre_open_timeout` passed.
    pre_open_timeout,
    /// The TLS handshake failed.
    tls_handshake_failed,
    /// The PROXY protocol header was missing, malformed or not allowed. Reserved: nothing makes it yet.
    proxy_header_invalid,
    /// `server_config::write_timeout` passed.
    write_timeout,
    /// The time given to `connection::expires_after` was over.
    deadline_exceeded,
    /// `server_config::max_lifetime` passed.
    max_lifetime,
    /// The peer was slower than the configured minimum rate. Reserved: nothing makes it yet.
    rate_too_low,
    /// A limit refused the connection.
    rejected_by_limit,
    /// Closed while idle to make room for another (`limit_policy::evict_idle`).
    evicted,
    /// The server drained, and the connection ended in order.
    drained,
    /// The drain's deadline passed: a straggler.
    shutdown_timeout,
    /// `tcp_server::close()`, `close_connection()` or the server's destructor.
    server_closed,
    /// Any other failure of the transport: the event's code says which.
    transport_error,
};

/// How many values `close_reason` has, for arrays indexed by it.
inline constexpr std::size_t close_reason_count =
    static_cast<std::size_t>(close_reason::transport_error) + 1;

namespace detail
{
/// The name of an enumerator, counted from 0.
template <std::size_t Count, typename Enum>
constexpr std::string_view name_in(const std::string_view (&names)[Count], Enum value) noexcept
{
    const auto index = static_cast<std::size_t>(value);
    return index < Count ? names[index] : "unknown";
}

/// Whether there is one for each enumerator up to the last.
template <std::size_t Count, typename Enum>
constexpr bool names_all(const std::string_view (&)[Count], Enum last) noexcept
{
    return Count == static_cast<std::size_t>(last) + 1;
}

/// In the order of the enumerators.
inline constexpr std::string_view close_reason_names[] = {
    "peer_closed",
    "peer_reset",
    "handler_returned",
    "handler_failed",
    "idle_timeout",
    "pre_open_timeout",
    "tls_handshake_failed",
    "proxy_header_invalid",
    "write_timeout",
    "deadline_exceeded",
    "max_lifetime",
    "rate_too_low",
    "rejected_by_limit",
    "evicted",
    "drained",
    "shutdown_timeout",
    "server_closed",
    "transport_error",
};
static_assert(names_all(close_reason_names, close_reason::transport_error));
} // namespace detail

/// The enumerator's name, for logs and metrics: `"idle_timeout"`. Refers to static storage.
[[nodiscard]] constexpr std::string_view to_string(close_reason reason) noexcept
{
    return detail::name_in(detail::close_reason_names, reason);
}

namespace detail
{
/// What went wrong, in a phrase; empty for a value that is not an enumerator.
constexpr std::string_view message_of(errc code) noexcept
{
    switch (code) {
    case errc::invalid_address:
        return "invalid address";
    case errc::invalid_handler:
        return "the handler is empty";
    case errc::invalid_config:
        return "invalid configuration";
    case errc::invalid_tls_config:
        return "invalid TLS configuration";
    case errc::already_running:
        return "the server is already running";
    case errc::server_closed:
        return "closed by the server";
    case errc::connection_closed:
        return "the connection was closed by its handler";
    case errc::shutdown_timeout:
        return "still open at the drain deadline";
    case errc::idle_timeout:
        return "idle timeout";
    case errc::pre_open_timeout:
        return "not ready within the pre-open timeout";
    case errc::write_timeout:
        return "write timeout";
    case errc::deadline_exceeded:
        return "deadline exceeded";
    case errc::max_lifetime:
        return "maximum lifetime reached";
    case errc::rate_too_low:
        return "below the minimum data rate";
    case errc::too_many_connections:
        return "too many connections";
    case errc::connection_refused_by_limit:
        return "connection refused by a limit";
    case errc::frame_too_large:
        return "frame too large";
    case errc::malformed_frame:
        return "malformed frame";
    case errc::truncated_frame:
        return "the stream ended inside a frame";
    case errc::malformed_proxy_header:
        return "malformed PROXY protocol header";
    case errc::proxy_header_required:
        return "a PROXY protocol header is required";
    case errc::out_of_descriptors:
        return "out of file descriptors";
    case errc::out_of_memory:
        return "out of memory for sockets";
    case errc::draining:
        return "the server is draining";
    case errc::handler_failed:
        return "an exception left the handler";
    case errc::hook_failed:
        return "an exception left a hook";
    case errc::plaintext_before_tls:
        return "plain text follows the command to start TLS";
    case errc::unhandled_exception:
        return "an exception that nobody handled";
    }
    return {};
}

/// The portable condition that `code` is an instance of; `std::errc{}` when there is none.
constexpr std::errc counterpart(errc code) noexcept
{
    switch (code) {
    case errc::invalid_address:
    case errc::invalid_handler:
    case errc::invalid_config:
    case errc::invalid_tls_config:
        return std::errc::invalid_argument;
    case errc::idle_timeout:
    case errc::pre_open_timeout:
    case errc::write_timeout:
    case errc::shutdown_timeout:
    case errc::deadline_exceeded:
    case errc::max_lifetime:
        return std::errc::timed_out;
    // What Asio reports as operation_aborted compares equal to this one, so a handler that treats
    // "we ended it ourselves" in one place needs no second test for ours.
    case errc::server_closed:
    case errc::connection_closed:
    case errc::draining:
        return std::errc::operation_canceled;
    case errc::connection_refused_by_limit:
        return std::errc::connection_refused;
    case errc::frame_too_large:
        return std::errc::message_size;
    case errc::malformed_frame:
    case errc::truncated_frame:
    case errc::malformed_proxy_header:
        return std::errc::bad_message;
    case errc::proxy_header_required:
        return std::errc::protocol_error;
    case errc::out_of_descriptors:
        return std::errc::too_many_files_open;
    case errc::out_of_memory:
        return std::errc::not_enough_memory;
    case errc::already_running:
    case errc::rate_too_low:
    case errc::too_many_connections:
    case errc::handler_failed:
    case errc::hook_failed:
    case errc::plaintext_before_tls:
    case errc::unhandled_exception:
        break;
    }
    return std::errc{};
}

class error_category final : public std::error_category
{
public:
    const char* name() const noexcept override
    {
        return "fairlead";
    }

    std::string message(int value) const override
    {
        const std::string_view text = message_of(static_cast<errc>(value));
        return text.empty() ? "unknown error " + std::to_string(value) : std::string(text);
    }

    std::error_condition default_error_condition(int value) const noexcept override
    {
        const std::errc condition = counterpart(static_cast<errc>(value));
        return condition == std::errc{} ? std::error_condition(value, *this)
                                        : std::make_error_condition(condition);
    }
};
} // namespace detail

/// The category of `errc`, named `"fairlead"`. One object per process; safe from any thread.
[[nodiscard]] inline const std::error_category& category() noexcept
{
    static const detail::error_category instance;
    return instance;
}

/// `code` as a `std::error_code`. Found by argument-dependent lookup: an `errc` converts by itself.
[[nodiscard]] inline std::error_code make_error_code(errc code) noexcept
{
    return {static_cast<int>(code), category()};
}
} // namespace FAIRLEAD_NAMESPACE

template <>
struct std::is_error_code_enum<fairlead::errc> : std::true_type
{};

#endif // FAIRLEAD_ERROR_HPP
