// The one thing that the shards share: places, and who is woken when one becomes free.

#include "support/catch.hpp"
#include <fairlead/detail/server/connection_limit.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using fairlead::detail::connection_limit;

namespace connection_limit_test
{
using fairlead::detail::connection_place;
using fairlead::detail::eviction;
using fairlead::detail::evictions;
using fairlead::detail::waiting_client;

inline evictions::time_point at(int periods)
{
    return evictions::time_point(std::chrono::hours(1)) + periods * evictions::patience;
}
} // namespace connection_limit_test

TEST_CASE("places are given out until there is none", "[limit]")
{
    connection_limit limit(3);
    CHECK(limit.try_acquire());
    CHECK(limit.try_acquire());
    CHECK(limit.try_acquire());
    CHECK_FALSE(limit.try_acquire());
    CHECK_FALSE(limit.try_acquire()); // a refusal takes nothing
    limit.release();
    CHECK(limit.try_acquire());
    CHECK_FALSE(limit.try_acquire());
}

TEST_CASE("zero places means no limit", "[limit]")
{
    connection_limit limit(0);
    for (int i = 0; i < 100'000; ++i) {
        REQUIRE(limit.try_acquire());
    }
    limit.release();
    CHECK(limit.try_acquire());
}

TEST_CASE("who waits is woken once, by the next release, and not before", "[limit]")
{
    connection_limit limit(1);
    REQUIRE(limit.try_acquire());
    int first = 0;
    int second = 0;
    limit.notify_when_free([&] { ++first; });
    limit.notify_when_free([&] { ++second; });
    CHECK(first == 0);
    CHECK(second == 0);
    limit.release();
    CHECK(first == 1);
    CHECK(second == 1); // everybody: who was woken may have nobody to give the place to
    REQUIRE(limit.try_acquire());
    limit.release();
    CHECK(first == 1);
    CHECK(second == 1);
}

TEST_CASE("who asks to be woken when a place is free is woken at once", "[limit]")
{
    connection_limit limit(2);
    REQUIRE(limit.try_acquire());
    int woken = 0;
    limit.notify_when_free([&] { ++woken; });
    CHECK(woken == 1);
    // And asking has cost no place.
    CHECK(limit.try_acquire());
    CHECK_FALSE(limit.try_acquire());
}

TEST_CASE("who is woken may ask again from inside", "[limit]")
{
    connection_limit limit(1);
    REQUIRE(limit.try_acquire());
    int woken = 0;
    limit.notify_when_free([&] {
        ++woken;
        REQUIRE(limit.try_acquire());
        limit.notify_when_free([&] { ++woken; });
    });
    limit.release();
    CHECK(woken == 1);
    limit.release();
    CHECK(woken == 2);
}

TEST_CASE("threads never hold more places than there are", "[limit][threads]")
{
    constexpr std::size_t places = 3;
    connection_limit limit(places);
    std::atomic<std::size_t> held = 0;
    std::atomic<std::size_t> most = 0;
    std::atomic<std::size_t> acquired = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 20'000; ++round) {
                if (!limit.try_acquire()) {
                    continue;
                }
                const std::size_t now = ++held;
                for (auto seen = most.load();
                     seen < now && !most.compare_exchange_weak(seen, now);) {
                }
                ++acquired;
                --held;
                limit.release();
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    CHECK(most.load() <= places);
    CHECK(acquired.load() > 0);
    for (std::size_t i = 0; i < places; ++i) { // and none was lost
        CHECK(limit.try_acquire());
    }
    CHECK_FALSE(limit.try_acquire());
}

TEST_CASE("no wake-up is lost between threads", "[limit][threads]")
{
    // Each thread takes a place, and when there is none, sleeps until it is woken: a lost wake-up stops one for ever.
    connection_limit limit(2);
    std::atomic<int> finished = 0;
    std::atomic<bool> gave_up = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 5'000 && !gave_up; ++round) {
                while (!limit.try_acquire()) {
                    struct signal
                    {
                        std::mutex mutex;
                        std::condition_variable changed;
                        bool woken = false;
                    };
                    const auto mine = std::make_shared<signal>();
                    limit.notify_when_free([mine] {
                        const std::lock_guard lock(mine->mutex);
                        mine->woken = true;
                        mine->changed.notify_all();
                    });
                    std::unique_lock lock(mine->mutex);
                    if (!mine->changed.wait_for(
                            lock, std::chrono::seconds(10), [&] { return mine->woken; })) {
                        gave_up = true;
                        return;
                    }
                }
                limit.release();
            }
            ++finished;
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    CHECK_FALSE(gave_up.load());
    CHECK(finished.load() == 6);
}

TEST_CASE("asking to be woken never keeps another from a place that is free", "[limit][threads]")
{
    connection_limit limit(1);
    std::atomic<bool> is_over = false;
    std::thread asking([&] {
        for (int round = 0; round < 200'000; ++round) {
            limit.notify_when_free([] {});
        }
        is_over = true;
    });
    int refusals = 0;
    while (!is_over) {
        if (limit.try_acquire()) {
            limit.release();
        } else {
            ++refusals;
        }
    }
    asking.join();
    CHECK(refusals == 0);
}

TEST_CASE("a place gives itself back, once", "[limit]")
{
    using fairlead::detail::connection_place;
    connection_limit limit(1);
    {
        connection_place place = connection_place::take(limit);
        CHECK(place);
        CHECK_FALSE(connection_place::take(limit));
        connection_place moved = std::move(place);
        CHECK_FALSE(place); // NOLINT(bugprone-use-after-move)
        CHECK(moved);
        CHECK_FALSE(connection_place::take(limit));
        moved.give_back();
        moved.give_back();
        CHECK_FALSE(moved);
        place = connection_place::take(limit);
        CHECK(place);
        place = connection_place();
        CHECK(limit.try_acquire());
        limit.release();
        moved = connection_place::take(limit);
    }
    CHECK(connection_place::take(limit));
}

TEST_CASE("no more evictions are under way than clients wait", "[limit][evict]")
{
    using namespace connection_limit_test;
    connection_limit limit(2);
    auto first = connection_place::take(limit);
    auto second = connection_place::take(limit);
    waiting_client one(limit);
    waiting_client other(limit);
    auto [none, cause] = one.seek(at(0));
    CHECK_FALSE(none);
    REQUIRE(cause);
    first.is_to_be_free(cause);
    CHECK_FALSE(cause); // the place keeps it
    {
        const auto another = other.seek(at(0));
        CHECK(another.second);
        CHECK_FALSE(one.seek(at(0)).second);
        CHECK_FALSE(other.seek(at(1)).second);
    }
    CHECK(other.seek(at(1)).second); // who was asked had nobody
    SECTION("a place that comes is that of one of them, and no reason for another")
    {
        first.give_back();
        const auto [place, more] = other.seek(at(1));
        CHECK(place);
        CHECK_FALSE(more);
        CHECK(one.seek(at(1)).second);
    }
    SECTION("one who does not leave counts no more after a while")
    {
        CHECK(one.seek(at(2)).second);
        const auto again = one.seek(at(2));
        const auto more = other.seek(at(2));
        CHECK(again.second);
        CHECK(more.second);
        first.give_back(); // of a time that is forgotten
        CHECK(one.seek(at(2)).first);
        CHECK_FALSE(other.seek(at(2)).second);
    }
    SECTION("who waits no longer has no claim")
    {
        one = waiting_client();
        CHECK_FALSE(other.seek(at(1)).second);
    }
}

TEST_CASE(
    "who looks at the clock before others does not turn back the account of evictions", "[limit]")
{
    namespace own = connection_limit_test;
    own::evictions account;
    own::evictions::period first = 0;
    own::evictions::period late = 0;
    const auto none = [] { return false; };
    account.arrived();
    account.arrived();
    account.take_or_begin(own::at(2), first, none);
    CHECK(first != 0);
    account.take_or_begin(own::at(1), late, none); // on another shard
    CHECK(late != 0);
    own::evictions::period third = 0;
    account.take_or_begin(own::at(2), third, none);
    CHECK(third == 0); // two wait, two are under way
    account.end(first, [] {});
    account.end(late, [] {});
    account.take_or_begin(own::at(2), third, none);
    CHECK(third != 0);
}
