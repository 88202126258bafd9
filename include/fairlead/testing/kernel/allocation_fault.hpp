// fairlead: which allocation of a simulated program fails. allocations.hpp asks.

#ifndef FAIRLEAD_TESTING_KERNEL_ALLOCATION_FAULT_HPP
#define FAIRLEAD_TESTING_KERNEL_ALLOCATION_FAULT_HPP

#include <fairlead/detail/namespace.hpp>

#include <cstdint>
#include <limits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// Of one thread: counts what the servers' side of a simulation asks `operator new` for.
struct allocation_fault
{
    static constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();

    /// True: this one fails.
    bool strikes() noexcept
    {
        if (!is_counting) {
            return false;
        }
        ++count;
        return count >= first && count - first < times;
    }

    static allocation_fault& of_this_thread() noexcept
    {
        static thread_local constinit allocation_fault one;
        return one;
    }

    std::uint64_t count = 0;
    std::uint64_t first = never;
    std::uint64_t times = 1;
    bool is_counting = false;
};

/// While it lives, allocations count, or do not: the simulated kernel's own never fail.
class allocations_count
{
public:
    explicit allocations_count(bool counting) noexcept
        : before_(std::exchange(allocation_fault::of_this_thread().is_counting, counting))
    {}

    allocations_count(const allocations_count&) = delete;
    allocations_count& operator=(const allocations_count&) = delete;

    ~allocations_count()
    {
        allocation_fault::of_this_thread().is_counting = before_;
    }

private:
    bool before_;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_ALLOCATION_FAULT_HPP
