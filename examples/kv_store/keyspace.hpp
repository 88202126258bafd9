// The keys of kv_store, their values, and when they expire. For several threads: the keys are
// spread over parts by their hash, and each part has a mutex. A command locks the parts of all its
// keys, so it is atomic as in Redis, and commands for other keys go on meanwhile on other cores.
// (The alternative, a keyspace per shard, needs no mutex, and a hop to another thread for every key
// that lives there, which costs far more than a mutex that is nearly always free.)

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_KEYSPACE_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_KEYSPACE_HPP

#include "hashed_key.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace kv
{
/// Milliseconds of a clock that nobody sets.
inline std::int64_t now()
{
    using namespace std::chrono;
    return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

inline constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

class keyspace
{
public:
    struct entry
    {
        std::string value;
        std::int64_t expires = never;
    };

    /// Keys and values together may take so many bytes.
    explicit keyspace(std::size_t max_memory) : max_memory_(max_memory)
    {}

    /// Holds the parts of some keys. In the order of the parts, whatever that of the keys: two that
    /// want the same ones never wait for each other.
    class lock
    {
    public:
        lock(keyspace& owner, std::span<const hashed_key> keys) : owner_(owner)
        {
            for (const hashed_key& key : keys) {
                parts_ |= std::uint64_t(1) << index_of(key);
            }
            for_each_part([](part& each) { each.mutex.lock(); });
        }

        lock(const lock&) = delete;
        lock& operator=(const lock&) = delete;

        ~lock()
        {
            for_each_part([](part& each) { each.mutex.unlock(); });
        }

    private:
        template <typename Action>
        void for_each_part(Action action)
        {
            for (auto left = parts_; left != 0; left &= left - 1) {
                action(owner_.parts_[static_cast<std::size_t>(std::countr_zero(left))]);
            }
        }

        keyspace& owner_;
        std::uint64_t parts_ = 0;
    };

    // With the key's part locked:

    /// Null: there is none, or it has expired and is gone by now.
    const entry* find(const hashed_key& key)
    {
        part& home = part_of(key);
        const auto found = home.entries.find(key);
        if (found == home.entries.end()) {
            return nullptr;
        }
        if (found->second.expires != never && found->second.expires <= now()) {
            erase(home, found);
            return nullptr;
        }
        return &found->second;
    }

    void set(const hashed_key& key, std::string_view value, std::int64_t expires = never)
    {
        part& home = part_of(key);
        auto found = home.entries.find(key);
        if (found == home.entries.end()) {
            found = home.entries.try_emplace(std::string(key.text)).first;
            used_memory_ += cost(*found);
        }
        std::string& held = found->second.value;
        const std::size_t before = held.capacity();
        if (before / 2 > value.size() + 64) {
            held = std::string(value); // a large value's memory must not stay with a small one
        } else {
            held = value;
        }
        used_memory_ += held.capacity() - before; // may wrap, and comes out right
        schedule(home, *found, expires);
    }

    /// False: there is no such key.
    bool expire(const hashed_key& key, std::int64_t expires)
    {
        if (find(key) == nullptr) {
            return false;
        }
        schedule(part_of(key), *part_of(key).entries.find(key), expires);
        return true;
    }

    bool erase(const hashed_key& key)
    {
        const bool is_there = find(key) != nullptr;
        if (is_there) {
            erase(part_of(key), part_of(key).entries.find(key));
        }
        return is_there;
    }

    // Locked or not:

    /// There is no room for so many keys with so many bytes. Threads that ask at the same time may
    /// all be told that there is: the limit is exceeded by one command of each at most.
    bool lacks_room(std::size_t keys, std::size_t bytes) const noexcept
    {
        return used_memory_ + bytes + keys * entry_overhead > max_memory_;
    }

    /// Now, and at most.
    std::pair<std::size_t, std::size_t> memory() const noexcept
    {
        return {used_memory_, max_memory_};
    }

    // With nothing locked:

    /// Keys, and how many of them expire.
    std::pair<std::size_t, std::size_t> size()
    {
        std::pair<std::size_t, std::size_t> sum;
        for (part& each : parts_) {
            const std::lock_guard guard(each.mutex);
            sum.first += each.entries.size();
            sum.second += each.expiring.size();
        }
        return sum;
    }

    /// Erases what has expired and nobody asks for; not all at once, because others wait.
    void sweep()
    {
        for (part& each : parts_) {
            const std::lock_guard guard(each.mutex);
            const auto time = now();
            for (int left = 1000; left > 0 && !each.expiring.empty(); --left) {
                const auto [expires, key] = *each.expiring.begin();
                if (expires > time) {
                    break;
                }
                erase(each, each.entries.find(*key));
            }
        }
    }

private:
    using map = std::unordered_map<std::string, entry, text_hash, text_equal>;

    struct alignas(64) part // no two share a cache line
    {
        std::mutex mutex;
        map entries;
        std::set<std::pair<std::int64_t, const std::string*>> expiring; // soonest first
    };

    static constexpr std::size_t part_count = 64; // as many as a lock has bits
    static constexpr std::size_t entry_overhead = sizeof(map::value_type) + 8 * sizeof(void*);

    static std::size_t index_of(const hashed_key& key) noexcept
    {
        return static_cast<std::size_t>(key.hash >> 58U);
    }

    part& part_of(const hashed_key& key) noexcept
    {
        return parts_[index_of(key)];
    }

    static std::size_t cost(const map::value_type& one) noexcept
    {
        return entry_overhead + one.first.capacity() + one.second.value.capacity();
    }

    void schedule(part& home, map::value_type& one, std::int64_t expires)
    {
        auto& [key, held] = one;
        if (held.expires == expires) {
            return;
        }
        if (expires != never) {
            home.expiring.emplace(expires, &key);
            used_memory_ += entry_overhead;
        }
        unschedule(home, one);
        held.expires = expires;
    }

    void unschedule(part& home, const map::value_type& one)
    {
        if (one.second.expires != never) {
            home.expiring.erase({one.second.expires, &one.first});
            used_memory_ -= entry_overhead;
        }
    }

    void erase(part& home, map::iterator one)
    {
        unschedule(home, *one);
        used_memory_ -= cost(*one);
        home.entries.erase(one);
    }

    const std::size_t max_memory_;
    std::atomic<std::size_t> used_memory_ = 0;
    std::array<part, part_count> parts_;
};
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_KEYSPACE_HPP
