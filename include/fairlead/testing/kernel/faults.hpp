// fairlead: which system calls of a simulation fail, with which errno, and when.

#ifndef FAIRLEAD_TESTING_KERNEL_FAULTS_HPP
#define FAIRLEAD_TESTING_KERNEL_FAULTS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/calls.hpp>
#include <fairlead/testing/random.hpp>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing
{
/// Which of the calls that a fault names fail. All conditions must hold.
struct fault_when
{
    /// The first to fail, counted from 1 and from the moment at which the fault was set.
    std::uint64_t nth = 1;
    /// How many fail; 0: all that follow.
    std::uint64_t times = 1;
    /// Of each of them, from 0 to 1.
    double probability = 1;
    /// Only calls on this descriptor; -1: on any.
    int descriptor = -1;
    /// Virtual time, from the beginning of the simulation.
    std::chrono::nanoseconds from = std::chrono::nanoseconds(0);
    std::chrono::nanoseconds until = std::chrono::nanoseconds::max();
};
} // namespace FAIRLEAD_NAMESPACE::testing

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class faults
{
public:
    /// What has failed by a fault: call and errno.
    using coverage = std::map<std::pair<call, int>, std::uint64_t>;

    explicit faults(random_source random) noexcept : random_(random)
    {}

    void add(std::string_view calls, int error, const fault_when& when)
    {
        rules_.push_back({calls_named(calls), error, when});
    }

    void clear() noexcept
    {
        rules_.clear();
    }

    /// The errno with which this call fails; 0: it does not.
    int strike(call which, int descriptor, instant now)
    {
        for (rule& one : rules_) {
            if (!one.calls.test(static_cast<std::size_t>(which)) ||
                (one.when.descriptor >= 0 && one.when.descriptor != descriptor) ||
                now < one.when.from || now > one.when.until) {
                continue;
            }
            ++one.seen;
            const bool is_its_turn =
                one.seen >= one.when.nth && (one.when.times == 0 || one.struck < one.when.times);
            if (is_its_turn &&
                (one.when.probability >= 1 || random_.chance(one.when.probability))) {
                ++one.struck;
                ++reached_[{which, one.error}];
                return one.error;
            }
        }
        return 0;
    }

    const coverage& reached() const noexcept
    {
        return reached_;
    }

private:
    struct rule
    {
        call_set calls;
        int error;
        fault_when when;
        std::uint64_t seen = 0;
        std::uint64_t struck = 0;
    };

    random_source random_;
    std::vector<rule> rules_;
    coverage reached_;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_FAULTS_HPP
