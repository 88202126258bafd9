// fairlead: the threads of a server's shards, one for each, from one run to the next. Nothing of a
// shard runs on any other thread.

#ifndef FAIRLEAD_DETAIL_SERVER_SHARD_THREADS_HPP
#define FAIRLEAD_DETAIL_SERVER_SHARD_THREADS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A run lasts until every shard's server has stopped; then all threads end. So whatever one shard
/// has handed to another by then is taken there, by that shard's thread. What is still queued after
/// that, the handlers included that outlive a stop, goes on in the next run.
///
/// Threads: `are_running` and `wait` any; for the others the caller sees to it that there is one at
/// a time.
class shard_threads
{
public:
    explicit shard_threads(std::vector<server_core*> shards) : shards_(std::move(shards))
    {}

    shard_threads(const shard_threads&) = delete;
    shard_threads& operator=(const shard_threads&) = delete;

    /// Threads have begun a run and not all of them have ended it.
    bool are_running() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return running_ != 0;
    }

    /// Creates the threads, calls `begin()`, which is to start the servers, and lets the threads
    /// go. Throws what the system or `begin` throws; there are no threads then.
    template <typename Begin>
    void start(Begin&& begin)
    {
        {
            const std::lock_guard lock(mutex_);
            gate_ = gate::closed;
            ++run_;
        }
        try {
            for (server_core* const each : shards_) {
                threads_.emplace_back([this, each] { run(*each); });
            }
            for (server_core* const each : shards_) {
                each->home.context.restart();
                each->notify_when_stopped(wait_queue<std::exception_ptr>::make_waiter(
                    each->home.context.get_executor(),
                    [this, run = run_](const std::exception_ptr&) { one_stopped(run); }));
            }
            begin();
        } catch (...) {
            open_gate(gate::given_up);
            collect();
            throw;
        }
        open_gate(gate::open);
    }

    /// Returns when the run is over.
    void wait()
    {
        std::unique_lock lock(mutex_);
        const unsigned mine = run_;
        changed_.wait(lock, [&] { return running_ == 0 || run_ != mine; });
    }

    /// Joins the threads of a run that is over.
    void collect()
    {
        for (auto& each : threads_) {
            each.join();
        }
        threads_.clear();
    }

private:
    enum class gate
    {
        closed,
        open,
        given_up,
    };

    void open_gate(gate how)
    {
        const std::lock_guard lock(mutex_);
        gate_ = how;
        running_ = not_stopped_ = how == gate::open ? shards_.size() : 0;
        changed_.notify_all();
    }

    bool may_pass()
    {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return gate_ != gate::closed; });
        return gate_ == gate::open;
    }

    void run(server_core& shard)
    {
        if (!may_pass()) {
            return;
        }
        const auto work = asio::make_work_guard(shard.home.context);
        for (bool is_over = false; !is_over;) {
            try {
                shard.home.context.run();
                is_over = true;
            } catch (...) { // of something that nobody waits for: the shard goes on
                shard.home.hooks.report_unhandled(std::current_exception());
            }
        }
        const std::lock_guard lock(mutex_);
        --running_;
        changed_.notify_all();
    }

    /// One shard's server has stopped; on that shard's thread.
    void one_stopped(unsigned run)
    {
        {
            const std::lock_guard lock(mutex_);
            if (run != run_ || --not_stopped_ != 0) {
                return;
            }
        }
        for (server_core* const each : shards_) {
            end_thread(each->home.context);
        }
    }

    /// Behind everything that is queued so far.
    static void end_thread(asio::io_context& context)
    {
        try {
            asio::post(context, [&context] { context.stop(); });
        } catch (...) { // no memory
            context.stop();
        }
    }

    const std::vector<server_core*> shards_;
    std::vector<std::thread> threads_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    gate gate_ = gate::closed;
    std::size_t running_ = 0;
    std::size_t not_stopped_ = 0;
    unsigned run_ = 0; // tells an attempt at a run from the next
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SHARD_THREADS_HPP
