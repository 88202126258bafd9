// fairlead: the account of a drain: who waits for it, by when it must be over, and what becomes of
// whom.

#ifndef FAIRLEAD_DETAIL_DRAIN_HPP
#define FAIRLEAD_DETAIL_DRAIN_HPP

#include <fairlead/detail/wait_queue.hpp>
#include <fairlead/event.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

namespace fairlead::detail
{
class drain_account
{
public:
    using time_point = std::chrono::steady_clock::time_point;
    using waiter = wait_queue<drain_report>::waiter;

    void begin(time_point now)
    {
        report = {};
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
        report.took = std::chrono::duration_cast<std::chrono::milliseconds>(now - began_);
        while (callers_.size() > 1) {
            callers_.notify_one(copy());
        }
        if (!callers_.empty()) {
            callers_.notify_one(std::exchange(report, {}));
        }
    }

    /// A straggler; out of memory it stays unnamed.
    void name(const connection_info& straggler) noexcept
    {
        try {
            report.stragglers.push_back(straggler);
        } catch (...) {
        }
    }

    drain_report report;

private:
    /// Out of memory it names no stragglers.
    drain_report copy() const noexcept
    {
        try {
            return report;
        } catch (...) {
            return {
                .drained = report.drained, .closed_idle = report.closed_idle, .took = report.took};
        }
    }

    wait_queue<drain_report> callers_;
    time_point began_ = {};
    time_point deadline_ = time_point::max();
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_DRAIN_HPP
