// fairlead tests: the deadline wheel next to the simplest thing that could be right, at random.

#ifndef FAIRLEAD_TESTS_SUPPORT_DEADLINE_WHEEL_MODEL_HPP
#define FAIRLEAD_TESTS_SUPPORT_DEADLINE_WHEEL_MODEL_HPP

#include <fairlead/deadline_wheel.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <utility>

namespace test
{
/// A wheel and the same deadlines in sorted order.
class deadline_wheel_model
{
public:
    explicit deadline_wheel_model(std::uint64_t seed) : random_(seed)
    {
        for (std::size_t i = 0; i < nodes_.size(); ++i) {
            nodes_[i].owner = this;
            nodes_[i].index = i;
        }
    }

    deadline_wheel_model(const deadline_wheel_model&) = delete;
    deadline_wheel_model& operator=(const deadline_wheel_model&) = delete;

    ~deadline_wheel_model()
    {
        for (numbered_node& each : nodes_) {
            wheel_.cancel(each);
        }
    }

    /// One operation; the callbacks of an advance do some more.
    void step()
    {
        const std::uint64_t dice = random_() % 100;
        if (dice < 20) {
            advance();
        } else {
            change();
        }
        check_wakeup();
    }

    std::uint64_t operations = 0;
    std::uint64_t fires = 0;
    /// The first promise that was broken.
    const char* failure = nullptr;

private:
    using deadline_wheel = fairlead::deadline_wheel;
    using time_point = deadline_wheel::time_point;
    using duration = deadline_wheel::duration;

    // Not on a multiple of a tick since the clock's epoch.
    static constexpr time_point start{std::chrono::nanoseconds(987'654'321)};
    static constexpr duration tick = deadline_wheel::tick;

    struct numbered_node : deadline_wheel::node
    {
        numbered_node() noexcept : node(&numbered_node::expired)
        {}

        static void expired(node& self, time_point now)
        {
            auto& me = static_cast<numbered_node&>(self);
            me.owner->fired(me.index, now);
        }

        deadline_wheel_model* owner = nullptr;
        std::size_t index = 0;
    };

    void expect(bool holds, const char* promise)
    {
        if (!holds && failure == nullptr) {
            failure = promise;
        }
    }

    /// Every order of magnitude up to `bits` is as likely as any other.
    duration some_duration(std::uint64_t bits)
    {
        const std::uint64_t width = random_() % bits + 1;
        return duration(static_cast<std::int64_t>(random_() >> (64 - width)));
    }

    void change()
    {
        ++operations;
        const std::size_t i = random_() % nodes_.size();
        forget(i);
        const std::uint64_t dice = random_() % 100;
        if (dice < 25) {
            wheel_.cancel(nodes_[i]);
            expect(!nodes_[i].is_scheduled(), "a cancelled node is not scheduled");
            return;
        }
        time_point deadline = now_;
        if (dice < 27) {
            deadline = time_point::max();
        } else if (dice < 35) {
            deadline -= some_duration(36);
        } else {
            deadline += some_duration(dice < 45 ? 61 : 40);
        }
        deadlines_[i] = deadline;
        sorted_.emplace(deadline, i);
        if (deadline <= now_) {
            due_next_.insert(i);
        }
        wheel_.schedule(nodes_[i], deadline);
        expect(nodes_[i].deadline() == deadline, "a node keeps its exact deadline");
    }

    void forget(std::size_t i)
    {
        if (deadlines_[i]) {
            sorted_.erase({*deadlines_[i], i});
            deadlines_[i].reset();
            due_now_.erase(i);
            due_next_.erase(i);
        }
    }

    void advance()
    {
        ++operations;
        const std::uint64_t dice = random_() % 1000;
        const std::optional<time_point> wakeup = wheel_.next_wakeup();
        if (dice < 2) {
            now_ += some_duration(52);
        } else if (dice < 300 && wakeup && *wakeup < now_ + std::chrono::hours(24)) {
            now_ = std::max(now_, *wakeup);
        } else if (dice < 950) {
            now_ += some_duration(26);
        }
        due_now_ = std::exchange(due_next_, {});
        wheel_.advance(now_);
        expect(due_now_.empty(), "a deadline in the past fires in the next advance");
        for (const auto& [deadline, i] : sorted_) {
            if (deadline > now_ - tick) {
                break;
            }
            expect(due_next_.contains(i), "a node fires at most one tick late");
        }
    }

    void fired(std::size_t i, time_point now)
    {
        ++fires;
        expect(now == now_, "a function is given the time of the advance");
        expect(deadlines_[i].has_value(), "only scheduled nodes fire, and once");
        expect(deadlines_[i] <= now, "a node does not fire early");
        expect(!due_next_.contains(i), "a node rescheduled into the past waits for its turn");
        forget(i);
        for (std::uint64_t changes = random_() % 3; changes > 0; --changes) {
            change();
        }
    }

    void check_wakeup()
    {
        const std::optional<time_point> wakeup = wheel_.next_wakeup();
        expect(wheel_.empty() == sorted_.empty(), "the wheel knows whether it is empty");
        expect(wakeup.has_value() == !sorted_.empty(), "a wheel with nodes asks for a wakeup");
        if (!wakeup || sorted_.empty()) {
            return;
        }
        const time_point earliest = sorted_.begin()->first;
        if (earliest <= now_) {
            expect(*wakeup <= now_ + tick, "the wakeup for an overdue node is within a tick");
        } else if (earliest < time_point::max() - tick) {
            const duration late = (*wakeup - start) - (earliest - start);
            expect(late < tick, "the wakeup is not after the earliest deadline and a tick");
        }
    }

    std::mt19937_64 random_;
    time_point now_ = start;
    deadline_wheel wheel_{start};
    std::array<numbered_node, 400> nodes_;
    std::array<std::optional<time_point>, 400> deadlines_{};
    std::set<std::pair<time_point, std::size_t>> sorted_;
    /// Scheduled in the past: before the running advance, and since it began.
    std::set<std::size_t> due_now_;
    std::set<std::size_t> due_next_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_DEADLINE_WHEEL_MODEL_HPP
