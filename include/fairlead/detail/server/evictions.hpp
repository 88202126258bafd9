// fairlead: the account of evictions: clients who wait for somebody else's place, and the evictions
// that are to give them one. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_EVICTIONS_HPP
#define FAIRLEAD_DETAIL_SERVER_EVICTIONS_HPP

#include <fairlead/detail/namespace.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Keeps the evictions that are under way from being more than the clients who wait, on all shards
/// together. A victim whose handler does not return holds nobody up: after `patience`, or twice
/// that, its eviction does not count any more. Any thread.
class evictions
{
public:
    using time_point = std::chrono::steady_clock::time_point;

    static constexpr std::chrono::milliseconds patience{250};

    /// When an eviction began; 0: there is none.
    using period = std::uint32_t;

    void arrived() noexcept
    {
        const std::lock_guard lock(mutex_);
        ++waiting_;
    }

    void left() noexcept
    {
        const std::lock_guard lock(mutex_);
        --waiting_;
    }

    /// For one who waits. True: `take()` had a place for him, and he waits no more. Otherwise
    /// `begun` says whether another eviction is to begin; `end` must follow.
    template <typename Take>
    bool take_or_begin(time_point now, period& begun, Take&& take) noexcept
    {
        const std::lock_guard lock(mutex_);
        begun = 0;
        if (take()) {
            --waiting_;
            return true;
        }
        advance(now);
        if (under_way_ + late_ < waiting_) {
            ++under_way_;
            begun = now_;
        }
        return false;
    }

    /// One that began in `begun` is over. `give_back()` gives the place back, if it has brought one:
    /// nobody sees the one without the other.
    template <typename GiveBack>
    void end(period begun, GiveBack&& give_back) noexcept
    {
        const std::lock_guard lock(mutex_);
        give_back();
        if (begun == now_) {
            --under_way_;
        } else if (begun + 1 == now_) {
            --late_;
        }
    }

private:
    void advance(time_point now) noexcept
    {
        const auto next = static_cast<period>(now.time_since_epoch() / patience) | first_bit;
        const period passed = (next - now_) & ~first_bit;
        const bool is_late = passed > ~first_bit / 2; // who asks was told the time before others
        if (now_ != 0 && (passed == 0 || is_late)) {
            return;
        }
        late_ = next == now_ + 1 ? under_way_ : 0;
        under_way_ = 0;
        now_ = next;
    }

    static constexpr period first_bit = period(1) << 31; // no period is 0

    std::mutex mutex_;
    std::size_t waiting_ = 0;
    std::size_t under_way_ = 0; // begun in this period
    std::size_t late_ = 0;      // begun in the one before
    period now_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_EVICTIONS_HPP
