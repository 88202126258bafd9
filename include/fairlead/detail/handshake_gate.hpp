// fairlead: how many TLS handshakes are in progress at once, and that they do not starve the open
// connections.

#ifndef FAIRLEAD_DETAIL_HANDSHAKE_GATE_HPP
#define FAIRLEAD_DETAIL_HANDSHAKE_GATE_HPP

#include <fairlead/detail/asio.hpp>
#include <fairlead/detail/shard.hpp>
#include <fairlead/detail/wait_queue.hpp>

#include <asio/awaitable.hpp>
#include <asio/use_awaitable.hpp>

#include <cstddef>

namespace fairlead::detail
{
/// Two queues. A *place* is held from the first byte of a handshake to its end: it bounds memory. A
/// *turn* is held for one cryptographic step: the next is posted, so that between two steps
/// everything else that is ready runs. One thread.
class handshake_gate
{
public:
    using executor_type = shard::executor_type;

    /// 0: any number of places.
    handshake_gate(const executor_type& executor, std::size_t places)
        : executor_(executor), places_(places)
    {}

    asio::awaitable<void> take_place()
    {
        if (places_ != 0 && taken_ >= places_) {
            co_await wait(places_queue_); // the place is handed over
        } else {
            ++taken_;
        }
    }

    void leave_place()
    {
        if (places_queue_.empty()) {
            --taken_;
        } else {
            places_queue_.notify_one();
        }
    }

    asio::awaitable<void> take_turn()
    {
        if (is_turn_taken_) {
            co_await wait(turns_queue_);
        }
        is_turn_taken_ = true;
    }

    void end_turn()
    {
        if (turns_queue_.empty()) {
            is_turn_taken_ = false;
        } else {
            turns_queue_.notify_one();
        }
    }

    /// Nobody waits any longer: the connections are closed.
    void wake_everybody()
    {
        taken_ += places_queue_.size();
        places_queue_.notify_all();
        turns_queue_.notify_all();
    }

private:
    struct initiate_wait
    {
        wait_queue<>* queue;
        executor_type executor;

        template <typename Handler>
        void operator()(Handler&& handler) const
        {
            queue->push(executor, std::forward<Handler>(handler));
        }
    };

    asio::awaitable<void> wait(wait_queue<>& queue)
    {
        return asio::async_initiate<const asio::use_awaitable_t<>, void()>(
            initiate_wait{&queue, executor_}, asio::use_awaitable);
    }

    executor_type executor_;
    const std::size_t places_;
    std::size_t taken_ = 0;
    bool is_turn_taken_ = false;
    wait_queue<> places_queue_;
    wait_queue<> turns_queue_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_HANDSHAKE_GATE_HPP
