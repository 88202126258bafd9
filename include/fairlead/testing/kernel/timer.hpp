// fairlead: timerfd_create(2) and eventfd(2) in virtual time.

#ifndef FAIRLEAD_TESTING_KERNEL_TIMER_HPP
#define FAIRLEAD_TESTING_KERNEL_TIMER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/file.hpp>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <sys/timerfd.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
inline instant instant_of(const timespec& time) noexcept
{
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

inline timespec timespec_of(instant time) noexcept
{
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    return {
        .tv_sec = static_cast<time_t>(seconds.count()),
        .tv_nsec = static_cast<long>((time - seconds).count())};
}

/// A count of eight bytes is read from it, whole.
class counting_file : public file
{
public:
    std::size_t unread() const noexcept override
    {
        return count_ == 0 ? 0 : sizeof count_;
    }

protected:
    answer give(std::span<const iovec> into, std::uint64_t given)
    {
        if (into.empty() || into.front().iov_len < sizeof given) {
            return -EINVAL;
        }
        if (count_ == 0) {
            return -EAGAIN;
        }
        std::memcpy(into.front().iov_base, &given, sizeof given);
        count_ -= given;
        return sizeof given;
    }

    std::uint64_t count_ = 0;
};

class timer final : public counting_file
{
public:
    /// `origin`: what the timer's clock shows when the simulation begins.
    timer(agenda& when, instant origin) noexcept : agenda_(when), origin_(origin)
    {}

    std::string name() const override
    {
        return is_armed() ? "timer for " + std::to_string(due_.count()) + " ns" : "timer, off";
    }

    std::uint32_t poll() override
    {
        return count_ > 0 ? static_cast<std::uint32_t>(EPOLLIN | EPOLLRDNORM) : 0U;
    }

    answer read(std::span<const iovec> into, int /* flags */) override
    {
        return give(into, count_);
    }

    answer set(int how, const itimerspec& value)
    {
        const auto valid = [](const timespec& time) {
            return time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < 1'000'000'000;
        };
        if (!valid(value.it_value) || !valid(value.it_interval)) {
            return -EINVAL;
        }
        const instant wanted = instant_of(value.it_value);
        interval_ = instant_of(value.it_interval);
        count_ = 0;
        ++setting_;
        due_ = off;
        if (wanted > instant(0)) {
            const bool is_absolute = (how & TFD_TIMER_ABSTIME) != 0;
            due_ = is_absolute ? wanted - origin_ : agenda_.now() + wanted;
            expect();
        }
        return 0;
    }

    itimerspec get() const noexcept
    {
        itimerspec told = {};
        told.it_interval = timespec_of(interval_);
        if (is_armed()) {
            told.it_value = timespec_of(std::max(due_ - agenda_.now(), instant(1)));
        }
        return told;
    }

    void release() override
    {
        ++setting_;
    }

private:
    static constexpr instant off = instant::min();

    bool is_armed() const noexcept
    {
        return due_ != off;
    }

    void expect()
    {
        agenda_.at(due_, [self = weak_from_this(), setting = setting_] {
            if (const auto alive = std::static_pointer_cast<timer>(self.lock());
                alive && alive->setting_ == setting) {
                alive->expire();
            }
        });
    }

    void expire()
    {
        ++count_;
        if (interval_ > instant(0)) {
            const auto missed = (agenda_.now() - due_) / interval_;
            count_ += static_cast<std::uint64_t>(missed);
            due_ += interval_ * (missed + 1);
            expect();
        } else {
            due_ = off;
        }
        wake(EPOLLIN | EPOLLRDNORM);
    }

    agenda& agenda_;
    instant origin_;
    instant due_ = off;
    instant interval_ = instant(0);
    unsigned setting_ = 0; // which arming an event of the agenda belongs to
};

class event_counter final : public counting_file
{
public:
    event_counter(std::uint64_t first, bool is_semaphore) noexcept : is_semaphore_(is_semaphore)
    {
        count_ = first;
    }

    std::string name() const override
    {
        return "eventfd";
    }

    std::uint32_t poll() override
    {
        return (count_ > 0 ? static_cast<std::uint32_t>(EPOLLIN) : 0U) |
               (count_ < full ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
    }

    answer read(std::span<const iovec> into, int /* flags */) override
    {
        const answer given = give(into, is_semaphore_ ? 1 : count_);
        if (given > 0) {
            wake(EPOLLOUT);
        }
        return given;
    }

    answer write(std::span<const iovec> from, int /* flags */) override
    {
        std::uint64_t added = 0;
        if (from.empty() || from.front().iov_len < sizeof added) {
            return -EINVAL;
        }
        std::memcpy(&added, from.front().iov_base, sizeof added);
        if (added > full) {
            return -EINVAL;
        }
        if (count_ > full - added) {
            return -EAGAIN;
        }
        count_ += added;
        wake(EPOLLIN);
        return sizeof added;
    }

private:
    static constexpr std::uint64_t full = std::numeric_limits<std::uint64_t>::max() - 1;

    bool is_semaphore_;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_TIMER_HPP
