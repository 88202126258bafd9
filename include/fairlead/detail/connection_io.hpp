// fairlead: the operations of a connection: those of its transport, with the accounts kept and the
// errors explained.

#ifndef FAIRLEAD_DETAIL_CONNECTION_IO_HPP
#define FAIRLEAD_DETAIL_CONNECTION_IO_HPP

#include <fairlead/detail/connection_core.hpp>

#include <cstddef>
#include <system_error>
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

template <typename Complete>
struct initiate_read_some
{
    connection_core* connection;
    Complete complete = {};

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        if (const std::error_code refusal = connection->refuses_read()) {
            post_completion(
                connection->get_executor(),
                wrapped_handler{complete, std::forward<Handler>(handler)}, refusal, std::size_t(0));
            return;
        }
        connection->read_begins();
        connection->stream.async_read_some(
            buffers,
            wrapped_handler{
                [to = *this](auto&& reader, const std::error_code& error, std::size_t bytes) {
                    to.complete(std::move(reader), to.connection->read_ends(error, bytes), bytes);
                },
                std::forward<Handler>(handler)});
    }
};

template <typename Complete>
struct initiate_write_some
{
    connection_core* connection;
    Complete complete = {};

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        if (const std::error_code refusal = connection->refuses_write()) {
            post_completion(
                connection->get_executor(),
                wrapped_handler{complete, std::forward<Handler>(handler)}, refusal, std::size_t(0));
            return;
        }
        connection->write_begins();
        connection->stream.async_write_some(
            buffers,
            wrapped_handler{
                [to = *this](auto&& writer, const std::error_code& error, std::size_t bytes) {
                    to.complete(std::move(writer), to.connection->write_ends(error, bytes), bytes);
                },
                std::forward<Handler>(handler)});
    }
};

/// Completes with whether there is input.
struct initiate_wait_input
{
    connection_core* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        if (connection->refuses_wait()) {
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler),
                connection->refuses_read(), false);
            return;
        }
        connection->wait_begins();
        connection->stream.async_wait_input(wrapped_handler{
            [to = *this](auto&& waiter, const std::error_code& error, std::size_t) {
                std::move(waiter)(to.connection->wait_ends(error), !error);
            },
            std::forward<Handler>(handler)});
    }
};

/// The next attempt to finish sending, once the socket takes more.
struct initiate_finish_sending
{
    connection_core* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->stream.async_wait(
            transport::attempt::condition::writable,
            wrapped_handler{
                [to = *this](auto&& sender, const std::error_code& error) {
                    if (error || to.connection->finish_sending()) {
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
