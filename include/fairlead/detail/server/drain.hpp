// fairlead: the account of a drain: who waits for it, by when it must be over, and what becomes of
// whom.

#ifndef FAIRLEAD_DETAIL_SERVER_DRAIN_HPP
#define FAIRLEAD_DETAIL_SERVER_DRAIN_HPP

#include <fairlead/detail/connection/core.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/wait_queue.hpp>
#include <fairlead/event.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class drain_account
{
public:
    using time_point = std::chrono::steady_clock::time_point;
    using waiter = wait_queue<drain_report>::waiter;

    void begin(time_point now)
    {
        report_ = {};
        began_ = now;
        deadline_ = time_point::max();
    }

    /// A further caller waits for the same end, and can only bring it forward. Returns the deadline
    /// in force.
    time_point join(std::unique_ptr<waiter> caller, time_point deadline)
    {
        callers_.push(std::move(caller));
        deadline_ = std::min(deadline_, deadline);
        return deadline_;
    }

    void complete(time_point now) noexcept
    {
        report_.took = std::chrono::duration_cast<std::chrono::milliseconds>(now - began_);
        while (callers_.size() > 1) {
            callers_.notify_one(copy());
        }
        if (!callers_.empty()) {
            callers_.notify_one(std::exchange(report_, {}));
        }
    }

    /// One that has ended.
    void count(connection_core& client) noexcept
    {
        if (!std::exchange(client.is_accounted_for, true)) {
            ++(client.life().input.is_sent_home() ? report_.closed_idle : report_.drained);
        }
    }

    /// One that has not, at the end of the drain; out of memory it stays unnamed.
    void name(connection_core& client) noexcept
    {
        if (client.life().current() != connection_core::phase::pre_open &&
            !client.life().has_tasks()) {
            return count(client); // its handler is done; only the peer's FIN was missing
        }
        client.is_accounted_for = true;
        try {
            report_.stragglers.push_back(client.info(std::chrono::steady_clock::now()));
        } catch (...) {
        }
    }

private:
    /// Out of memory it names no stragglers.
    drain_report copy() const noexcept
    {
        try {
            return report_;
        } catch (...) {
            return {
                .drained = report_.drained,
                .closed_idle = report_.closed_idle,
                .took = report_.took};
        }
    }

    drain_report report_;
    wait_queue<drain_report> callers_;
    time_point began_ = {};
    time_point deadline_ = time_point::max();
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_DRAIN_HPP
