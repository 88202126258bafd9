// The deadline wheel, with a clock moved by hand: each promise of the header by itself,
// then all of them together in random operations.

#include "tests/support/catch.hpp"
#include "tests/support/deadline_wheel_model.hpp"
#include <fairlead/deadline_wheel.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;

namespace
{
using fairlead::deadline_wheel;
using time_point = deadline_wheel::time_point;
using duration = deadline_wheel::duration;

// Not on a multiple of a tick since the clock's epoch: ticks count from the wheel's start.
constexpr time_point start{123'456'789'123ns};

/// A node that counts how often it fired, remembers when, and then runs `then`.
class test_node : public deadline_wheel::node
{
public:
    test_node() noexcept : node(&test_node::expired)
    {}

    int fired = 0;
    time_point fired_at{};
    std::function<void(time_point)> then;

private:
    static void expired(node& self, time_point now)
    {
        auto& me = static_cast<test_node&>(self);
        ++me.fired;
        me.fired_at = now;
        if (me.then) {
            // A copy: `then` may destroy the node, and itself with it.
            const auto action = me.then;
            action(now);
        }
    }
};

/// Calls advance() exactly when the wheel asks for it, until it is empty or `calls` are used up.
int follow_wakeups(deadline_wheel& wheel, int calls)
{
    int used = 0;
    while (const auto wakeup = wheel.next_wakeup()) {
        if (used++ == calls) {
            break;
        }
        wheel.advance(*wakeup);
    }
    return used;
}
} // namespace

TEST_CASE("a node is small and stays where it is", "[deadline_wheel]")
{
    STATIC_REQUIRE(sizeof(deadline_wheel::node) <= 48);
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<deadline_wheel::node>);
    STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<deadline_wheel::node>);
    STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<deadline_wheel>);
    STATIC_REQUIRE(deadline_wheel::tick == 10ms);
}

TEST_CASE("a new wheel is empty and asks for no wakeup", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    CHECK(wheel.empty());
    CHECK_FALSE(wheel.next_wakeup());
    wheel.advance(start + 24h);
    CHECK(wheel.empty());
    CHECK_FALSE(wheel.next_wakeup());
}

TEST_CASE("a node knows whether it is scheduled and its exact deadline", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    CHECK_FALSE(one.is_scheduled());
    CHECK(one.deadline() == time_point::max());

    wheel.schedule(one, start + 12'345'678ns);
    CHECK(one.is_scheduled());
    CHECK(one.deadline() == start + 12'345'678ns);
    CHECK_FALSE(wheel.empty());

    wheel.cancel(one);
    CHECK_FALSE(one.is_scheduled());
    CHECK(one.deadline() == time_point::max());
    CHECK(wheel.empty());
    CHECK_FALSE(wheel.next_wakeup());
}

TEST_CASE("a node fires never early and at most one tick late", "[deadline_wheel]")
{
    for (const duration after :
         {duration(1ns), duration(10ms - 1ns), duration(10ms), duration(10ms + 1ns),
          duration(200ms), duration(630ms), duration(640ms), duration(650ms), duration(40'960ms),
          duration(5min), duration(24h), duration(365 * 24h), duration(365 * 24h * 99)}) {
        INFO("after " << after.count() << " ns");
        deadline_wheel wheel(start);
        test_node one;
        wheel.schedule(one, start + after);
        wheel.advance(start + after - 1ns);
        CHECK(one.fired == 0);
        CHECK(one.is_scheduled());
        wheel.advance(start + after + deadline_wheel::tick);
        CHECK(one.fired == 1);
        CHECK(one.fired_at == start + after + deadline_wheel::tick);
        CHECK_FALSE(one.is_scheduled());
        CHECK(wheel.empty());
        wheel.advance(start + after + 1h);
        CHECK(one.fired == 1);
    }
}

TEST_CASE("a deadline on a tick fires exactly then", "[deadline_wheel]")
{
    for (std::int64_t ticks = 1; ticks < 10'000; ticks = ticks * 5 / 3 + 1) {
        deadline_wheel wheel(start);
        test_node one;
        const time_point deadline = start + ticks * deadline_wheel::tick;
        wheel.schedule(one, deadline);
        wheel.advance(deadline - 1ns);
        CHECK(one.fired == 0);
        wheel.advance(deadline);
        CHECK(one.fired == 1);
    }
}

TEST_CASE("following the wakeups fires a node within a tick, after few calls", "[deadline_wheel]")
{
    for (const duration after :
         {duration(-5s), duration(0), duration(1ns), duration(10ms), duration(200ms),
          duration(5min), duration(30 * 24h), duration(365 * 24h * 99)}) {
        INFO("after " << after.count() << " ns");
        deadline_wheel wheel(start);
        test_node one;
        wheel.schedule(one, start + after);
        const int calls = follow_wakeups(wheel, 8);
        CHECK(calls <= 7);
        CHECK(one.fired == 1);
        CHECK(one.fired_at >= start + after);
        if (after > 0s) {
            CHECK(one.fired_at < start + after + deadline_wheel::tick);
        } else {
            CHECK(one.fired_at == start);
        }
    }
}

TEST_CASE("the wheel wakes up for the earliest deadline", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node far;
    test_node near;
    wheel.schedule(far, start + 10min);
    wheel.schedule(near, start + 55ms);
    CHECK(wheel.next_wakeup() == start + 60ms);
    wheel.schedule(near, start + 25ms);
    CHECK(wheel.next_wakeup() == start + 30ms);
    wheel.cancel(near);
    REQUIRE(wheel.next_wakeup());
    CHECK(*wheel.next_wakeup() > start + 60ms);
    CHECK(*wheel.next_wakeup() <= start + 10min);
    wheel.cancel(far);
    CHECK_FALSE(wheel.next_wakeup());
}

TEST_CASE("a deadline in the past fires in the next advance", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    const time_point present = start + 57ms;
    wheel.advance(present);
    for (const time_point deadline :
         {present, present - 1ns, present - 1h, start - 24h, time_point::min(),
          present - deadline_wheel::tick}) {
        test_node one;
        wheel.schedule(one, deadline);
        CHECK(one.deadline() == deadline);
        CHECK(one.fired == 0);
        REQUIRE(wheel.next_wakeup());
        CHECK(*wheel.next_wakeup() <= present);
        // Even one that brings no new time.
        wheel.advance(present);
        CHECK(one.fired == 1);
    }
}

TEST_CASE("a time before the present changes nothing", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    test_node overdue;
    wheel.advance(start + 1s);
    wheel.schedule(one, start + 2s);
    wheel.schedule(overdue, start + 500ms);
    wheel.advance(start);
    CHECK(overdue.fired_at == start + 1s);
    CHECK(one.fired == 0);
    wheel.advance(start + 2s);
    CHECK(one.fired == 1);
}

TEST_CASE("no deadline is too far, whenever the wheel starts", "[deadline_wheel]")
{
    for (const time_point origin : {time_point::min(), start, time_point::max() - 1s}) {
        deadline_wheel wheel(origin);
        test_node farthest;
        test_node far_away;
        test_node soon;
        wheel.schedule(farthest, time_point::max());
        wheel.schedule(far_away, time_point::max() - 50ms);
        wheel.schedule(soon, origin + 50ms);
        CHECK(farthest.deadline() == time_point::max());
        CHECK(wheel.next_wakeup() == origin + 50ms);
        wheel.advance(origin + 50ms);
        CHECK(soon.fired == 1);
        wheel.advance(time_point::max() - 50ms - 1ns);
        CHECK(far_away.fired == 0);
        wheel.advance(time_point::max() - 1ns);
        CHECK(far_away.fired == 1);
        CHECK(farthest.fired == 0);
        CHECK(farthest.is_scheduled());
        CHECK(wheel.next_wakeup() == time_point::max());
        wheel.cancel(farthest);
        CHECK(wheel.empty());
    }
}

TEST_CASE("cancelling is idempotent and keeps the others", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    test_node two;
    wheel.cancel(one);
    // The same slot, so cancelling one of them must not hide the other.
    wheel.schedule(one, start + 5s);
    wheel.schedule(two, start + 5s);
    wheel.cancel(one);
    wheel.cancel(one);
    CHECK_FALSE(wheel.empty());
    wheel.advance(start + 6s);
    CHECK(one.fired == 0);
    CHECK(two.fired == 1);
    wheel.cancel(two);
    CHECK(wheel.empty());
}

TEST_CASE("scheduling again replaces the deadline, in both directions", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node later;
    test_node sooner;
    wheel.schedule(later, start + 100ms);
    wheel.schedule(later, start + 10min);
    wheel.schedule(sooner, start + 10min);
    wheel.schedule(sooner, start + 100ms);
    wheel.advance(start + 200ms);
    CHECK(later.fired == 0);
    CHECK(sooner.fired == 1);
    wheel.advance(start + 10min);
    CHECK(later.fired == 1);
    CHECK(sooner.fired == 1);
}

TEST_CASE("nodes of earlier ticks fire first", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    std::vector<int> order;
    test_node nodes[5];
    const duration after[5] = {3h, 20ms, 41s, 640ms, 650ms};
    for (int i = 0; i < 5; ++i) {
        nodes[i].then = [&order, i](time_point) { order.push_back(i); };
        wheel.schedule(nodes[i], start + after[i]);
    }
    wheel.advance(start + 24h);
    CHECK(order == std::vector<int>{1, 3, 4, 2, 0});
}

TEST_CASE("a node rescheduled into the past fires in the next advance only", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    one.then = [&](time_point now) { wheel.schedule(one, one.fired % 2 ? now : now - 1h); };
    wheel.schedule(one, start + 10ms);
    for (int call = 1; call <= 4; ++call) {
        wheel.advance(start + 10ms);
        CHECK(one.fired == call);
    }
    wheel.cancel(one);
    CHECK(wheel.empty());
}

TEST_CASE("a node re-armed only when it fires follows the last activity", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node idle;
    time_point last_activity = start;
    bool timed_out = false;
    idle.then = [&](time_point now) {
        if (last_activity + 300ms > now) {
            wheel.schedule(idle, last_activity + 300ms);
        } else {
            timed_out = true;
        }
    };
    wheel.schedule(idle, start + 300ms);
    for (time_point now = start; now < start + 1s; now += 10ms) {
        last_activity = now;
        wheel.advance(now);
    }
    CHECK_FALSE(timed_out);
    CHECK(idle.fired == 3);
    wheel.advance(last_activity + 299ms);
    CHECK_FALSE(timed_out);
    wheel.advance(last_activity + 310ms);
    CHECK(timed_out);
}

TEST_CASE("a function cancels and moves nodes whose turn has not come", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node first;
    test_node cancelled;
    test_node moved;
    first.then = [&](time_point now) {
        CHECK(cancelled.is_scheduled());
        CHECK_FALSE(first.is_scheduled());
        CHECK_FALSE(wheel.empty());
        CHECK(wheel.next_wakeup() == now);
        wheel.cancel(cancelled);
        wheel.schedule(moved, now + 1s);
    };
    wheel.schedule(first, start + 10ms);
    wheel.schedule(cancelled, start + 20ms);
    wheel.schedule(moved, start + 30ms);
    wheel.advance(start + 100ms);
    CHECK(first.fired == 1);
    CHECK(cancelled.fired == 0);
    CHECK(moved.fired == 0);
    CHECK_FALSE(cancelled.is_scheduled());
    wheel.advance(start + 1100ms);
    CHECK(moved.fired == 1);
    CHECK(wheel.empty());
}

TEST_CASE("a function may destroy its own node and another cancelled one", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    auto owner = std::make_unique<test_node>();
    auto other = std::make_unique<test_node>();
    test_node last;
    owner->then = [&](time_point) {
        wheel.cancel(*other);
        other.reset();
        owner.reset();
    };
    wheel.schedule(*owner, start + 10ms);
    wheel.schedule(*other, start + 10ms);
    wheel.schedule(last, start + 20ms);
    wheel.advance(start + 30ms);
    CHECK(owner == nullptr);
    CHECK(last.fired == 1);
}

TEST_CASE("nodes outlive the wheel unscheduled", "[deadline_wheel]")
{
    test_node one;
    test_node overdue;
    {
        deadline_wheel wheel(start);
        wheel.schedule(one, start + 1h);
        wheel.schedule(overdue, start);
    }
    CHECK_FALSE(one.is_scheduled());
    CHECK_FALSE(overdue.is_scheduled());
}

TEST_CASE("after a silence a near deadline needs one wakeup", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    const time_point present = start + 24h;
    wheel.advance(present);
    wheel.schedule(one, present + 50ms);
    CHECK(wheel.next_wakeup() == present + 50ms);
    CHECK(follow_wakeups(wheel, 8) == 1);
    CHECK(one.fired == 1);
}

TEST_CASE("empty time costs nothing", "[deadline_wheel]")
{
    deadline_wheel wheel(start);
    test_node one;
    std::uint64_t jumps = 0;
    // A year at a time is three billion ticks: walking them would take minutes, not milliseconds.
    for (time_point now = start; now < start + 200 * 365 * 24h; now += 365 * 24h) {
        wheel.schedule(one, now + 364 * 24h);
        wheel.advance(now + 365 * 24h);
        ++jumps;
    }
    CHECK(jumps == 200);
    CHECK(one.fired == 200);
}

TEST_CASE("a million random operations agree with a sorted set", "[deadline_wheel]")
{
    test::deadline_wheel_model compared(20'240'229);
    while (compared.operations < 1'200'000 && compared.failure == nullptr) {
        compared.step();
    }
    INFO("after " << compared.operations << " operations");
    CHECK(compared.failure == nullptr);
    CHECK(compared.fires > 100'000);
}
