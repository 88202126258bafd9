// fairlead: what a connection's handler has sent and the kernel has not taken yet, as the
// connection sees it. outbox.hpp fills and empties it.

#ifndef FAIRLEAD_DETAIL_CONNECTION_OUTPUT_QUEUE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_OUTPUT_QUEUE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/wait_list.hpp>

#include <cstddef>
#include <memory>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class output_queue
{
public:
    output_queue() = default;
    output_queue(const output_queue&) = delete;
    output_queue& operator=(const output_queue&) = delete;
    virtual ~output_queue() = default;

    /// Nothing is queued, and no operation is pending: the connection may go.
    virtual bool is_idle() const noexcept = 0;

    /// Some of it waits for a write to be over.
    virtual bool has_unsent() const noexcept = 0;

    /// Begins to write what is queued, or will when the connection's pending write is over.
    virtual void flush() noexcept = 0;

    /// `handler(error)` is called at the next change, or when its wait is cancelled. Not while idle.
    template <typename Executor, typename Handler>
    void wait(const Executor& fallback, Handler&& handler)
    {
        if (const auto list = waiting()) {
            list->push(fallback, std::forward<Handler>(handler));
        }
    }

    /// Input that was taken from the connection and not handed to the handler yet.
    std::size_t unread_input = 0;

private:
    /// Those who wait for the next change. Null: their context is being destroyed.
    virtual std::shared_ptr<wait_list> waiting() = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_OUTPUT_QUEUE_HPP
