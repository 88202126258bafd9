// fairlead: virtual time. What is going to happen, in the order of its time; time passes only when
// somebody asks for what comes next.

#ifndef FAIRLEAD_TESTING_KERNEL_AGENDA_HPP
#define FAIRLEAD_TESTING_KERNEL_AGENDA_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/random.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// Since the beginning of the simulation.
using instant = std::chrono::nanoseconds;

/// Events with a time. Those of one time come in an order that the seed draws.
class agenda
{
public:
    using action = std::function<void()>;

    explicit agenda(random_source random) noexcept : random_(random)
    {}

    instant now() const noexcept
    {
        return now_;
    }

    void at(instant when, action what)
    {
        events_.push_back(
            {std::max(when, now_), is_shuffled_ ? random_.next() : ++count_, std::move(what)});
        std::push_heap(events_.begin(), events_.end(), later());
    }

    void after(instant delay, action what)
    {
        at(delay > instant::max() - now_ ? instant::max() : now_ + delay, std::move(what));
    }

    /// Events of one time come in the order in which they were entered.
    void keep_order() noexcept
    {
        is_shuffled_ = false;
    }

    /// Runs one event whose time has come. False: there is none.
    bool run_due()
    {
        if (events_.empty() || events_.front().when > now_) {
            return false;
        }
        std::pop_heap(events_.begin(), events_.end(), later());
        const action what = std::move(events_.back().what);
        events_.pop_back();
        ++ran_;
        what();
        return true;
    }

    /// How many events have been.
    std::uint64_t ran() const noexcept
    {
        return ran_;
    }

    /// When the next event is; empty: nothing is going to happen.
    std::optional<instant> next() const noexcept
    {
        return events_.empty() ? std::nullopt : std::optional(events_.front().when);
    }

    void advance_to(instant when) noexcept
    {
        now_ = std::max(now_, when);
    }

    std::size_t size() const noexcept
    {
        return events_.size();
    }

    /// What has not happened never will.
    void clear() noexcept
    {
        const auto dropped = std::move(events_);
        events_.clear();
    }

private:
    struct event
    {
        instant when;
        std::uint64_t order;
        action what;
    };

    struct later
    {
        bool operator()(const event& left, const event& right) const noexcept
        {
            return left.when != right.when ? left.when > right.when : left.order > right.order;
        }
    };

    random_source random_;
    std::vector<event> events_;
    instant now_ = instant(0);
    std::uint64_t count_ = 0;
    std::uint64_t ran_ = 0;
    bool is_shuffled_ = true;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_AGENDA_HPP
