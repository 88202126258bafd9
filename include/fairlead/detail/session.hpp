// fairlead: the way of one connection before its handler: the TLS handshake. What comes after it is
// in closing.hpp.

#ifndef FAIRLEAD_DETAIL_SESSION_HPP
#define FAIRLEAD_DETAIL_SESSION_HPP

#include <fairlead/detail/closing.hpp>
#include <fairlead/detail/handshake_gate.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

namespace fairlead::detail
{
/// A handshake whose peer is silent for so long gives its place to the next.
inline constexpr std::chrono::seconds longest_handshake_stall{1};

/// A place in the gate, given back wherever the handshake ends.
class handshake_place
{
public:
    handshake_place(connection_operations& connection, handshake_gate& gate) noexcept
        : connection_(connection), gate_(gate)
    {}

    handshake_place(const handshake_place&) = delete;
    handshake_place& operator=(const handshake_place&) = delete;

    ~handshake_place()
    {
        leave();
    }

    asio::awaitable<void> take()
    {
        if (!connection_.holds_handshake_place) {
            co_await gate_.take_place();
            connection_.holds_handshake_place = true;
        }
    }

    void leave()
    {
        if (std::exchange(connection_.holds_handshake_place, false)) {
            gate_.leave_place();
        }
    }

private:
    connection_operations& connection_;
    handshake_gate& gate_;
};

inline void handshake_failed(connection_operations& connection, const std::error_code& error)
{
    connection.pre_open_failed(close_reason::tls_handshake_failed, error);
    connection.server.counters.tls_handshakes_failed.add();
    const std::string what = "TLS handshake: " + error.message();
    connection.server.hooks.emit(error_event{
        .code = error,
        .what = what,
        .connection_id = connection.id(),
        .remote = connection.remote});
}

/// Waits for the client's first byte. A client that leaves without one (a port scan, a health
/// check) is no failed handshake. False: the connection is over.
inline asio::awaitable<bool> await_hello(connection_operations& connection)
{
    using condition = transport::attempt::condition;
    const auto [error] = co_await wait_for(connection, condition::readable, token);
    if (error || connection.is_stopped()) {
        co_return false;
    }
    if (connection.stream.input_size() == 0) {
        const auto end = connection.stream.discard();
        connection.pre_open_failed(
            end.error ? close_reason::peer_reset : close_reason::peer_closed, end.error);
        co_return false;
    }
    co_return true;
}

/// The handshake itself, as a server of `context`, which must live until it is over. False: it is
/// over without success, and the reason is noted.
inline asio::awaitable<bool> handshake(
    connection_operations& connection, const tls_context& context, handshake_gate& gate)
{
    using condition = transport::attempt::condition;
    const connection_ref keep(connection); // start_tls may run in a coroutine that nobody waits for
    std::error_code error;
    connection.stream.start_tls(context, error);
    handshake_place place(connection, gate);
    while (!error) {
        co_await place.take();
        co_await gate.take_turn();
        const auto attempt =
            connection.is_stopped() ? transport::attempt{} : connection.stream.handshake();
        gate.end_turn();
        if (connection.is_stopped()) {
            co_return false;
        }
        if (attempt.error) {
            error = attempt.error;
            break;
        }
        if (attempt.waits_for == condition::nothing) {
            connection.tls = connection.stream.describe_tls();
            connection.server.counters.tls_handshakes.add();
            if (connection.tls->resumed) {
                connection.server.counters.tls_resumed.add();
            }
            co_return true;
        }
        connection.handshake_waits(longest_handshake_stall);
        const auto [failure] = co_await wait_for(connection, attempt.waits_for, token);
        connection.handshake_continues();
        if (failure || connection.is_stopped()) {
            co_return false;
        }
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
    const bool has_hello = co_await await_hello(connection);
    if (!has_hello) {
        co_return false;
    }
    if (connection.server.config.tls_detect && connection.stream.first_byte() != tls_first_byte) {
        co_return true;
    }
    const bool is_secure = co_await handshake(connection, *context, gate);
    co_return is_secure;
}

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
    connection.late_pre_open_begins(connection_core::clock::now());
    const bool is_secure = co_await handshake(connection, context, connection.server.gate());
    connection.late_pre_open_ends();
    if (!is_secure) {
        const std::error_code cause = connection.end().cause();
        error = cause ? cause : connection.end().stop_code();
    }
}

} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_SESSION_HPP
