// What tests write handlers with: a coroutine with state, a gate that holds it, a box for what it
// has to say. The test's thread asserts; the server's thread only reports.

#ifndef FAIRLEAD_TESTS_SUPPORT_SCRIPTS_HPP
#define FAIRLEAD_TESTS_SUPPORT_SCRIPTS_HPP

#include "tests/support/server_fixture.hpp"
#include <fairlead/connection.hpp>

#include <asio/awaitable.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace test
{
/// Waits until `condition()` holds. False: it does not after ten seconds.
template <typename Condition>
bool eventually(Condition condition)
{
    const auto limit = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > limit) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

/// The code that `function()` throws; empty: it throws nothing.
template <typename Function>
std::error_code code_thrown_by(Function function)
{
    try {
        function();
    } catch (const std::system_error& error) {
        return error.code();
    }
    return {};
}

/// Values from any thread to the test's, in order.
template <typename Value>
class mailbox
{
public:
    void put(Value value)
    {
        const std::lock_guard lock(mutex_);
        values_.push_back(std::move(value));
        changed_.notify_all();
    }

    /// The next one; throws when none comes in time.
    Value take()
    {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, patience, [this] { return !values_.empty(); })) {
            throw std::runtime_error("nothing came into the mailbox");
        }
        Value value = std::move(values_.front());
        values_.pop_front();
        return value;
    }

    std::size_t size() const
    {
        const std::lock_guard lock(mutex_);
        return values_.size();
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Value> values_;
};

/// Holds coroutines until the test opens it, from any thread. No operation of a connection is
/// pending meanwhile, so nothing that happens to the connection ends the wait.
class gate
{
public:
    asio::awaitable<void> wait()
    {
        asio::steady_timer timer(
            co_await asio::this_coro::executor, std::chrono::steady_clock::time_point::max());
        {
            const std::lock_guard lock(mutex_);
            if (is_open_) {
                co_return;
            }
            waiting_.push_back(&timer);
        }
        std::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }

    void open()
    {
        const std::lock_guard lock(mutex_);
        is_open_ = true;
        for (asio::steady_timer* timer : waiting_) {
            asio::post(timer->get_executor(), [timer] { timer->cancel(); });
        }
        waiting_.clear();
    }

    std::size_t waiting() const
    {
        const std::lock_guard lock(mutex_);
        return waiting_.size();
    }

private:
    mutable std::mutex mutex_;
    bool is_open_ = false;
    std::vector<asio::steady_timer*> waiting_;
};

/// A handler made of a coroutine function and a state that outlives the server.
template <typename State>
struct scripted
{
    asio::awaitable<void> (*script)(fairlead::connection&, State&);
    State* state;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        return script(connection, *state);
    }
};

template <typename State>
scripted(asio::awaitable<void> (*)(fairlead::connection&, State&), State*) -> scripted<State>;
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_SCRIPTS_HPP
