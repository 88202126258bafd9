// fairlead: our direction's end, sent as soon as the socket takes it.

#ifndef FAIRLEAD_DETAIL_CONNECTION_HALF_CLOSE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_HALF_CLOSE_HPP

#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/error.hpp>

#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
void finish_when_asked(connection_operations& connection) noexcept;

/// The socket has room, perhaps.
struct room_found : runs_at_home
{
    using executor_type = environment::executor_type;

    explicit room_found(connection_operations& connection) noexcept : of(connection)
    {}

    executor_type get_executor() const noexcept
    {
        return of->get_executor();
    }

    void operator()(const std::error_code& error)
    {
        of->seeks_room(false);
        if (error && error != asio::error::operation_aborted) { // by what ended something beside it
            of->explain(error);
        }
        finish_when_asked(*of);
    }

    connection_ref of;
};

/// Nobody has to wait for it: it goes on by itself.
inline void finish_when_asked(connection_operations& connection) noexcept
{
    if (!connection.shall_finish_now() || connection.finish_sending()) {
        return;
    }
    try {
        const initiate_session_wait wait{&connection};
        wait(room_found(connection), transport::attempt::condition::writable);
        connection.seeks_room(true);
    } catch (...) { // no memory to wait in: at the handler's end, then
    }
}

/// Completes when our direction's end may have been sent.
struct initiate_sent_wait
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->extras().until_sent.push(
            connection->get_executor(), std::forward<Handler>(handler));
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_HALF_CLOSE_HPP
