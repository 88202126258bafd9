// fairlead: the operations of a connection: those of its transport, with the accounts kept and the
// errors explained.

#ifndef FAIRLEAD_DETAIL_CONNECTION_IO_HPP
#define FAIRLEAD_DETAIL_CONNECTION_IO_HPP

#include <fairlead/detail/connection/operations.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
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
            bytes == 0 && error == asio::error::eof ? no_error : error, bytes);
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

/// The session's own waits: no accounts.
struct end_session_wait
{
    template <typename Handler>
    static void run(connection_operations&, Handler&& handler, const std::error_code& error)
    {
        std::forward<Handler>(handler)(error);
    }
};

/// What was being sent before the end is perhaps with the kernel; half_close.hpp.
void finish_when_asked(connection_operations& connection) noexcept;

/// Lets what waits for the end of a write have its turn when who wrote has been told of it, and not
/// before: he may have more of it, as `asio::async_write` has.
class finish_behind_handler
{
public:
    explicit finish_behind_handler(connection_operations& connection) noexcept
        : connection_(connection), is_within_another_(connection.completes_write(true))
    {}

    finish_behind_handler(const finish_behind_handler&) = delete;
    finish_behind_handler& operator=(const finish_behind_handler&) = delete;

    ~finish_behind_handler()
    {
        connection_.completes_write(is_within_another_);
        connection_.write_is_over();
        finish_when_asked(connection_);
    }

private:
    connection_operations& connection_;
    bool is_within_another_;
};

struct end_write
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.write_ends(error);
        const finish_behind_handler then(connection);
        std::forward<Handler>(handler)(told, bytes);
    }
};

struct end_write_all
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t bytes)
    {
        const std::error_code told = connection.write_all_ends(error, bytes);
        const finish_behind_handler then(connection);
        std::forward<Handler>(handler)(told, bytes);
    }
};

struct end_wait
{
    template <typename Handler>
    static void run(
        connection_operations& connection, Handler&& handler, const std::error_code& error,
        std::size_t)
    {
        const std::error_code told = connection.input_wait_ends(error);
        std::forward<Handler>(handler)(told, !error && !told);
    }
};

/// What the socket calls when an operation of the connection is done: on the connection's own
/// executor, whatever the handler's is, because the accounts are kept there. Keeps the connection
/// until the handler has been called: nothing that has an operation pending is freed.
template <typename End, typename Handler>
struct io_completion : handler_wrapper
{
    using executor_type = environment::executor_type;

    io_completion(connection_operations& of, Handler completed)
        : connection(of), executor(of.get_executor()), handler(std::move(completed))
    {}

    executor_type get_executor() const noexcept
    {
        return executor;
    }

    template <typename... Results>
    void operator()(const std::error_code& error, Results... results)
    {
        const connection_ref keep = std::move(connection);
        End::run(*keep, std::move(handler), error, results...);
    }

    connection_ref connection;
    executor_type executor;
    Handler handler; // destroyed first: it may be the coroutine that the connection serves
};

/// A base of handlers of our own that need not be asked for their executor: the connection's.
struct runs_at_home
{};

/// A handler that is to be called on an executor of its own, whose work is counted meanwhile. What a
/// handler that was moved leaves behind may refer to that executor (`asio::bind_executor` copies
/// it): nothing is left behind here, where the work is not counted any more.
template <typename Own, typename Handler>
struct foreign_handler : handler_wrapper
{
    using work = outstanding_work<asio::associated_executor_t<Handler, Own>>;
    using allocator_type = asio::associated_allocator_t<Handler>;

    foreign_handler(const Own& own, Handler elsewhere)
        : executor(asio::get_associated_executor(elsewhere, own)),
          allocator(asio::get_associated_allocator(elsewhere)),
          handler(std::move(elsewhere))
    {}

    foreign_handler(foreign_handler&& other) noexcept(std::is_nothrow_move_constructible_v<Handler>)
        : executor(std::move(other.executor)),
          allocator(other.allocator),
          handler(std::move(other.handler))
    {
        std::destroy_at(&other.handler);
        other.is_here = false;
    }

    foreign_handler& operator=(foreign_handler&&) = delete;

    ~foreign_handler()
    {
        if (is_here) {
            std::destroy_at(&handler);
        }
    }

    /// Asio asks for it when the handler has been moved, too.
    allocator_type get_allocator() const noexcept
    {
        return allocator;
    }

    template <typename... Results>
    void operator()(Results... results)
    {
        post_completion(executor.get_executor(), std::move(handler), std::move(results)...);
    }

    work executor;
    allocator_type allocator;
    union
    {
        Handler handler;
    };
    bool is_here = true;
};

/// Calls `next` with a handler that may be called on the connection's executor: `handler` itself
/// where that is its own, else one that posts.
template <typename Handler, typename Next>
void at_home(connection_operations& connection, Handler&& handler, Next next)
{
    using plain_handler = std::decay_t<Handler>;
    if constexpr (std::derived_from<plain_handler, runs_at_home>) {
        next(std::forward<Handler>(handler));
    } else {
        const auto own = connection.get_executor();
        if (is_same_executor(own, asio::get_associated_executor(handler, own))) {
            next(std::forward<Handler>(handler));
        } else {
            next(foreign_handler<environment::executor_type, plain_handler>(
                own, std::forward<Handler>(handler)));
        }
    }
}

/// Calls `start(completion)` with the one that fits.
template <typename End, typename Handler, typename Start>
void start_io(connection_operations& connection, Handler&& handler, Start start)
{
    at_home(connection, std::forward<Handler>(handler), [&](auto&& local) {
        using local_handler = std::decay_t<decltype(local)>;
        start(io_completion<End, local_handler>(connection, std::forward<decltype(local)>(local)));
    });
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
        const connection_ref keep(*connection);
        connection->begins_to_read();
        start_io<end_read<Complete>>(
            *connection, std::forward<Handler>(handler), [&](auto&& completion) {
                connection->stream.async_read_some(buffers, std::move(completion));
            });
        connection->read_begins(); // unless there was no memory for it
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
                refusal == asio::error::eof ? no_error : refusal, false);
            return;
        }
        const connection_ref keep(*connection);
        connection->begins_to_read();
        start_io<end_wait>(*connection, std::forward<Handler>(handler), [&](auto&& completion) {
            connection->stream.async_wait_input(std::move(completion));
        });
        connection->wait_begins();
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
                connection->why_no_read_ahead(), false);
            return;
        }
        const connection_ref keep(*connection);
        connection->begins_to_read();
        start_io<end_wait>(*connection, std::forward<Handler>(handler), [&](auto&& completion) {
            connection->stream.async_read_ahead(std::move(completion));
        });
        connection->wait_begins();
    }
};

/// Completes when it is worth trying again what `condition` is about; `handler(error)`.
struct initiate_session_wait
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler, transport::attempt::condition condition) const
    {
        start_io<end_session_wait>(
            *connection, std::forward<Handler>(handler), [&](auto&& completion) {
                connection->stream.async_wait(condition, std::move(completion));
            });
    }
};

template <typename Token>
auto wait_for(
    connection_operations& connection, transport::attempt::condition condition, Token&& completion)
{
    return asio::async_initiate<Token, void(std::error_code)>(
        initiate_session_wait{&connection}, completion, condition);
}

// `connection::closed` and `connection::drain_begun`.

struct initiate_closed
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->wait_until_closed(std::forward<Handler>(handler));
    }
};

struct initiate_drain_begun
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        connection->wait_until_drain(std::forward<Handler>(handler));
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#include <fairlead/detail/connection/half_close.hpp>
#include <fairlead/detail/connection/writes.hpp>

#endif // FAIRLEAD_DETAIL_CONNECTION_IO_HPP
