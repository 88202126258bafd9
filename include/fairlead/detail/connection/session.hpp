// fairlead: the way of one connection before its handler: the TLS handshake. What comes after it is
// in closing.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SESSION_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SESSION_HPP

#include <fairlead/detail/connection/closing.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/handshake_gate.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// It failed before its handler, which will not hear of it.
inline void failed_early(
    connection_operations& connection, close_reason reason, const std::error_code& error,
    const char* where)
{
    connection.pre_open_failed(reason, error);
    const std::string what = where + error.message();
    connection.home.hooks.emit(error_event{
        .code = error,
        .what = what,
        .connection_id = connection.id(),
        .remote = connection.remote});
}

inline void handshake_failed(connection_operations& connection, const std::error_code& error)
{
    connection.home.counters.tls_handshakes_failed.add();
    failed_early(connection, close_reason::tls_handshake_failed, error, "TLS handshake: ");
}

inline void transport_failed(connection_operations& connection, const std::error_code& error)
{
    failed_early(connection, close_reason::transport_error, error, "before the handler: ");
}

/// The socket has come to its end before the handler. That the peer left without a word that could
/// fail is nobody's error.
inline void ended_early(connection_operations& connection, const native::io_result& end)
{
    if (!end.error) {
        connection.pre_open_failed(close_reason::peer_closed, {});
    } else if (ending::is_reset(kind_of(end.error))) {
        connection.pre_open_failed(close_reason::peer_reset, end.error);
    } else {
        transport_failed(connection, end.error);
    }
}

/// Waits for the client's first byte, and leaves it. A client that leaves without one (a port scan,
/// a health check) is no failed handshake. Empty: the connection is over.
inline asio::awaitable<std::optional<std::byte>> await_hello(connection_operations& connection)
{
    using condition = transport::attempt::condition;
    for (;;) {
        const auto [error] = co_await wait_for(connection, condition::readable, token);
        if (connection.is_stopped()) {
            co_return std::nullopt;
        }
        if (error) {
            transport_failed(connection, error);
            co_return std::nullopt;
        }
        std::byte first = {};
        const auto input = connection.stream.peek_input(first);
        if (input.bytes != 0) {
            co_return first;
        }
        if (!input.would_block) { // a wait may end for nothing
            ended_early(connection, input);
            co_return std::nullopt;
        }
    }
}

/// While it lives, the connection's end wakes the handshake.
class handshake_alarm
{
public:
    handshake_alarm(connection_operations& connection, sleeper& bed) noexcept
        : connection_(connection)
    {
        connection_.handshake_bed = &bed;
        connection_.watch();
    }

    handshake_alarm(const handshake_alarm&) = delete;
    handshake_alarm& operator=(const handshake_alarm&) = delete;

    ~handshake_alarm()
    {
        connection_.handshake_bed = nullptr;
    }

private:
    connection_operations& connection_;
};

/// Waits for a place. Who waits does not read, and yet notices that his peer has gone. False: the
/// connection is over, and the reason is noted.
inline asio::awaitable<bool> await_place(
    connection_operations& connection, handshake_gate::visitor& visitor)
{
    if (visitor.enter()) {
        co_return true;
    }
    const handshake_alarm alarm(connection, visitor.bed());
    while (visitor.is_queued() && !connection.life().has_ended()) {
        co_await visitor.bed().sleep();
    }
    if (visitor.is_queued() && !connection.is_stopped()) {
        ended_early(connection, connection.stream.discard());
    }
    co_return !connection.is_stopped();
}

/// The handshake itself, as a server of `context`, which must live until it is over. False: it is
/// over without success, and the reason is noted.
///
/// Until the client's hello is complete it has no place in the gate and takes no turn.
inline asio::awaitable<bool> handshake(
    connection_operations& connection, const tls_context& context, handshake_gate& gate)
{
    using condition = transport::attempt::condition;
    const connection_ref keep(connection); // start_tls may run in a coroutine that nobody waits for
    handshake_gate::visitor visitor(gate);
    std::error_code error;
    connection.stream.start_tls(context, error);
    bool is_admitted = false;
    while (!error) {
        if (is_admitted) {
            co_await visitor.take_turn();
        }
        const auto attempt =
            connection.is_stopped() ? transport::attempt{} : connection.stream.handshake();
        visitor.end_turn();
        if (connection.is_stopped()) {
            co_return false;
        }
        if (attempt.error) {
            error = attempt.error;
            break;
        }
        if (attempt.waits_for == condition::nothing) {
            connection.tls = connection.stream.describe_tls();
            connection.home.counters.tls_handshakes.add();
            if (connection.tls->resumed) {
                connection.home.counters.tls_resumed.add();
            }
            co_return true;
        }
        if (attempt.waits_for == condition::admission) {
            is_admitted = co_await await_place(connection, visitor);
            if (!is_admitted) {
                co_return false;
            }
            connection.stream.admit_handshake();
            continue;
        }
        connection.touch();
        visitor.waits();
        const auto [failure] = co_await wait_for(connection, attempt.waits_for, token);
        visitor.continues();
        if (connection.is_stopped()) {
            co_return false;
        }
        error = failure; // a user's cancellation: half a handshake is none
    }
    handshake_failed(connection, error);
    co_return false;
}

/// From accept to the handler's start when the server has TLS. False: the connection is over, and
/// the reason is noted.
inline asio::awaitable<bool> pre_open(
    connection_operations& connection, std::shared_ptr<const tls_context> context,
    handshake_gate& gate)
{
    const std::optional<std::byte> first = co_await await_hello(connection);
    if (!first) {
        co_return false;
    }
    if (connection.home.config.tls_detect && *first != tls_first_byte) {
        co_return true;
    }
    const bool is_secure = co_await handshake(connection, *context, gate);
    co_return is_secure;
}

/// A handshake in the middle of the handler's life: it has its time, and nothing else is read or
/// written meanwhile.
class late_handshake
{
public:
    explicit late_handshake(connection_operations& connection) : connection_(connection)
    {
        connection_->shake_hands(true);
        connection_->late_pre_open_begins(connection_core::clock::now());
    }

    late_handshake(const late_handshake&) = delete;
    late_handshake& operator=(const late_handshake&) = delete;

    /// Half a handshake, left by a cancellation, is the end of the connection.
    ~late_handshake()
    {
        connection_->late_pre_open_ends();
        connection_->shake_hands(false);
        if (!is_over_ && !connection_->is_stopped()) {
            connection_->pre_open_failed(
                close_reason::tls_handshake_failed, asio::error::operation_aborted);
        }
        finish_when_asked(*connection_);
    }

    void is_over() noexcept
    {
        is_over_ = true;
    }

private:
    const connection_ref connection_;
    bool is_over_ = false;
};

/// `connection::start_tls`
inline asio::awaitable<void> start_tls(
    connection_operations& connection, const tls_context& context, std::error_code& error)
{
    if (connection.has_output()) {
        co_await deliver(connection);
    }
    error = connection.refuses_tls();
    if (error) {
        co_return;
    }
    late_handshake under_way(connection);
    const bool is_secure = co_await handshake(connection, context, connection.owner.gate());
    under_way.is_over();
    if (!is_secure) {
        const std::error_code cause = connection.end().cause();
        error = cause ? cause : connection.end().stop_code();
    }
}

} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SESSION_HPP
