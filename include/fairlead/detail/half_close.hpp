// fairlead: our direction's end, sent as soon as the socket takes it.

#ifndef FAIRLEAD_DETAIL_HALF_CLOSE_HPP
#define FAIRLEAD_DETAIL_HALF_CLOSE_HPP

#include <fairlead/detail/connection_io.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/error.hpp>

#include <system_error>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
/// The attempts to finish sending, one whenever the socket takes more.
template <typename Handler>
struct finish_sending_loop : handler_wrapper, runs_at_home
{
    using executor_type = shard::executor_type;
    using cancellation_slot_type = asio::cancellation_slot;

    finish_sending_loop(connection_operations& of, Handler completed)
        : connection(of),
          executor(of.get_executor()),
          cancellation(
              asio::get_associated_cancellation_slot(completed), asio::enable_total_cancellation()),
          handler(std::move(completed))
    {}

    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return cancellation.slot();
    }

    executor_type get_executor() const noexcept
    {
        return executor;
    }

    void operator()(std::error_code error)
    {
        const bool is_cancelled = cancellation.cancelled() != asio::cancellation_type::none;
        const bool was_cut = error == asio::error::operation_aborted && !is_cancelled &&
                             !connection->is_stopped(); // by a drain, for a wait beside it
        bool goes_on = was_cut;
        if (!error && !connection->finish_sending()) {
            goes_on = !is_cancelled;
            error = goes_on ? error : std::error_code(asio::error::operation_aborted);
        }
        if (goes_on) {
            start(std::move(*this));
            return;
        }
        const connection_ref keep = std::move(connection);
        std::move(handler)(keep->explain(error));
    }

    static void start(finish_sending_loop self)
    {
        const initiate_session_wait wait{&*self.connection};
        wait(std::move(self), transport::attempt::condition::writable);
    }

    connection_ref connection;
    executor_type executor;
    asio::cancellation_state cancellation; // the user's
    Handler handler;
};

struct initiate_finish_sending
{
    connection_operations* connection;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        at_home(*connection, std::forward<Handler>(handler), [&](auto&& local) {
            using loop = finish_sending_loop<std::decay_t<decltype(local)>>;
            loop::start(loop(*connection, std::forward<decltype(local)>(local)));
        });
    }
};

/// Nobody waits for it.
struct finished_sending : runs_at_home
{
    using executor_type = shard::executor_type;

    executor_type get_executor() const noexcept
    {
        return of->get_executor();
    }

    void operator()(const std::error_code&)
    {
        of->seeks_room(false);
    }

    connection_ref of;
};

inline void finish_when_asked(connection_operations& connection) noexcept
{
    if (!connection.shall_finish_now() || connection.finish_sending()) {
        return;
    }
    try {
        const initiate_finish_sending later{&connection};
        later(finished_sending{{}, connection_ref(connection)});
        connection.seeks_room(true);
    } catch (...) { // no memory to wait in: at the handler's end, then
    }
}
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_HALF_CLOSE_HPP
