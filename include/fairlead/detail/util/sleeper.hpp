// fairlead: a coroutine that sleeps until somebody wakes it.

#ifndef FAIRLEAD_DETAIL_UTIL_SLEEPER_HPP
#define FAIRLEAD_DETAIL_UTIL_SLEEPER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The sleep is an operation of the context, which destroys it, and the coroutine with it, when it
/// is destroyed itself: nobody has to be woken for that, and nothing is left behind.
///
/// A wake without a sleep is lost: the sleeper asks for what it waits for in a loop. One thread.
class sleeper
{
public:
    explicit sleeper(const asio::io_context::executor_type& executor)
        : timer_(executor, asio::steady_timer::time_point::max())
    {}

    asio::awaitable<void> sleep()
    {
        [[maybe_unused]] const auto [woken] = co_await timer_.async_wait(token);
    }

    /// The sleeper goes on later, not inside this call.
    void wake() noexcept
    {
        timer_.cancel();
    }

private:
    asio::steady_timer timer_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_SLEEPER_HPP
