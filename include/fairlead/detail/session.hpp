// fairlead: the way of one connection, before and after its handler: the TLS handshake, and a close
// that loses nothing.

#ifndef FAIRLEAD_DETAIL_SESSION_HPP
#define FAIRLEAD_DETAIL_SESSION_HPP

#include <fairlead/detail/connection_operations.hpp>
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

/// The closing side drops at most so much of what still arrives.
inline constexpr std::size_t longest_linger_input = std::size_t(64) << 20;

/// So much of it before others get their turn.
inline constexpr std::size_t linger_input_per_turn = std::size_t(256) << 10;

/// How long a connection that the drain found idle waits for its peer's FIN. It owes the peer
/// nothing; the time is for a request that was under way when the FIN was sent, so that it meets an
/// open socket and not a reset.
inline constexpr std::chrono::milliseconds longest_linger_of_idle{200};

/// A place in the gate, given back wherever the handshake ends.
class handshake_place
{
public:
    handshake_place(connection_core& connection, handshake_gate& gate) noexcept
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
    connection_core& connection_;
    handshake_gate& gate_;
};

inline void handshake_failed(connection_core& connection, const std::error_code& error)
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
inline asio::awaitable<bool> await_hello(connection_core& connection)
{
    using condition = transport::attempt::condition;
    const auto [error] = co_await connection.stream.wait(condition::readable, token);
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
    connection_core& connection, const tls_context& context, handshake_gate& gate)
{
    using condition = transport::attempt::condition;
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
        const auto [failure] = co_await connection.stream.wait(attempt.waits_for, token);
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
    connection_core& connection, std::shared_ptr<const tls_context> context, handshake_gate& gate)
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

/// close_notify, if TLS is in a state to send it.
inline asio::awaitable<void> say_goodbye(connection_core& connection)
{
    using condition = transport::attempt::condition;
    const auto timeout = connection.server.config.tls_close_timeout;
    connection.begin_closing(timeout);
    for (;;) {
        const auto attempt = connection.stream.close_notify();
        if (attempt.waits_for == condition::nothing || timeout.count() == 0) {
            co_return;
        }
        const auto [error] = co_await connection.stream.wait(attempt.waits_for, token);
        if (error) {
            co_return;
        }
    }
}

/// Reads and drops until the peer has finished too, bounded in time and bytes: closing a socket
/// with unread input sends RST, which makes the peer forget replies that it has not read yet.
inline asio::awaitable<void> linger(connection_core& connection, std::chrono::milliseconds time)
{
    using condition = transport::attempt::condition;
    connection.begin_closing(time);
    std::size_t dropped = 0;
    std::size_t turn_ends = linger_input_per_turn;
    while (connection.is_open() && dropped < longest_linger_input) {
        const auto input = connection.stream.discard();
        dropped += input.bytes;
        if (input.would_block || dropped > turn_ends) {
            turn_ends = dropped + linger_input_per_turn;
            const auto [error] = co_await connection.stream.wait(condition::readable, token);
            if (error) {
                co_return;
            }
        } else if (input.error || input.bytes == 0) {
            co_return;
        }
    }
}

/// Completes at the next change of the connection's output.
struct initiate_output_wait
{
    connection_core* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->output->wait(
            wait_queue<>::make_waiter(connection->get_executor(), std::forward<Handler>(handler)));
    }
};

/// Until what the handler has sent is with the kernel. Its limits are those of any write.
inline asio::awaitable<void> deliver(connection_core& connection)
{
    connection.output->flush();
    while (!connection.output->is_idle()) {
        co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
            initiate_output_wait{&connection}, asio::use_awaitable);
    }
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

/// What is left to do when the handler has returned: nothing is lost that it wrote. The reason is
/// noted already.
inline asio::awaitable<void> close_in_order(connection_core& connection)
{
    auto& stream = connection.stream;
    // Idle, and with everything it ever sent acknowledged.
    const bool owes_nothing =
        connection.was_idle_at_drain() && native::unacknowledged_bytes(stream.native_handle()) == 0;
    if (stream.is_tls() && connection.may_say_goodbye()) {
        co_await say_goodbye(connection);
    }
    if (connection.is_open()) {
        stream.shutdown_send();
        connection.sending_finished();
        const auto& config = connection.server.config;
        const auto patience =
            owes_nothing ? std::min(config.linger, longest_linger_of_idle) : config.linger;
        if (patience.count() > 0) {
            co_await linger(connection, patience);
        }
    }
    connection.close_socket();
}

/// The common end needs none of it: the peer finished first, on plain TCP.
inline bool close_at_once(connection_core& connection)
{
    if (connection.is_open() && (connection.stream.is_tls() || !connection.end().peer_finished()) &&
        !connection.end().is_lost()) {
        return false;
    }
    connection.sending_finished();
    connection.close_socket();
    return true;
}
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_SESSION_HPP
