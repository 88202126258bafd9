// fairlead: the way of one connection after its handler: what it sent is delivered, its children are
// joined, and the close loses nothing.

#ifndef FAIRLEAD_DETAIL_CONNECTION_CLOSING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_CLOSING_HPP

#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/error.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The closing side drops at most so much of what still arrives.
inline constexpr std::size_t longest_linger_input = std::size_t(64) << 20;

/// So much of it before others get their turn.
inline constexpr std::size_t linger_input_per_turn = std::size_t(256) << 10;

/// How long a connection that the drain found idle waits for its peer's FIN. It owes the peer
/// nothing; the time is for a request that was under way when the FIN was sent, so that it meets an
/// open socket and not a reset.
inline constexpr std::chrono::milliseconds longest_linger_of_idle{200};

/// close_notify, if TLS is in a state to send it.
inline asio::awaitable<void> say_goodbye(connection_operations& connection)
{
    using condition = transport::attempt::condition;
    const auto timeout = connection.home.config.tls_close_timeout;
    connection.begin_closing(timeout);
    for (;;) {
        const auto attempt = connection.stream.close_notify();
        if (attempt.waits_for == condition::nothing || timeout.count() == 0) {
            co_return;
        }
        const auto [error] = co_await wait_for(connection, attempt.waits_for, token);
        if (error) {
            co_return;
        }
    }
}

/// Reads and drops until the peer has finished too, bounded in time and bytes: closing a socket
/// with unread input sends RST, which makes the peer forget replies that it has not read yet.
inline asio::awaitable<void> linger(
    connection_operations& connection, std::chrono::milliseconds time)
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
            const auto [error] = co_await wait_for(connection, condition::readable, token);
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
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->output->wait(connection->get_executor(), std::forward<Handler>(handler));
    }
};

/// Until what the handler has sent is with the kernel. Its limits are those of any write.
inline asio::awaitable<void> deliver(connection_operations& connection)
{
    connection.output->flush();
    while (!connection.output->is_idle()) {
        co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::error_code)>(
            initiate_output_wait{&connection}, asio::use_awaitable);
    }
}

/// What is left to do when the handler has returned: nothing is lost that it wrote. The reason is
/// noted already.
inline asio::awaitable<void> close_in_order(connection_operations& connection)
{
    auto& stream = connection.stream;
    // Idle, and with everything it ever sent acknowledged.
    const bool owes_nothing = connection.life().input.is_sent_home() &&
                              native::unacknowledged_bytes(stream.native_handle()) == 0;
    if (connection.is_open() && connection.life().output.has_sent_part()) {
        connection.close_socket(true); // the peer must not take it for the whole
    }
    if (connection.is_open() && stream.is_tls() && connection.life().may_say_goodbye()) {
        co_await say_goodbye(connection);
    }
    if (connection.is_open()) {
        stream.shutdown_send();
        connection.sending_finished();
        const auto& config = connection.home.config;
        const auto patience =
            owes_nothing ? std::min(config.linger, longest_linger_of_idle) : config.linger;
        if (patience.count() > 0) {
            co_await linger(connection, patience);
        }
    }
    connection.close_socket();
}

/// The kernel has given the connection up: nothing can be sent any more.
inline bool is_lost(const ending& end) noexcept
{
    return end.has_transport_error() &&
           end.transport_error().category() == asio::error::get_system_category();
}

/// The common end needs none of it: the peer finished first, on plain TCP.
inline bool close_at_once(connection_operations& connection)
{
    if (connection.is_open() && (connection.stream.is_tls() || !connection.end().peer_finished()) &&
        !is_lost(connection.end())) {
        return false;
    }
    connection.sending_finished();
    connection.close_socket(connection.life().output.has_sent_part());
    return true;
}

/// What ends a stage of a connection: keeps it meanwhile, and runs on its thread.
struct stage_done
{
    using executor_type = environment::executor_type;

    explicit stage_done(connection_ref of) noexcept : client(std::move(of))
    {}

    executor_type get_executor() const noexcept
    {
        return client->get_executor();
    }

    connection_ref client;
};

struct close_done : stage_done
{
    using stage_done::stage_done;

    void operator()(const std::exception_ptr&)
    {
        client->close_socket(); // it is, unless memory ran out on the way
    }
};

/// Nothing runs for the connection any more, and why it ends is noted.
inline void finish(connection_ref client)
{
    if (client->is_open() && client->has_unsent()) {
        client->close_socket(true); // a write that nobody waits for any longer is cut
    }
    client->end_operations();
    if (close_at_once(*client)) {
        client->over_if_done();
        return;
    }
    try {
        auto closing = close_in_order(*client);
        asio::co_spawn(client->get_executor(), std::move(closing), close_done{client});
    } catch (...) { // no memory to close it in order
        client->close_socket();
        client->over_if_done();
    }
}

void task_ended(connection_ref client, const std::exception_ptr& failure, bool is_delivered);

/// What was sent until a task ended is delivered, or cannot be.
struct delivered : stage_done
{
    delivered(connection_ref of, std::exception_ptr of_task) noexcept
        : stage_done(std::move(of)), failure(std::move(of_task))
    {}

    void operator()(const std::exception_ptr&)
    {
        task_ended(std::move(client), failure, true);
    }

    std::exception_ptr failure;
};

/// The handler, a child of it or a delivery is done. The first failure ends the connection, and with
/// it the operations of those that still run; the last to end closes it. What was sent before is
/// delivered in either case.
inline void task_ended(
    connection_ref client, const std::exception_ptr& failure, bool is_delivered = false)
{
    const bool is_last = client->task_ends();
    if (client->has_output() && !is_delivered && is_last) {
        client->task_begins();
        auto delivery = deliver(*client);
        asio::co_spawn(client->get_executor(), std::move(delivery), delivered(client, failure));
        return;
    }
    if (is_last) {
        client->handler_ended(failure);
        finish(std::move(client));
    } else if (failure) {
        client->task_failed(failure);
    }
}

struct handler_done : stage_done
{
    using stage_done::stage_done;

    void operator()(const std::exception_ptr& failure)
    {
        if (!failure) {
            client->children_are_left(); // if there are any
        }
        task_ended(std::move(client), failure);
    }
};

struct child_done : stage_done
{
    using stage_done::stage_done;

    void operator()(const std::exception_ptr& failure)
    {
        task_ended(std::move(client), failure);
    }
};

/// `connection::spawn`
inline void spawn_child(connection_operations& connection, asio::awaitable<void> child)
{
    if (!connection.life().has_tasks()) {
        return; // too late: what would join it is done
    }
    connection.task_begins();
    asio::co_spawn(
        connection.get_executor(), std::move(child), child_done{connection_ref(connection)});
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_CLOSING_HPP
