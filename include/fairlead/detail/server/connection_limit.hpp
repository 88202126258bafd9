// fairlead: how many connections may be open at once; the one thing that the shards of a server
// share. Touched when a connection comes and when it goes, never for a byte.

#ifndef FAIRLEAD_DETAIL_SERVER_CONNECTION_LIMIT_HPP
#define FAIRLEAD_DETAIL_SERVER_CONNECTION_LIMIT_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/evictions.hpp>
#include <fairlead/detail/server/shard_roster.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
class evictor;

/// A counted number of places. Any thread.
class connection_limit
{
public:
    /// 0: no limit.
    explicit connection_limit(std::size_t places) noexcept : places_(places)
    {}

    bool try_acquire() noexcept
    {
        if (places_ == 0) {
            return true;
        }
        std::size_t taken = taken_.load();
        while (taken < places_) {
            if (taken_.compare_exchange_weak(taken, taken + 1)) {
                return true;
            }
        }
        return false;
    }

    /// Gives a place back, and wakes everybody who waits for one.
    void release() noexcept
    {
        if (places_ == 0) {
            return;
        }
        taken_.fetch_sub(1);
        wake_all();
    }

    /// The place of one who was evicted.
    void release_evicted(evictions::period begun) noexcept
    {
        under_way.end(begun, [this] { taken_.fetch_sub(1); });
        wake_all();
    }

    /// `wake` is called once, from any thread, when a place may have become free; at once when one
    /// has. It must do no more than post.
    void notify_when_free(std::function<void()> wake)
    {
        {
            const std::lock_guard lock(mutex_);
            wakers_.push_back(std::move(wake));
            waiting_.store(wakers_.size());
        }
        // A place that was given back before `waiting_` was seen has woken nobody.
        if (taken_.load() < places_) {
            wake_all();
        }
    }

    /// Of the shards that share it.
    shard_roster<evictor> evictors;
    evictions under_way;

private:
    void wake_all() noexcept
    {
        if (waiting_.load() == 0) {
            return;
        }
        std::vector<std::function<void()>> woken;
        {
            const std::lock_guard lock(mutex_);
            woken.swap(wakers_);
            waiting_.store(0);
        }
        for (const auto& wake : woken) {
            wake();
        }
    }

    const std::size_t places_;
    std::atomic<std::size_t> taken_ = 0;
    std::atomic<std::size_t> waiting_ = 0;
    std::mutex mutex_;
    std::vector<std::function<void()>> wakers_;
};

/// One eviction, under way until this is destroyed. The limit must outlive it. Any thread, one at a
/// time.
class eviction
{
public:
    /// None.
    eviction() = default;

    eviction(connection_limit& limit, evictions::period begun) noexcept
        : limit_(&limit), begun_(begun)
    {}

    eviction(eviction&& other) noexcept
        : limit_(other.limit_), begun_(std::exchange(other.begun_, 0))
    {}

    eviction& operator=(eviction&&) = delete;

    ~eviction()
    {
        if (begun_ != 0) {
            limit_->under_way.end(begun_, [] {});
        }
    }

    explicit operator bool() const noexcept
    {
        return begun_ != 0;
    }

private:
    friend class connection_place;

    connection_limit* limit_ = nullptr;
    evictions::period begun_ = 0;
};

/// One place of a limit, given back when this is destroyed. The limit must outlive it. Any thread,
/// one at a time.
class connection_place
{
public:
    /// None.
    connection_place() = default;

    /// Empty when none is free.
    static connection_place take(connection_limit& limit) noexcept
    {
        return limit.try_acquire() ? connection_place(limit) : connection_place();
    }

    connection_place(connection_place&& other) noexcept
        : limit_(std::exchange(other.limit_, nullptr)), evicted_(std::exchange(other.evicted_, 0))
    {}

    connection_place& operator=(connection_place&& other) noexcept
    {
        give_back();
        limit_ = std::exchange(other.limit_, nullptr);
        evicted_ = std::exchange(other.evicted_, 0);
        return *this;
    }

    ~connection_place()
    {
        give_back();
    }

    explicit operator bool() const noexcept
    {
        return limit_ != nullptr;
    }

    void give_back() noexcept
    {
        auto* const limit = std::exchange(limit_, nullptr);
        const auto evicted = std::exchange(evicted_, 0);
        if (limit != nullptr && evicted != 0) {
            limit->release_evicted(evicted);
        } else if (limit != nullptr) {
            limit->release();
        }
    }

    /// Who has it is evicted: `cause` is over when it is given back.
    void is_to_be_free(eviction& cause) noexcept
    {
        if (limit_ != nullptr && evicted_ == 0) {
            evicted_ = std::exchange(cause.begun_, 0);
        }
    }

private:
    friend class waiting_client;

    explicit connection_place(connection_limit& limit) noexcept : limit_(&limit)
    {}

    connection_limit* limit_ = nullptr;
    evictions::period evicted_ = 0;
};

/// Somebody who waits for the place of one who is evicted. The limit must outlive it. Any thread,
/// one at a time.
class waiting_client
{
public:
    /// Nobody.
    waiting_client() = default;

    explicit waiting_client(connection_limit& limit) noexcept : limit_(&limit)
    {
        limit.under_way.arrived();
    }

    waiting_client(waiting_client&& other) noexcept : limit_(std::exchange(other.limit_, nullptr))
    {}

    waiting_client& operator=(waiting_client&& other) noexcept
    {
        leave();
        limit_ = std::exchange(other.limit_, nullptr);
        return *this;
    }

    ~waiting_client()
    {
        leave();
    }

    /// A place, if one is free. Otherwise the eviction that is to make one, unless as many are under
    /// way as clients wait. Not after it has got its place.
    std::pair<connection_place, eviction> seek(evictions::time_point now) noexcept
    {
        if (limit_ == nullptr) {
            return {};
        }
        evictions::period begun = 0;
        connection_limit& limit = *limit_;
        if (limit.under_way.take_or_begin(now, begun, [&] { return limit.try_acquire(); })) {
            limit_ = nullptr;
            return {connection_place(limit), eviction()};
        }
        return {connection_place(), eviction(limit, begun)};
    }

private:
    void leave() noexcept
    {
        if (auto* const limit = std::exchange(limit_, nullptr)) {
            limit->under_way.left();
        }
    }

    connection_limit* limit_ = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_CONNECTION_LIMIT_HPP
