// fairlead: the operations of a connection: those of its transport, with the accounts kept and the
// errors explained.

#ifndef FAIRLEAD_DETAIL_CONNECTION_IO_HPP
#define FAIRLEAD_DETAIL_CONNECTION_IO_HPP

#include <fairlead/detail/connection_operations.hpp>

#include <asio/buffer.hpp>

#include <cstddef>
#include <system_error>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
// How an operation completes: each takes the handler, the error and the count, and calls the
// handler.

/// As Asio's operations do: `handler(error, bytes)`.
struct complete_plainly
{
    template <typename Handler, typename Value>
    void operator()(Handler&& handler, const std::error_code& error, Value value) const
    {
        std::forward<Handler>(handler)(error, value);
    }
};

/// The end of the stream is a count of 0, not an error.
struct complete_with_zero_at_end
{
    template <typename Handler>
    void operator()(Handler&& handler, const std::error_code& error, std::size_t bytes) const
    {
        std::forward<Handler>(handler)(
            bytes == 0 && error == asio::error::eof ? std::error_code() : error, bytes);
    }
};

// How each kind of operation ends: the accounts first, then the handler.

template <typename Complete>
struct end_read
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.read_ends(error, bytes);
        Complete()(std::forward<Handler>(handler), told, bytes);
    }
};

struct end_write
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.write_ends(error, bytes);
        std::forward<Handler>(handler)(told, bytes);
    }
};

struct end_wait
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.wait_ends(error, bytes);
        std::forward<Handler>(handler)(told, !error && !told);
    }
};

struct end_read_ahead
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.read_ahead_ends(error, bytes);
        std::forward<Handler>(handler)(told, !error && !told);
    }
};

/// What the socket calls when an operation of the connection is done.
template <typename End, typename Handler>
struct io_completion : handler_wrapper
{
    io_completion(connection_operations& of, Handler completed)
        : connection(&of), handler(std::move(completed))
    {}

    void operator()(const std::error_code& error, std::size_t bytes)
    {
        End::run(*connection, std::move(handler), error, bytes);
    }

    connection_operations* connection;
    Handler handler;
};

/// The same for a handler whose executor was found to be the connection's: Asio then calls it
/// directly, where a type-erased executor makes it count work and allocate, though both are the
/// same in the end.
template <typename End, typename Handler>
struct io_completion_at_home : io_completion<End, Handler>
{
    using executor_type = shard::executor_type;
    using io_completion<End, Handler>::io_completion;

    executor_type get_executor() const noexcept
    {
        return this->connection->get_executor();
    }
};

/// Calls `start(completion)` with the one that fits.
template <typename End, typename Handler, typename Start>
void start_io(connection_operations& connection, Handler&& handler, Start start)
{
    using plain_handler = std::decay_t<Handler>;
    const auto own = connection.get_executor();
    if (is_same_executor(own, asio::get_associated_executor(handler, own))) {
        start(
            io_completion_at_home<End, plain_handler>(connection, std::forward<Handler>(handler)));
    } else {
        start(io_completion<End, plain_handler>(connection, std::forward<Handler>(handler)));
    }
}

template <typename Complete>
struct initiate_read_some
{
    connection_operations* connection;

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        if (const std::error_code refusal = connection->refuses_read()) {
            post_completion(
                connection->get_executor(),
                wrapped_handler{Complete(), std::forward<Handler>(handler)}, refusal,
                std::size_t(0));
            return;
        }
        connection->read_begins();
        start_io<end_read<Complete>>(
            *connection, std::forward<Handler>(handler), [&](auto&& completion) {
                connection->stream.async_read_some(buffers, std::move(completion));
            });
    }
};

struct initiate_write_some
{
    connection_operations* connection;

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        if (const std::error_code refusal = connection->refuses_write()) {
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler), refusal,
                std::size_t(0));
            return;
        }
        connection->write_begins();
        start_io<end_write>(*connection, std::forward<Handler>(handler), [&](auto&& completion) {
            connection->stream.async_write_some(buffers, std::move(completion));
        });
    }
};

/// What is left of a write of one buffer.
template <typename Handler>
struct write_all_loop : handler_wrapper
{
    write_all_loop(connection_operations* of, asio::const_buffer all, Handler completed)
        : connection(of), rest(all), size(all.size()), handler(std::move(completed))
    {}

    void operator()(const std::error_code& error, std::size_t bytes)
    {
        rest += bytes;
        if (!error && rest.size() != 0) {
            const initiate_write_some next{connection};
            const asio::const_buffer buffer = rest;
            next(std::move(*this), buffer);
        } else {
            std::move(handler)(error, size - rest.size());
        }
    }

    connection_operations* connection;
    asio::const_buffer rest;
    std::size_t size;
    Handler handler;
};

/// What `asio::async_write` does, for one buffer; half its size while it is pending.
struct initiate_write_all
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler, asio::const_buffer buffer) const
    {
        const initiate_write_some first{connection};
        first(
            write_all_loop<std::decay_t<Handler>>(
                connection, buffer, std::forward<Handler>(handler)),
            buffer);
    }
};

/// Completes with whether there is input.
struct initiate_wait_input
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        if (connection->refuses_wait()) {
            const std::error_code refusal = connection->refuses_read();
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler),
                refusal == asio::error::eof ? std::error_code() : refusal, false);
            return;
        }
        connection->wait_begins();
        start_io<end_wait>(*connection, std::forward<Handler>(handler), [&](auto&& completion) {
            connection->stream.async_wait_input(std::move(completion));
        });
    }
};

/// Completes with whether more input was read ahead.
struct initiate_read_ahead
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        if (connection->refuses_read_ahead()) {
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler),
                connection->is_stopped() ? connection->end().stop_code() : std::error_code(),
                false);
            return;
        }
        connection->wait_begins();
        start_io<end_read_ahead>(
            *connection, std::forward<Handler>(handler),
            [&](auto&& completion) { connection->stream.async_read_ahead(std::move(completion)); });
    }
};

/// The next attempt to finish sending, once the socket takes more.
struct initiate_finish_sending
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->stream.async_wait(
            transport::attempt::condition::writable,
            wrapped_handler{
                [to = *this](auto&& sender, const std::error_code& error) {
                    const bool was_cut =
                        error == asio::error::operation_aborted &&
                        !to.connection->is_stopped(); // by a drain, for a wait beside it
                    if (was_cut) {
                        to(std::move(sender));
                    } else if (error || to.connection->finish_sending()) {
                        std::move(sender)(to.connection->explain(error));
                    } else {
                        to(std::move(sender));
                    }
                },
                std::forward<Handler>(handler)});
    }
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_IO_HPP
