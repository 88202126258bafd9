// fairlead: coroutines that wait for something other than I/O, in the order in which they came.
// One thread; the coroutines may live on other executors and are resumed there.

#ifndef FAIRLEAD_DETAIL_WAIT_QUEUE_HPP
#define FAIRLEAD_DETAIL_WAIT_QUEUE_HPP

#include <fairlead/detail/asio.hpp>

#include <asio/async_result.hpp>
#include <asio/executor_work_guard.hpp>

#include <cstddef>
#include <deque>
#include <memory>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
/// A queue of completion handlers `void(Args...)`. Those that are still in it when it dies are
/// destroyed, and with them the coroutines that wait.
template <typename... Args>
class wait_queue
{
public:
    bool empty() const noexcept
    {
        return waiters_.empty();
    }

    std::size_t size() const noexcept
    {
        return waiters_.size();
    }

    /// Somebody who waits.
    struct waiter
    {
        virtual ~waiter() = default;
        virtual void complete(Args... args) = 0;
    };

    /// Puts a completion handler into a waiter, which keeps the handler's context running. It
    /// completes by a post to the handler's own executor, or to `fallback` when it has none. Any
    /// thread.
    template <typename Executor, typename Handler>
    static std::unique_ptr<waiter> make_waiter(const Executor& fallback, Handler&& handler)
    {
        return std::make_unique<waiter_of<Executor, std::decay_t<Handler>>>(
            fallback, std::forward<Handler>(handler));
    }

    void push(std::unique_ptr<waiter> last)
    {
        waiters_.push_back(std::move(last));
    }

    template <typename Executor, typename Handler>
    void push(const Executor& fallback, Handler&& handler)
    {
        push(make_waiter(fallback, std::forward<Handler>(handler)));
    }

    /// Wakes the one that came first; the queue is not empty.
    void notify_one(Args... args)
    {
        const auto first = std::move(waiters_.front());
        waiters_.pop_front();
        first->complete(std::move(args)...);
    }

    void notify_all(const Args&... args)
    {
        std::deque<std::unique_ptr<waiter>> woken;
        woken.swap(waiters_);
        for (const auto& each : woken) {
            each->complete(args...);
        }
    }

private:
    template <typename Executor, typename Handler>
    struct waiter_of final : waiter
    {
        using work = asio::executor_work_guard<asio::associated_executor_t<Handler, Executor>>;

        waiter_of(const Executor& fallback, Handler completion)
            : executor(asio::get_associated_executor(completion, fallback)),
              handler(std::move(completion))
        {}

        void complete(Args... args) override
        {
            post_completion(executor.get_executor(), std::move(handler), std::move(args)...);
        }

        work executor; // keeps the waiter's context running meanwhile
        Handler handler;
    };

    std::deque<std::unique_ptr<waiter>> waiters_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_WAIT_QUEUE_HPP
