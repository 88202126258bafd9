// fairlead: what few connections need, and those not for their bytes: most never make it.

#ifndef FAIRLEAD_DETAIL_CONNECTION_EXTRAS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_EXTRAS_HPP

#include <fairlead/detail/connection/deadline_signals.hpp>
#include <fairlead/detail/connection/sleeping.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/wait_list.hpp>

#include <memory>
#include <string>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
struct connection_extras
{
    /// The handler's word for why it closed the connection.
    std::string why;
    /// Those who wait in `connection::closed`.
    wait_list until_closed;
    /// Those who wait in `connection::drain_begun`.
    wait_list until_drain;
    /// Those who wait in `connection::shutdown_send`.
    wait_list until_sent;
    /// Those who sleep.
    intrusive_list<sleeping> sleeps;
    /// Of `connection::deadline`. Null: none was asked for.
    std::unique_ptr<deadline_signals> deadlines;

    void notify_all() noexcept
    {
        until_closed.notify_all();
        until_drain.notify_all();
        until_sent.notify_all();
    }

    /// Nothing is called here: who slept is told by a post.
    void wake_sleepers(const std::error_code& why_now) noexcept
    {
        while (!sleeps.empty()) {
            sleeps.front().end(why_now);
        }
    }

    /// Somebody waits who must hear of the connection's end, and has no operation that would.
    bool has_bystanders() const noexcept
    {
        return !sleeps.empty() || (deadlines && !deadlines->empty());
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_EXTRAS_HPP
