#include "support/catch.hpp"
#include <fairlead/detail/connection/deadlines.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

// A scripted clock: every time below is so many milliseconds after `epoch`.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::detail::deadlines;
using std::chrono::milliseconds;
using time_point = deadlines::time_point;

namespace
{
constexpr time_point never = time_point::max();
const time_point epoch = time_point() + 1h;

time_point at(milliseconds time)
{
    return epoch + time;
}

/// Every timeout off.
fairlead::server_config without_timeouts()
{
    return {
        .pre_open_timeout = 0ms, .idle_timeout = 0ms, .write_timeout = 0ms, .max_lifetime = 0ms};
}

struct active_at : deadlines
{
    explicit active_at(milliseconds time)
    {
        last_activity = at(time);
    }
};

/// What the kernel would say, and how often it was asked.
struct kernel
{
    deadlines::outgoing state = {};
    int questions = 0;

    deadlines::outgoing operator()()
    {
        ++questions;
        return state;
    }
};

deadlines::verdict look(
    deadlines& times, milliseconds now, const fairlead::server_config& config, kernel& facts,
    deadlines::stage where = deadlines::stage::open, bool writing = false)
{
    return times.look(at(now), where, writing, config, facts);
}
} // namespace

TEST_CASE("with everything off no look is ever due", "[deadlines]")
{
    const auto config = without_timeouts();
    kernel facts;
    active_at times(0ms);
    for (const auto stage :
         {deadlines::stage::pre_open, deadlines::stage::open, deadlines::stage::closing}) {
        for (const bool writing : {false, true}) {
            const auto verdict = look(times, 10h, config, facts, stage, writing);
            CHECK_FALSE(verdict.reason);
            CHECK(verdict.next == never);
        }
    }
    CHECK(facts.questions == 0);
}

TEST_CASE("silence ends at the idle timeout and not a moment before", "[deadlines][idle]")
{
    auto config = without_timeouts();
    config.idle_timeout = 200ms;
    kernel facts;
    active_at times(50ms);

    auto verdict = look(times, 249ms, config, facts);
    CHECK_FALSE(verdict.reason);
    CHECK(verdict.next == at(250ms));
    CHECK(facts.questions == 0); // a system call only when the answer matters

    SECTION("silence")
    {
        CHECK(look(times, 250ms, config, facts).reason == close_reason::idle_timeout);
    }
    SECTION("activity in between moves it")
    {
        times.last_activity = at(249ms);
        verdict = look(times, 250ms, config, facts);
        CHECK_FALSE(verdict.reason);
        CHECK(verdict.next == at(449ms));
        CHECK(look(times, 449ms, config, facts).reason == close_reason::idle_timeout);
    }
    SECTION("it does not count before the handler runs, nor when it is done")
    {
        CHECK_FALSE(look(times, 10h, config, facts, deadlines::stage::pre_open).reason);
        CHECK_FALSE(look(times, 10h, config, facts, deadlines::stage::closing).reason);
    }
}

TEST_CASE("the pre-open deadline is one for all of it", "[deadlines][pre_open]")
{
    const auto config = without_timeouts();
    kernel facts;
    active_at times(0ms);
    times.pre_open_ends = at(200ms);

    const auto early = look(times, 199ms, config, facts, deadlines::stage::pre_open);
    CHECK_FALSE(early.reason);
    CHECK(early.next == at(200ms));
    times.last_activity = at(199ms); // one deadline for all of it, whatever comes meanwhile
    CHECK(
        look(times, 200ms, config, facts, deadlines::stage::pre_open).reason ==
        close_reason::pre_open_timeout);
    // Also for a step that the handler takes late, such as STARTTLS.
    CHECK(
        look(times, 200ms, config, facts, deadlines::stage::open).reason ==
        close_reason::pre_open_timeout);
    CHECK_FALSE(look(times, 200ms, config, facts, deadlines::stage::closing).reason);
    times.pre_open_ends = deadlines::time_point::max();
    CHECK_FALSE(look(times, 1h, config, facts, deadlines::stage::open).reason);
}

TEST_CASE("a frame that has begun has a deadline while the handler runs", "[deadlines][frame]")
{
    const auto config = without_timeouts();
    kernel facts;
    active_at times(0ms);
    times.frame_ends = at(200ms);
    const auto early = look(times, 199ms, config, facts, deadlines::stage::open);
    CHECK_FALSE(early.reason);
    CHECK(early.next == at(200ms));
    times.last_activity = at(199ms); // trickling does not help
    CHECK(
        look(times, 200ms, config, facts, deadlines::stage::open).reason ==
        close_reason::deadline_exceeded);
    CHECK_FALSE(look(times, 200ms, config, facts, deadlines::stage::closing).reason);
}

TEST_CASE("the close has a deadline of its own, and no other counts", "[deadlines][closing]")
{
    auto config = without_timeouts();
    config.idle_timeout = 1ms;
    config.write_timeout = 1ms;
    kernel facts;
    active_at times(0ms);
    times.pre_open_ends = at(1ms);
    times.lifetime_ends = at(1ms);
    times.expires_at = at(1ms);
    times.closing_ends = at(300ms);

    const auto early = look(times, 299ms, config, facts, deadlines::stage::closing, true);
    CHECK_FALSE(early.reason);
    CHECK(early.next == at(300ms));
    CHECK(look(times, 300ms, config, facts, deadlines::stage::closing, true).reason);
}

TEST_CASE("the handler's own deadline counts while it runs", "[deadlines][expires_after]")
{
    const auto config = without_timeouts();
    kernel facts;
    active_at times(0ms);
    times.expires_at = at(100ms);

    CHECK_FALSE(look(times, 100ms, config, facts, deadlines::stage::pre_open).reason);
    CHECK_FALSE(look(times, 99ms, config, facts).reason);
    CHECK(look(times, 99ms, config, facts).next == at(100ms));
    times.last_activity = at(99ms); // traffic does not move it
    CHECK(look(times, 100ms, config, facts).reason == close_reason::deadline_exceeded);
    times.expires_at = at(500ms);
    CHECK_FALSE(look(times, 100ms, config, facts).reason);
    times.expires_at = never;
    CHECK_FALSE(look(times, 10h, config, facts).reason);
}

TEST_CASE("the lifetime counts before and while the handler runs", "[deadlines][lifetime]")
{
    const auto config = without_timeouts();
    kernel facts;
    active_at times(0ms);
    times.lifetime_ends = at(100ms);

    for (const auto stage : {deadlines::stage::pre_open, deadlines::stage::open}) {
        times.last_activity = at(99ms);
        const auto early = look(times, 99ms, config, facts, stage);
        CHECK_FALSE(early.reason);
        CHECK(early.next == at(100ms));
        CHECK(look(times, 100ms, config, facts, stage).reason == close_reason::max_lifetime);
    }
}

TEST_CASE("of several deadlines the next look is for the earliest", "[deadlines]")
{
    auto config = without_timeouts();
    config.idle_timeout = 300ms;
    config.write_timeout = 1s;
    kernel facts;
    active_at times(0ms);
    times.write_begins(at(0ms));
    times.lifetime_ends = at(400ms);
    times.expires_at = at(200ms);

    CHECK(look(times, 10ms, config, facts, deadlines::stage::open, true).next == at(200ms));
    times.expires_at = never;
    CHECK(look(times, 10ms, config, facts, deadlines::stage::open, true).next == at(300ms));
    config.idle_timeout = 0ms;
    CHECK(look(times, 10ms, config, facts, deadlines::stage::open, true).next == at(400ms));
    times.lifetime_ends = never;
    CHECK(look(times, 10ms, config, facts, deadlines::stage::open, true).next == at(500ms));
    CHECK(look(times, 10ms, config, facts, deadlines::stage::open, false).next == never);
}

TEST_CASE("what the handler asked for is named before what is configured", "[deadlines]")
{
    auto config = without_timeouts();
    config.idle_timeout = 100ms;
    kernel facts;
    active_at times(0ms);
    times.expires_at = at(100ms);
    times.lifetime_ends = at(100ms);
    CHECK(look(times, 100ms, config, facts).reason == close_reason::deadline_exceeded);
    times.expires_at = never;
    CHECK(look(times, 100ms, config, facts).reason == close_reason::max_lifetime);
    times.lifetime_ends = never;
    CHECK(look(times, 100ms, config, facts).reason == close_reason::idle_timeout);
}

TEST_CASE("a finished write is not a stalled one", "[deadlines][write]")
{
    auto config = without_timeouts();
    config.write_timeout = 200ms;
    kernel facts{.state = {.acknowledged = 0, .pending = true}};
    active_at times(0ms);
    times.write_begins(at(0ms));
    CHECK(times.first_look(200ms) > at(0ms));
    CHECK(times.first_look(200ms) <= at(200ms));
    CHECK_FALSE(look(times, 10h, config, facts, deadlines::stage::open, false).reason);
    CHECK(facts.questions == 0);
}

// -- peers that take what was written at their own pace ----------------------------------------------

namespace
{
/// A peer whose kernel acknowledges a byte at each of `acknowledgements` (sorted), and for ever has more to take.
struct peer
{
    std::vector<milliseconds> acknowledgements;

    deadlines::outgoing outgoing(milliseconds now) const
    {
        const auto later = std::upper_bound(acknowledgements.begin(), acknowledgements.end(), now);
        return {
            .acknowledged = static_cast<std::uint64_t>(later - acknowledgements.begin()),
            .pending = true};
    }

    milliseconds last_before(milliseconds now) const
    {
        const auto later = std::upper_bound(acknowledgements.begin(), acknowledgements.end(), now);
        return later == acknowledgements.begin() ? 0ms : *(later - 1);
    }
};

struct outcome
{
    milliseconds when;
    std::optional<close_reason> reason;
};

/// A write begins at 0 and takes longer than the test. Looks as the wheel does: at the next tick after the time asked
/// for, or, in between, when another of the connection's deadlines was moved (`distractions`).
outcome simulate(
    const peer& client, const fairlead::server_config& config, milliseconds until,
    const std::vector<milliseconds>& distractions = {})
{
    active_at times(0ms);
    times.write_begins(at(0ms));
    milliseconds now = 0ms;
    std::size_t looks = 0;
    std::size_t distraction = 0;
    while (now < until) {
        const auto facts = [&] { return client.outgoing(now); };
        const auto verdict = times.look(at(now), deadlines::stage::open, true, config, facts);
        if (verdict.reason) {
            return {now, verdict.reason};
        }
        REQUIRE(verdict.next > at(now)); // else the timer spins
        REQUIRE(++looks < 100'000);
        const auto wanted = std::chrono::ceil<milliseconds>(verdict.next - epoch);
        milliseconds next = (wanted + 9ms) / 10ms * 10ms;
        while (distraction < distractions.size() && distractions[distraction] <= now) {
            ++distraction;
        }
        if (distraction < distractions.size()) {
            next = std::min(next, distractions[distraction]);
        }
        now = next;
    }
    return {now, {}};
}

/// With the idle timeout, the write timeout, or both.
std::vector<fairlead::server_config> configurations_for_writes()
{
    std::vector<fairlead::server_config> configs;
    for (const auto& [idle, write] : std::vector<std::pair<milliseconds, milliseconds>>{
             {200ms, 0ms}, {0ms, 200ms}, {200ms, 200ms}}) {
        configs.push_back(without_timeouts());
        configs.back().idle_timeout = idle;
        configs.back().write_timeout = write;
    }
    return configs;
}
} // namespace

TEST_CASE(
    "a peer that takes nothing is given up after the timeout, not before", "[deadlines][write]")
{
    for (const auto& config : configurations_for_writes()) {
        INFO("idle " << config.idle_timeout.count() << " write " << config.write_timeout.count());
        const outcome end = simulate({}, config, 10s);
        REQUIRE(end.reason);
        CHECK(end.when >= 200ms);
        CHECK(end.when <= 400ms);
        const bool is_write = config.write_timeout > 0ms;
        CHECK(end.reason == (is_write ? close_reason::write_timeout : close_reason::idle_timeout));
    }
}

TEST_CASE("a peer that takes something within each timeout is kept", "[deadlines][write][idle]")
{
    for (const auto& config : configurations_for_writes()) {
        INFO("idle " << config.idle_timeout.count() << " write " << config.write_timeout.count());
        for (const auto pace : {10ms, 45ms, 99ms, 101ms, 150ms, 190ms}) {
            for (const auto offset : {1ms, 49ms, 99ms, 100ms, 149ms, 179ms}) {
                peer client;
                for (milliseconds time = offset; time < 21s; time += pace) {
                    client.acknowledgements.push_back(time);
                }
                INFO("pace " << pace.count() << " offset " << offset.count());
                const outcome end = simulate(client, config, 20s);
                INFO("ended at " << end.when.count());
                REQUIRE_FALSE(end.reason);
            }
        }
    }
}

TEST_CASE("whatever the peer's pace, only real silence ends a connection", "[deadlines][write]")
{
    std::mt19937 random(20261122);
    for (const auto& config : configurations_for_writes()) {
        for (int round = 0; round < 2000; ++round) {
            peer client;
            std::uniform_int_distribution<int> gap(1, 199);
            const int count = std::uniform_int_distribution<int>(0, 40)(random);
            milliseconds time = 0ms;
            for (int number = 0; number < count; ++number) {
                client.acknowledgements.push_back(time += milliseconds(gap(random)));
            }
            std::vector<milliseconds> distractions;
            for (milliseconds when = 0ms; when < 10s; when += milliseconds(gap(random))) {
                distractions.push_back(when);
            }
            const outcome end = simulate(client, config, 20s, distractions);
            const milliseconds silence = end.when - client.last_before(end.when);
            INFO(
                "round " << round << " idle " << config.idle_timeout.count() << " write "
                         << config.write_timeout.count() << " ended at " << end.when.count());
            REQUIRE(end.reason);
            REQUIRE(silence >= 200ms);
            REQUIRE(silence <= 420ms);
        }
    }
}

// -- the lifetime's spread -----------------------------------------------------------------------------

TEST_CASE("lifetimes of connections of one moment are spread by a tenth", "[deadlines][lifetime]")
{
    constexpr std::size_t count = 10'000;
    std::array<int, 20> buckets{};
    milliseconds sum = 0ms;
    int runs = 0;
    std::optional<bool> was_rising;
    time_point before;
    for (std::uint64_t id = 1; id <= count; ++id) { // ids count up
        deadlines times;
        times.begin_lifetime(epoch, 1000ms, id);
        const auto lifetime = times.lifetime_ends - epoch;
        REQUIRE(lifetime >= 900ms);
        REQUIRE(lifetime <= 1100ms);
        sum += std::chrono::duration_cast<milliseconds>(lifetime);
        const auto bucket = static_cast<std::size_t>((lifetime - 900ms) / 10ms);
        ++buckets[std::min(bucket, buckets.size() - 1)];
        const bool is_rising = times.lifetime_ends > before;
        runs += was_rising != is_rising ? 1 : 0;
        was_rising = is_rising;
        before = times.lifetime_ends;
    }
    CHECK(sum / count >= 995ms);
    CHECK(sum / count <= 1005ms);
    for (const int connections : buckets) { // even: 500 each
        CHECK(connections > 350);
        CHECK(connections < 650);
    }
    CHECK(runs > 5000); // random order changes direction two times of three
}

TEST_CASE("a lifetime of zero is for ever, a short or a long one is spread as well", "[deadlines]")
{
    deadlines times;
    times.begin_lifetime(epoch, 0ms, 1);
    CHECK(times.lifetime_ends == never);

    for (std::uint64_t id = 1; id <= 100; ++id) {
        times.begin_lifetime(epoch, 1ms, id);
        CHECK(times.lifetime_ends >= epoch + 900us);
        CHECK(times.lifetime_ends <= epoch + 1100us);
        const milliseconds longest = std::chrono::years(100); // config.hpp allows no more
        times.begin_lifetime(epoch, longest, id);
        CHECK(times.lifetime_ends >= epoch + longest / 10 * 9);
        CHECK(times.lifetime_ends <= epoch + longest / 10 * 11);
    }
}
