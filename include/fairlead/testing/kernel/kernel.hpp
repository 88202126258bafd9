// fairlead: a kernel in the test program: descriptors, their system calls, and time, which passes
// when nothing else can happen. system_calls.hpp leads the program's calls here.

#ifndef FAIRLEAD_TESTING_KERNEL_KERNEL_HPP
#define FAIRLEAD_TESTING_KERNEL_KERNEL_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/allocation_fault.hpp>
#include <fairlead/testing/kernel/calls.hpp>
#include <fairlead/testing/kernel/descriptors.hpp>
#include <fairlead/testing/kernel/epoll.hpp>
#include <fairlead/testing/kernel/faults.hpp>
#include <fairlead/testing/kernel/file.hpp>
#include <fairlead/testing/kernel/network.hpp>
#include <fairlead/testing/kernel/trace.hpp>
#include <fairlead/testing/random.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing
{
/// A simulation that cannot go on: nothing is ever going to happen, or it goes round in a circle.
/// What it says is for people, several lines.
class simulation_failure : public std::runtime_error
{
public:
    using std::runtime_error::runtime_error;
};
} // namespace FAIRLEAD_NAMESPACE::testing

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// How much a kernel disturbs who runs on it. Each a probability from 0 to 1.
struct wake_up_options
{
    /// A wait sees its events in another order.
    double reorder = 0;
    /// A wait sees an event that does not hold.
    double spurious = 0;
};

/// One thread, which is the thread that made it. While it lives, calls of that thread come here
/// (system_calls.hpp).
class kernel
{
public:
    explicit kernel(std::uint64_t seed)
        : random_(seed),
          when(random_.fork()),
          net(when, random_.fork()),
          errors(random_.fork()),
          wake_up_random_(random_.fork()),
          entropy_(random_.fork()),
          before_(of_this_thread)
    {
        of_this_thread = this;
    }

    kernel(const kernel&) = delete;
    kernel& operator=(const kernel&) = delete;

    ~kernel()
    {
        when.clear();
        of_this_thread = before_;
    }

    /// That of this thread; null: there is no simulation.
    static kernel* current() noexcept
    {
        return of_this_thread;
    }

    // -- a call

    /// Runs a system call: what has arrived by now comes in first; then it fails, if it is to and can
    /// at all; and is recorded.
    template <typename Body>
    answer run(call which, int descriptor, long argument, Body body, bool can_fail = true)
    {
        const allocations_count not_these(false);
        settle();
        check_for_a_circle(which, descriptor);
        answer result = 0;
        const bool may_fail = can_fail && errors_apply();
        if (const int error = may_fail ? errors.strike(which, descriptor, when.now()) : 0) {
            result = -error;
            if (error == EAGAIN) {
                wake_later(descriptor);
            }
        } else {
            result = body();
        }
        record.add(when.now(), which, descriptor, argument, result);
        return result;
    }

    /// As `run`; `body` is tried again while it answers EAGAIN, unless the file, or the call, is
    /// not to wait.
    template <typename Body>
    answer run_blocking(call which, int descriptor, long argument, bool may_wait, Body body)
    {
        for (;;) {
            const answer result = run(which, descriptor, argument, body);
            if (result != -EAGAIN || !may_wait) {
                return result;
            }
            pass(std::nullopt);
        }
    }

    // -- time

    /// Everything that is due comes in.
    void settle()
    {
        while (when.run_due()) {
        }
    }

    /// Time passes to the next event, or to `limit`. Throws `simulation_failure` when there is
    /// neither.
    void pass(std::optional<instant> limit)
    {
        const allocations_count not_these(false);
        if (others_run_ && others_run_()) {
            return;
        }
        const auto next = when.next();
        if (!next && !limit) {
            throw simulation_failure("nothing can ever happen. Open are:\n" + describe());
        }
        const instant then = !next ? *limit : limit ? std::min(*next, *limit) : *next;
        if (then > when.now()) {
            calls_without_time_ = 0;
            when.advance_to(then);
        }
        settle();
    }

    /// The clocks jump; what was due meanwhile comes late.
    void jump(instant by)
    {
        when.advance_to(when.now() + by);
    }

    /// What else may run while the calling thread waits; says whether something did.
    void set_others(std::function<bool()> run)
    {
        others_run_ = std::move(run);
    }

    // -- whose calls these are

    /// Of the program under test, or of the peers that the test plays: their calls do not fail, and
    /// their descriptors do not count.
    class as_peer
    {
    public:
        explicit as_peer(kernel& of) noexcept : kernel_(of), before_(of.is_peer_)
        {
            of.is_peer_ = true;
        }

        as_peer(const as_peer&) = delete;
        as_peer& operator=(const as_peer&) = delete;

        ~as_peer()
        {
            kernel_.is_peer_ = before_;
        }

    private:
        kernel& kernel_;
        bool before_;
    };

    bool is_peer() const noexcept
    {
        return is_peer_;
    }

    answer open_descriptor(const file_ptr& opened, bool closes_on_exec)
    {
        return table.open(opened, closes_on_exec, is_peer_);
    }

    // -- for the simulation

    epoll::disturbances disturbances() noexcept
    {
        const bool may = errors_apply();
        return {&wake_up_random_, may ? wake_ups.reorder : 0, may ? wake_ups.spurious : 0};
    }

    random_source& entropy() noexcept
    {
        return entropy_;
    }

    /// What is open, and what each epoll waits for.
    std::string describe() const
    {
        std::string all;
        table.for_each([&](int fd, const file& one) {
            all += "  descriptor " + std::to_string(fd) + ": " + one.name() + "\n";
            if (const auto* const waits = dynamic_cast<const epoll*>(&one)) {
                all += waits->wishes();
            }
        });
        return all.empty() ? "  no descriptor\n" : all;
    }

    /// Calls since time has last passed, before the simulation is said to go round in a circle.
    std::uint64_t most_calls_without_time = 2'000'000;
    wake_up_options wake_ups;
    /// What the clocks show when the simulation begins.
    std::chrono::seconds wall_clock_start{1'767'225'600}; // 2026-01-01 00:00:00 UTC
    std::chrono::seconds monotonic_start{1000};
    /// Names that getaddrinfo(3) knows, and their addresses.
    std::map<std::string, std::vector<std::string>> names = {{"localhost", {"127.0.0.1", "::1"}}};

private:
    random_source random_;

public:
    // In the order in which they are made: files refer to the agenda, and are closed before it.
    agenda when;
    network net;
    faults errors;
    trace record;
    descriptor_table table;
    /// A thread was started while this was here.
    bool has_refused_thread = false;

private:
    bool errors_apply() const noexcept
    {
        return !is_peer_;
    }

    /// Thrown where a program waits, because the other functions of the C library throw nothing.
    void check_for_a_circle(call which, int descriptor)
    {
        if (++calls_without_time_ <= most_calls_without_time) {
            return;
        }
        const std::string told = "a circle: " + std::to_string(calls_without_time_) +
                                 " system calls and no time has passed; now " +
                                 std::string(to_string(which)) + " on descriptor " +
                                 std::to_string(descriptor) + ". The last calls:\n" +
                                 record.last(20);
        if (which == call::epoll_wait || which == call::poll) {
            calls_without_time_ = 0;
            throw simulation_failure(told);
        }
        if (calls_without_time_ > 2 * most_calls_without_time) {
            std::fputs(told.c_str(), stderr);
            std::abort();
        }
    }

    /// A kernel says EAGAIN only when it is going to wake who waits. So does a fault.
    void wake_later(int descriptor)
    {
        if (const file_ptr one = table.find(descriptor)) {
            const instant soon =
                wake_up_random_.between(instant(0), instant(std::chrono::milliseconds(1)));
            when.after(soon, [weak = std::weak_ptr(one)] {
                if (const auto alive = weak.lock()) {
                    alive->wake(0);
                }
            });
        }
    }

    random_source wake_up_random_;
    random_source entropy_;
    kernel* before_;
    std::function<bool()> others_run_;
    std::uint64_t calls_without_time_ = 0;
    bool is_peer_ = false;

    static inline thread_local kernel* of_this_thread = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_KERNEL_HPP
