// fairlead: the one source of chance in a simulation. What it draws depends on its seed alone, on
// every platform: no distribution of the standard library, whose results differ between libraries.

#ifndef FAIRLEAD_TESTING_RANDOM_HPP
#define FAIRLEAD_TESTING_RANDOM_HPP

#include <fairlead/detail/namespace.hpp>

#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing
{
/// Draws numbers. One thread.
///
/// Source: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
class random_source
{
public:
    explicit constexpr random_source(std::uint64_t seed) noexcept : state_(seed)
    {}

    constexpr std::uint64_t next() noexcept
    {
        state_ += 0x9e3779b97f4a7c15U;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }

    /// From 0 to `limit - 1`; 0 when `limit` is 0.
    constexpr std::uint64_t below(std::uint64_t limit) noexcept
    {
        return limit == 0 ? 0 : next() % limit;
    }

    /// Both ends included.
    constexpr std::int64_t between(std::int64_t least, std::int64_t most) noexcept
    {
        assert(least <= most);
        const auto span = static_cast<std::uint64_t>(most) - static_cast<std::uint64_t>(least) + 1;
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(least) + below(span));
    }

    template <typename Rep, typename Period>
    constexpr std::chrono::duration<Rep, Period> between(
        std::chrono::duration<Rep, Period> least, std::chrono::duration<Rep, Period> most) noexcept
    {
        return std::chrono::duration<Rep, Period>(
            static_cast<Rep>(between(std::int64_t(least.count()), std::int64_t(most.count()))));
    }

    /// True with this probability: 0 never, 1 always.
    constexpr bool chance(double probability) noexcept
    {
        if (probability <= 0) {
            return false; // and nothing is drawn
        }
        constexpr double scale = 1.0 / 9007199254740992.0; // 2^53
        return static_cast<double>(next() >> 11) * scale < probability;
    }

    template <typename Sequence>
    constexpr auto& pick(Sequence& from) noexcept
    {
        return from[static_cast<std::size_t>(below(from.size()))];
    }

    template <typename Sequence>
    constexpr void shuffle(Sequence& all) noexcept
    {
        for (std::size_t left = all.size(); left > 1; --left) {
            using std::swap;
            swap(all[left - 1], all[static_cast<std::size_t>(below(left))]);
        }
    }

    /// Another source, for a part whose draws must not disturb those of the others.
    constexpr random_source fork() noexcept
    {
        return random_source(next());
    }

private:
    std::uint64_t state_;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_RANDOM_HPP
