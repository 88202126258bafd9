// fairlead: what has been called in a simulation: a hash of all of it, which two runs of one seed
// must share, and the last calls in words.

#ifndef FAIRLEAD_TESTING_KERNEL_TRACE_HPP
#define FAIRLEAD_TESTING_KERNEL_TRACE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/calls.hpp>
#include <fairlead/testing/kernel/file.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class trace
{
public:
    void add(instant when, call which, int descriptor, long argument, answer result) noexcept
    {
        for (const std::uint64_t word :
             {static_cast<std::uint64_t>(when.count()), static_cast<std::uint64_t>(which),
              static_cast<std::uint64_t>(descriptor), static_cast<std::uint64_t>(argument),
              static_cast<std::uint64_t>(result)}) {
            hash_ = (hash_ ^ word) * 0x9e3779b97f4a7c15U;
            hash_ ^= hash_ >> 29;
        }
        if (which == call::epoll_wait && result == 0) {
            ++looks_;
        }
        last_[count_++ % last_.size()] = {when, which, descriptor, argument, result};
    }

    std::uint64_t hash() const noexcept
    {
        return hash_;
    }

    std::uint64_t count() const noexcept
    {
        return count_;
    }

    /// But those that found nothing to do: a simulation makes them, to see.
    std::uint64_t count_of_work() const noexcept
    {
        return count_ - looks_;
    }

    /// A line each, the newest last; `descriptor` -1: of all.
    std::string last(std::size_t most, int descriptor = -1) const
    {
        std::string lines;
        std::size_t found = 0;
        const std::uint64_t kept = std::min<std::uint64_t>(count_, last_.size());
        for (std::uint64_t back = 1; back <= kept && found < most; ++back) {
            const record& one = last_[(count_ - back) % last_.size()];
            if (descriptor < 0 || one.descriptor == descriptor) {
                lines.insert(0, text(one));
                ++found;
            }
        }
        return lines;
    }

private:
    struct record
    {
        instant when;
        call which;
        int descriptor;
        long argument;
        answer result;
    };

    static std::string text(const record& one)
    {
        std::array<char, 160> line = {};
        const std::string name(to_string(one.which));
        std::snprintf(
            line.data(), line.size(), "%16.9f s  %s(%d, %ld) = %ld%s%s\n",
            static_cast<double>(one.when.count()) / 1e9, name.c_str(), one.descriptor, one.argument,
            one.result, one.result < 0 ? " " : "",
            one.result < 0 ? std::strerror(static_cast<int>(-one.result)) : "");
        return line.data();
    }

    std::array<record, 512> last_ = {};
    std::uint64_t count_ = 0;
    std::uint64_t looks_ = 0; // at an epoll where nothing is ready
    std::uint64_t hash_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_TRACE_HPP
