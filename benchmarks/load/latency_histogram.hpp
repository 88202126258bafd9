// Latencies in logarithmic buckets: fixed memory, constant cost, and at most 3 % error at any
// magnitude.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_LATENCY_HISTOGRAM_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_LATENCY_HISTOGRAM_HPP

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench
{
/// Counts durations in nanoseconds, up to 18 minutes; longer ones count as that.
class latency_histogram
{
public:
    void record(std::uint64_t nanoseconds) noexcept
    {
        const auto value = std::min(nanoseconds, longest);
        ++counts_[bucket_of(value)];
        ++total_;
        max_ = std::max(max_, value);
    }

    void clear() noexcept
    {
        counts_.fill(0);
        total_ = 0;
        max_ = 0;
    }

    std::uint64_t total() const noexcept
    {
        return total_;
    }

    std::uint64_t max() const noexcept
    {
        return max_;
    }

    /// The duration that `fraction` of all (0.99) did not exceed; 0 when nothing was recorded.
    std::uint64_t percentile(double fraction) const noexcept
    {
        const auto wanted = static_cast<std::uint64_t>(fraction * static_cast<double>(total_));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen > wanted || (seen == total_ && total_ != 0))
                return std::min(upper_bound_of(i), max_);
        }
        return 0;
    }

private:
    // Below 64 each value has its bucket; above, each power of two is cut into 32.
    static constexpr int precise_bits = 6;
    static constexpr std::size_t per_power = 32;
    static constexpr int longest_bits = 40;
    static constexpr std::uint64_t longest = (std::uint64_t{1} << longest_bits) - 1;
    static constexpr std::size_t buckets = (longest_bits - precise_bits + 2) * per_power;

    static constexpr std::size_t bucket_of(std::uint64_t value) noexcept
    {
        const int shift = std::max(0, static_cast<int>(std::bit_width(value)) - precise_bits);
        return static_cast<std::size_t>(shift) * per_power +
               static_cast<std::size_t>(value >> shift);
    }

    static constexpr std::uint64_t upper_bound_of(std::size_t bucket) noexcept
    {
        if (bucket < 2 * per_power)
            return bucket;
        const auto shift = bucket / per_power - 1;
        const auto mantissa = bucket - shift * per_power;
        return ((static_cast<std::uint64_t>(mantissa) + 1) << shift) - 1;
    }

    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t max_ = 0;
};
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_LATENCY_HISTOGRAM_HPP
