// fairlead: coroutines that wait for something other than I/O, in the order in which they came.
// One thread; the coroutines may live on other executors and are resumed there.

#ifndef FAIRLEAD_DETAIL_UTIL_WAIT_QUEUE_HPP
#define FAIRLEAD_DETAIL_UTIL_WAIT_QUEUE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/async_result.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A queue of completion handlers `void(Args...)`. Those that are still in it when it dies are
/// destroyed, and with them the coroutines that wait.
///
/// Memory is asked for when somebody begins to wait, and not to wake him: only the executor of
/// another context may want some for its queue, and that it has none ends the process.
template <typename... Args>
class wait_queue
{
public:
    wait_queue() = default;
    wait_queue(const wait_queue&) = delete;
    wait_queue& operator=(const wait_queue&) = delete;

    ~wait_queue()
    {
        while (!empty()) {
            const auto dropped = take_first();
        }
    }

    bool empty() const noexcept
    {
        return first_ == nullptr;
    }

    std::size_t size() const noexcept
    {
        return size_;
    }

    /// Somebody who waits.
    class waiter
    {
    public:
        waiter() = default;
        waiter(const waiter&) = delete;
        waiter& operator=(const waiter&) = delete;
        virtual ~waiter() = default;

    private:
        friend wait_queue;

        virtual void wake(std::unique_ptr<waiter> self, Args... args) noexcept = 0;

        waiter* next_ = nullptr;
    };

    /// Puts a completion handler into a waiter, which keeps the handler's context running. Any
    /// thread.
    template <typename Executor, typename Handler>
    static std::unique_ptr<waiter> make_waiter(const Executor& fallback, Handler&& handler)
    {
        return std::make_unique<waiter_of<Executor, std::decay_t<Handler>>>(
            fallback, std::forward<Handler>(handler));
    }

    /// By a post to the handler's own executor, or to the fallback when it has none. Any thread.
    static void complete(std::unique_ptr<waiter> one, Args... args) noexcept
    {
        waiter& woken = *one;
        woken.wake(std::move(one), std::move(args)...);
    }

    void push(std::unique_ptr<waiter> last) noexcept
    {
        waiter* const added = last.release();
        (empty() ? first_ : last_->next_) = added;
        last_ = added;
        ++size_;
    }

    template <typename Executor, typename Handler>
    void push(const Executor& fallback, Handler&& handler)
    {
        push(make_waiter(fallback, std::forward<Handler>(handler)));
    }

    /// The one that came first, out of the queue, which is not empty.
    std::unique_ptr<waiter> take_first() noexcept
    {
        std::unique_ptr<waiter> taken(first_);
        first_ = std::exchange(taken->next_, nullptr);
        --size_;
        return taken;
    }

    /// Wakes the one that came first; the queue is not empty.
    void notify_one(Args... args) noexcept
    {
        complete(take_first(), std::move(args)...);
    }

    /// Nothing is called here: what completes is posted, and so cannot wait again meanwhile.
    void notify_all(const Args&... args) noexcept
    {
        while (!empty()) {
            notify_one(args...);
        }
    }

private:
    template <typename Executor, typename Handler>
    struct waiter_of final : waiter
    {
        using work = outstanding_work<asio::associated_executor_t<Handler, Executor>>;

        waiter_of(const Executor& fallback, Handler completion)
            : executor(asio::get_associated_executor(completion, fallback)),
              handler(std::move(completion)),
              home(fallback)
        {}

        void wake(std::unique_ptr<waiter> self, Args... args) noexcept override
        {
            static_cast<void>(self.release()); // it is this object
            post_in_spare_memory(std::unique_ptr<waiter_of>(this), std::move(args)...);
        }

        work executor; // keeps the waiter's context running meanwhile
        Handler handler;
        Executor home;
        spare_memory memory; // for the post
    };

    waiter* first_ = nullptr;
    waiter* last_ = nullptr; // if there is a first
    std::size_t size_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_WAIT_QUEUE_HPP
