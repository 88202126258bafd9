// fairlead: how long to wait before something that fails is tried again. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_RETRY_PAUSE_HPP
#define FAIRLEAD_DETAIL_SERVER_RETRY_PAUSE_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <chrono>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Grows from failure to failure, and begins anew after a success.
class retry_pause
{
public:
    static constexpr std::chrono::milliseconds shortest{5};
    static constexpr std::chrono::milliseconds longest{1000};

    /// It has failed since it last worked.
    bool is_on() const noexcept
    {
        return time_.count() != 0;
    }

    bool is_longest() const noexcept
    {
        return time_ == longest;
    }

    /// It has failed: the time until the next attempt.
    std::chrono::milliseconds grow() noexcept
    {
        time_ = std::clamp(time_ * 2, shortest, longest);
        return time_;
    }

    /// It works.
    void end() noexcept
    {
        time_ = {};
    }

private:
    std::chrono::milliseconds time_{0};
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_RETRY_PAUSE_HPP
