// What a workload decides: drawn from a seed, or read from a fuzzer's bytes.

#ifndef FAIRLEAD_TESTS_SIMULATION_CHOICES_HPP
#define FAIRLEAD_TESTS_SIMULATION_CHOICES_HPP

#include <fairlead/testing/random.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace workload
{
class choices
{
public:
    explicit choices(std::uint64_t seed) noexcept : random_(seed)
    {}

    /// When the bytes are used up, everything is 0: the least that can happen.
    explicit choices(std::span<const std::uint8_t> bytes) noexcept
        : random_(0), bytes_(bytes), is_read_(true)
    {}

    std::uint64_t below(std::uint64_t limit) noexcept
    {
        if (!is_read_) {
            return random_.below(limit);
        }
        std::uint64_t number = 0;
        for (std::uint64_t left = limit > 0 ? limit - 1 : 0; left > 0; left >>= 8U) {
            number = number << 8U | byte();
        }
        return limit == 0 ? 0 : number % limit;
    }

    std::uint64_t between(std::uint64_t least, std::uint64_t most) noexcept
    {
        return least + below(most - least + 1);
    }

    std::chrono::milliseconds between(
        std::chrono::milliseconds least, std::chrono::milliseconds most) noexcept
    {
        return least + std::chrono::milliseconds(
                           below(static_cast<std::uint64_t>((most - least).count()) + 1));
    }

    /// In a hundred.
    bool chance(unsigned percent) noexcept
    {
        return below(100) >= 100 - percent;
    }

    template <typename Sequence>
    auto& pick(Sequence& from) noexcept
    {
        return from[static_cast<std::size_t>(below(from.size()))];
    }

private:
    std::uint64_t byte() noexcept
    {
        if (bytes_.empty()) {
            return 0;
        }
        const std::uint64_t first = bytes_.front();
        bytes_ = bytes_.subspan(1);
        return first;
    }

    fairlead::testing::random_source random_;
    std::span<const std::uint8_t> bytes_;
    bool is_read_ = false;
};
} // namespace workload

#endif // FAIRLEAD_TESTS_SIMULATION_CHOICES_HPP
