// The live connections of a server: a list for its own thread, a table of ids for everybody.

#include "support/catch.hpp"
#include <fairlead/detail/server/registry.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace
{
struct entry : fairlead::detail::registry_entry
{};

using registry = fairlead::detail::registry<entry>;

std::vector<std::uint64_t> ids_of(registry& live)
{
    std::vector<std::uint64_t> ids;
    live.for_each([&](entry& each) { ids.push_back(each.id()); });
    return ids;
}
} // namespace

TEST_CASE("ids are unique, never zero and never reused", "[registry]")
{
    std::vector<std::vector<std::uint64_t>> made(4);
    std::vector<std::thread> threads;
    for (auto& ids : made) {
        threads.emplace_back([&ids] {
            for (int i = 0; i < 5'000; ++i) {
                ids.push_back(entry().id());
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    std::set<std::uint64_t> all;
    for (const auto& ids : made) {
        CHECK(std::is_sorted(ids.begin(), ids.end()));
        all.insert(ids.begin(), ids.end());
    }
    CHECK(all.size() == 20'000);
    CHECK(all.count(0) == 0);
}

TEST_CASE("an empty registry knows nobody", "[registry]")
{
    registry live;
    CHECK(live.empty());
    CHECK(live.size() == 0);
    CHECK_FALSE(live.contains(0));
    CHECK_FALSE(live.contains(1));
    CHECK(live.find(1) == nullptr);
    CHECK(ids_of(live).empty());
}

TEST_CASE("an entry is found from insert to erase", "[registry]")
{
    registry live;
    entry one;
    entry other;
    CHECK_FALSE(one.is_registered());
    live.insert(one);
    CHECK(one.is_registered());
    CHECK(live.size() == 1);
    CHECK(live.contains(one.id()));
    CHECK_FALSE(live.contains(other.id()));
    CHECK(live.find(one.id()) == &one);
    CHECK(live.find(other.id()) == nullptr);
    live.erase(one);
    CHECK_FALSE(one.is_registered());
    CHECK_FALSE(live.contains(one.id()));
    CHECK(live.empty());
    live.insert(one); // and it may come back
    CHECK(live.find(one.id()) == &one);
    live.erase(one);
}

TEST_CASE("the front is who came first or was moved to the back longest ago", "[registry]")
{
    registry live;
    entry a;
    entry b;
    entry c;
    live.insert(a);
    live.insert(b);
    live.insert(c);
    CHECK(&live.front() == &a);
    live.move_to_back(a);
    CHECK(&live.front() == &b);
    live.move_to_back(b);
    CHECK(&live.front() == &c);
    CHECK(ids_of(live) == std::vector<std::uint64_t>{c.id(), a.id(), b.id()});
    CHECK(live.size() == 3);
    CHECK(live.contains(a.id()));
    live.erase(c);
    CHECK(&live.front() == &a);
    live.erase(a);
    live.erase(b);
}

TEST_CASE("entries may leave while they are visited", "[registry]")
{
    registry live;
    std::vector<std::unique_ptr<entry>> entries;
    for (int i = 0; i < 200; ++i) {
        live.insert(*entries.emplace_back(std::make_unique<entry>()));
    }
    int visited = 0;
    live.for_each([&](entry& each) {
        ++visited;
        live.erase(each);
    });
    CHECK(visited == 200);
    CHECK(live.empty());
}

TEST_CASE("a random life of thousands of entries agrees with a set", "[registry]")
{
    registry live;
    std::vector<std::unique_ptr<entry>> present;
    std::set<std::uint64_t> expected;
    std::vector<std::uint64_t> gone;
    std::mt19937 random(20260731);
    for (int step = 0; step < 50'000; ++step) {
        if (present.empty() || random() % 100 < 55) {
            auto& made = present.emplace_back(std::make_unique<entry>());
            live.insert(*made);
            expected.insert(made->id());
        } else {
            auto& leaving = present[random() % present.size()];
            live.erase(*leaving);
            expected.erase(leaving->id());
            gone.push_back(leaving->id());
            std::swap(leaving, present.back());
            present.pop_back();
        }
    }
    REQUIRE(live.size() == expected.size());
    REQUIRE(live.size() > 1'000); // the table has grown several times
    bool all_found = true;
    for (const auto& each : present) {
        all_found = all_found && live.contains(each->id()) && live.find(each->id()) == each.get();
    }
    CHECK(all_found);
    CHECK(std::none_of(gone.begin(), gone.end(), [&](auto id) { return live.contains(id); }));
    auto ids = ids_of(live);
    std::sort(ids.begin(), ids.end());
    CHECK(std::equal(ids.begin(), ids.end(), expected.begin(), expected.end()));
    for (const auto& each : present) {
        live.erase(*each);
    }
    CHECK(live.empty());
}

TEST_CASE("any thread may ask for an id while connections come and go", "[registry][threads]")
{
    registry live;
    entry resident;
    live.insert(resident);
    std::atomic<bool> done = false;
    std::atomic<int> misses = 0;
    std::atomic<int> asked = 0;
    std::thread asking([&] {
        while (!done || asked < 1'000) {
            misses += live.contains(resident.id()) ? 0 : 1;
            misses += live.contains(0) ? 1 : 0;
            ++asked;
        }
    });
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<entry>> guests;
        for (int i = 0; i < 500; ++i) {
            live.insert(*guests.emplace_back(std::make_unique<entry>()));
        }
        for (const auto& guest : guests) {
            live.erase(*guest);
        }
    }
    done = true;
    asking.join();
    CHECK(misses == 0);
    live.erase(resident);
}

TEST_CASE("a retired entry is known by its id no longer, and is visited still", "[registry]")
{
    registry live;
    std::vector<std::unique_ptr<entry>> entries;
    for (int i = 0; i < 200; ++i) { // grows while some are retired
        entries.push_back(std::make_unique<entry>());
        live.insert(*entries.back());
        if (i % 3 == 0) {
            live.retire(*entries.back());
            live.retire(*entries.back());
        }
    }
    CHECK(live.size() == 200);
    CHECK(ids_of(live).size() == 200);
    std::size_t visited = 0;
    live.visit_all([&](const entry&) { ++visited; });
    CHECK(visited == 200);
    for (std::size_t i = 0; i < entries.size(); ++i) {
        CHECK(live.contains(entries[i]->id()) == (i % 3 != 0));
    }
    for (const auto& each : entries) {
        live.erase(*each);
        CHECK_FALSE(live.contains(each->id()));
    }
    CHECK(live.empty());
}
