// fairlead: coroutines that wait for one thing to happen, each of which may stop waiting. Where they
// come in turn there is wait_queue.hpp. One thread.

#ifndef FAIRLEAD_DETAIL_UTIL_WAIT_LIST_HPP
#define FAIRLEAD_DETAIL_UTIL_WAIT_LIST_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/error.hpp>

#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Completion handlers `void(std::error_code)`, which complete by a post to their own executors.
/// Their cancellation slots end a wait with `asio::error::operation_aborted`. Those still here when
/// the list dies are destroyed, and with them the coroutines that wait. As in `wait_queue`, waking
/// asks for no memory.
class wait_list
{
public:
    wait_list() = default;
    wait_list(const wait_list&) = delete;
    wait_list& operator=(const wait_list&) = delete;

    ~wait_list()
    {
        while (!waiters_.empty()) {
            const auto dropped = take(waiters_.front());
        }
    }

    bool empty() const noexcept
    {
        return waiters_.empty();
    }

    /// `fallback` is for a handler that has no executor of its own.
    template <typename Executor, typename Handler>
    void push(const Executor& fallback, Handler&& handler)
    {
        using concrete = waiter_of<Executor, std::decay_t<Handler>>;
        auto last = std::make_unique<concrete>(fallback, std::forward<Handler>(handler));
        last->listen_for_cancellation();
        waiters_.push_back(*last.release());
    }

    void notify_all() noexcept
    {
        // Nothing is called here: what completes is posted, and so cannot add to the list meanwhile.
        while (!waiters_.empty()) {
            complete(waiters_.front(), {});
        }
    }

private:
    struct waiter : list_hook<>
    {
        virtual ~waiter()
        {
            unlink();
        }

        virtual void wake(std::error_code error) noexcept = 0; // takes the ownership of itself
    };

    template <typename Executor, typename Handler>
    struct waiter_of final : waiter
    {
        using work = outstanding_work<asio::associated_executor_t<Handler, Executor>>;

        waiter_of(const Executor& fallback, Handler completion)
            : executor(asio::get_associated_executor(completion, fallback)),
              handler(std::move(completion)),
              home(fallback)
        {}

        void listen_for_cancellation()
        {
            auto slot = asio::get_associated_cancellation_slot(handler);
            if (slot.is_connected()) {
                slot.assign([this](asio::cancellation_type type) {
                    if (type != asio::cancellation_type::none) {
                        complete(*this, asio::error::operation_aborted);
                    }
                });
            }
        }

        void wake(std::error_code error) noexcept override
        {
            auto slot = asio::get_associated_cancellation_slot(handler);
            if (slot.is_connected()) {
                slot.clear();
            }
            post_in_spare_memory(std::unique_ptr<waiter_of>(this), error);
        }

        work executor; // keeps the waiter's context running meanwhile
        Handler handler;
        Executor home;
        spare_memory memory; // for the post
    };

    static void complete(waiter& one, std::error_code error) noexcept
    {
        take(one).release()->wake(error);
    }

    static std::unique_ptr<waiter> take(waiter& one) noexcept
    {
        one.unlink();
        return std::unique_ptr<waiter>(&one);
    }

    intrusive_list<waiter> waiters_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_WAIT_LIST_HPP
