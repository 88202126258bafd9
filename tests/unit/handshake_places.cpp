// detail/handshake_places.hpp: who has a place, who queues, who gives way. Time is an argument.

#include "tests/support/catch.hpp"
#include <fairlead/detail/server/handshake_places.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

using namespace std::chrono_literals;
using fairlead::detail::handshake_places;
using time_point = handshake_places::time_point;

namespace
{
constexpr auto patience = 100ms;

struct client final : handshake_places::handshake
{
    explicit client(handshake_places& entered) : places(entered)
    {}

    client(const client&) = delete;
    client& operator=(const client&) = delete;

    ~client()
    {
        places.leave(*this);
    }

    void placed() noexcept override
    {
        ++times_placed;
    }

    handshake_places& places;
    int times_placed = 0;
};

time_point moment(std::chrono::milliseconds time)
{
    return time_point(1h) + time;
}
} // namespace

TEST_CASE("places are handed over in the order in which clients came", "[handshake_places]")
{
    handshake_places places(2, patience);
    client first(places);
    client second(places);
    client third(places);
    client fourth(places);
    CHECK(places.enter(first, moment(0ms)));
    CHECK(places.enter(second, moment(0ms)));
    CHECK_FALSE(places.enter(third, moment(0ms)));
    CHECK_FALSE(places.enter(fourth, moment(0ms)));
    CHECK(third.is_queued());
    places.leave(second);
    CHECK(third.times_placed == 1);
    CHECK_FALSE(third.is_queued());
    CHECK(fourth.times_placed == 0);
    places.leave(first);
    CHECK(fourth.times_placed == 1);
    places.leave(third);
    places.leave(fourth);
    CHECK(places.enter(first, moment(1ms)));
    CHECK(places.enter(second, moment(1ms)));
    CHECK_FALSE(places.enter(third, moment(1ms)));
}

TEST_CASE("a limit of zero places is none", "[handshake_places]")
{
    handshake_places places(0, patience);
    std::vector<std::unique_ptr<client>> clients;
    for (int n = 0; n < 1000; ++n) {
        clients.push_back(std::make_unique<client>(places));
        CHECK(places.enter(*clients.back(), moment(0ms)));
        places.waits(*clients.back(), moment(0ms));
    }
    CHECK(places.next_look() == time_point::max());
}

TEST_CASE("who keeps others waiting gives way for good, and goes on", "[handshake_places]")
{
    handshake_places places(1, patience);
    client slow(places);
    client next(places);
    CHECK(places.enter(slow, moment(0ms)));
    places.waits(slow, moment(0ms));
    CHECK(places.next_look() == time_point::max()); // nobody else wants the place
    places.look(moment(10s));
    CHECK_FALSE(slow.has_given_way());

    places.continues(slow, moment(50ms));
    places.waits(slow, moment(60ms));
    CHECK_FALSE(places.enter(next, moment(70ms)));
    CHECK(places.next_look() <= moment(110ms)); // it has waited for 50 ms before
    places.look(moment(109ms));
    CHECK(next.is_queued());
    CHECK(places.next_look() == moment(110ms));
    places.look(moment(110ms));
    CHECK(slow.has_given_way());
    CHECK(next.times_placed == 1);
    CHECK(places.next_look() == time_point::max());

    places.continues(slow, moment(200ms));
    CHECK(places.enter(slow, moment(200ms))); // it is not sent to the back of the queue
    places.waits(slow, moment(200ms));
    places.leave(slow);
    client third(places);
    CHECK_FALSE(places.enter(third, moment(201ms))); // and had no place to give back
    places.leave(next);
    CHECK(third.times_placed == 1);
}

TEST_CASE("progress does not renew the time for which a peer is waited for", "[handshake_places]")
{
    handshake_places places(1, patience);
    client dripper(places);
    client honest(places);
    CHECK(places.enter(dripper, moment(0ms)));
    auto now = 0ms;
    for (; now < 99ms; now += 9ms) {
        places.waits(dripper, moment(now));
        places.continues(dripper, moment(now + 9ms));
    }
    CHECK_FALSE(places.enter(honest, moment(now)));
    places.waits(dripper, moment(now)); // 99 ms are used up
    CHECK(honest.is_queued());
    places.look(moment(now + 1ms));
    CHECK(honest.times_placed == 1);
}

TEST_CASE("who has used up its time gives way the moment somebody comes", "[handshake_places]")
{
    handshake_places places(2, patience);
    client first(places);
    client second(places);
    client third(places);
    CHECK(places.enter(first, moment(0ms)));
    CHECK(places.enter(second, moment(0ms)));
    places.waits(first, moment(0ms));
    places.waits(second, moment(0ms));
    CHECK(places.enter(third, moment(500ms)));
    CHECK(first.has_given_way());
    CHECK_FALSE(second.has_given_way()); // one was enough
    client fourth(places);
    places.continues(second, moment(500ms)); // it works: a computation is not interrupted
    CHECK_FALSE(places.enter(fourth, moment(500ms)));
    places.waits(second, moment(501ms)); // and then there is nothing left to wait with
    CHECK(second.has_given_way());
    CHECK(fourth.times_placed == 1);
}

TEST_CASE("who leaves the queue is passed over", "[handshake_places]")
{
    handshake_places places(1, patience);
    client holder(places);
    CHECK(places.enter(holder, moment(0ms)));
    client last(places);
    {
        client gone(places);
        CHECK_FALSE(places.enter(gone, moment(0ms)));
        CHECK_FALSE(places.enter(last, moment(0ms)));
    }
    places.waits(holder, moment(0ms));
    places.look(moment(100ms));
    CHECK(holder.has_given_way());
    CHECK(last.times_placed == 1);
}

TEST_CASE(
    "a crowd that stalls is through the gate in a round for each places", "[handshake_places]")
{
    constexpr std::size_t crowd = 1500;
    handshake_places places(256, patience);
    std::vector<std::unique_ptr<client>> stallers;
    for (std::size_t n = 0; n < crowd; ++n) {
        stallers.push_back(std::make_unique<client>(places));
        if (places.enter(*stallers.back(), moment(0ms))) {
            places.waits(*stallers.back(), moment(0ms));
        }
    }
    client honest(places);
    CHECK_FALSE(places.enter(honest, moment(1ms)));
    std::size_t waits = 256;
    int rounds = 0;
    for (; honest.is_queued() && rounds < 100; ++rounds) {
        const auto now = places.next_look();
        places.look(now);
        for (; waits < crowd && !stallers[waits]->is_queued(); ++waits) {
            places.waits(*stallers[waits], now);
        }
    }
    CHECK(rounds == 5); // 256 at once, and 256 more in each round
    CHECK(honest.times_placed == 1);
}
