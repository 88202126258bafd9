// fairlead: how the writes of a connection begin.

#ifndef FAIRLEAD_DETAIL_CONNECTION_WRITES_HPP
#define FAIRLEAD_DETAIL_CONNECTION_WRITES_HPP

#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>
#include <asio/handler_continuation_hook.hpp>
#include <asio/post.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The hooks hear of what a write has sent, though it waits for room: not inside the call that began
/// it, and not as late as its end.
inline void tell_of_output_soon(connection_operations& connection) noexcept
{
    if (!connection.home.config.io_events) {
        return;
    }
    try {
        asio::post(
            connection.get_executor(), [of = connection_ref(connection)] { of->tell_of_output(); });
    } catch (...) { // no memory: with what is sent next
    }
}

/// Keeps the accounts of a write while it goes on.
struct output_account
{
    connection_operations* connection;

    void operator()(std::size_t bytes, bool waits) const noexcept
    {
        connection->output_taken(bytes, waits);
        if (waits && bytes != 0) {
            tell_of_output_soon(*connection);
        }
    }

    bool goes_on() const noexcept
    {
        connection->tell_of_output();
        return connection->is_open() && !connection->is_stopped();
    }
};

struct initiate_write_some
{
    connection_operations* connection;
    write_kind kind = write_kind::whole;

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        using asio::asio_handler_is_continuation;
        const bool continues = kind == write_kind::whole &&
                               connection->life().output.is_completing() &&
                               asio_handler_is_continuation(std::addressof(handler));
        const write_kind meant = continues ? write_kind::continued : kind;
        if (const std::error_code refusal = connection->refuses_write(meant)) {
            if (continues && !connection->life().output.is_writing()) { // some of it was sent
                connection->part_was_sent();
            }
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler), refusal,
                std::size_t(0));
            return;
        }
        connection->write_begins(asio::buffer_size(buffers), meant);
        try {
            start_io<end_write>(
                *connection, std::forward<Handler>(handler), [&](auto&& completion) {
                    connection->stream.async_write_some(
                        buffers, output_account{connection}, std::move(completion));
                });
        } catch (...) {
            connection->write_could_not_wait(asio::buffer_size(buffers));
            throw;
        }
    }
};

/// Begins a write that is one operation to its end: unlike `asio::async_write` it knows when the
/// connection ends in the middle of it. `start(completion)` starts it.
template <typename Handler, typename Start>
void begin_whole_write(
    connection_operations& connection, std::size_t size, Handler&& handler, Start start)
{
    if (const std::error_code refusal = connection.refuses_write(write_kind::whole)) {
        post_completion(
            connection.get_executor(), std::forward<Handler>(handler), refusal, std::size_t(0));
        return;
    }
    connection.write_begins(size, write_kind::whole);
    try {
        start_io<end_write_all>(connection, std::forward<Handler>(handler), start);
    } catch (...) {
        connection.write_could_not_wait(size);
        throw;
    }
}

/// All of the buffers.
struct initiate_write_all
{
    connection_operations* connection;

    template <typename Handler, typename Buffers>
    void operator()(Handler&& handler, const Buffers& buffers) const
    {
        begin_whole_write(
            *connection, asio::buffer_size(buffers), std::forward<Handler>(handler),
            [&](auto&& completion) {
                connection->stream.async_write(
                    buffers, output_account{connection}, std::move(completion));
            });
    }
};

/// What is in the file, which lives until it is over.
struct initiate_send_file
{
    connection_operations* connection;
    file_source* file;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        begin_whole_write(
            *connection, file->left(), std::forward<Handler>(handler), [&](auto&& completion) {
                connection->stream.async_send_file(
                    *file, output_account{connection}, std::move(completion));
            });
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_WRITES_HPP
