// fairlead: what the connections of one server share: its executor, options, hooks, counters and
// its one timer. Everything here belongs to the one thread that runs the context, except where it
// is atomic.

#ifndef FAIRLEAD_DETAIL_SERVER_ENVIRONMENT_HPP
#define FAIRLEAD_DETAIL_SERVER_ENVIRONMENT_HPP

#include <fairlead/config.hpp>
#include <fairlead/deadline_wheel.hpp>
#include <fairlead/detail/io/reactor.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/counters.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/detail/util/buffer_pool.hpp>
#include <fairlead/detail/util/spare_memory.hpp>
#include <fairlead/hooks.hpp>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Part of a server, and lives as long as that.
class environment
{
public:
    using clock = deadline_wheel::clock;
    using time_point = deadline_wheel::time_point;
    using executor_type = asio::io_context::executor_type;

    environment(asio::io_context& io_context, server_config options)
        : context(io_context),
          config(std::move(options)),
          reactor(reactor_of(io_context)),
          wheel_(clock::now()),
          timer_(io_context)
    {}

    environment(const environment&) = delete;
    environment& operator=(const environment&) = delete;
    ~environment() = default;

    /// The server that it is a part of; before anything else is asked of it.
    void is_part_of(const std::shared_ptr<environment>& whole) noexcept
    {
        self_ = whole;
    }

    /// Keeps the server alive. Never null while the server's owner has it.
    std::shared_ptr<environment> keep() const noexcept
    {
        return self_.lock();
    }

    /// The same, for who may come too late.
    std::weak_ptr<environment> keep_weakly() const noexcept
    {
        return self_;
    }

    executor_type get_executor() noexcept
    {
        return context.get_executor();
    }

    /// Any thread.
    server_stats stats() const noexcept
    {
        server_stats stats = counters.snapshot();
        stats.errors = hooks.errors();
        stats.hook_failures = hooks.failures();
        return stats;
    }

    /// `node` fires at `when` at the latest. Moves it only when it would fire later.
    void schedule_by(deadline_wheel::node& node, time_point when) noexcept
    {
        if (when < node.deadline()) {
            schedule(node, when);
        }
    }

    void schedule(deadline_wheel::node& node, time_point when) noexcept
    {
        wheel_.schedule(node, when);
        if (when < timer_expiry_) {
            arm_timer();
        }
    }

    void cancel(deadline_wheel::node& node) noexcept
    {
        wheel_.cancel(node);
        if (wheel_.empty()) {
            stop_timer();
        }
    }

    /// Connections keep their server alive, those included whose handlers outlive it: one count,
    /// and one reference for all of them.
    void connection_made()
    {
        if (connections_made_ == 0) {
            reactor.open(); // where nothing listens, it has not been opened
            kept_by_connections_ = keep();
        }
        ++connections_made_;
    }

    void connection_gone() noexcept
    {
        if (--connections_made_ == 0) {
            const auto last = std::move(kept_by_connections_); // perhaps the end of this object
        }
    }

    asio::io_context& context;
    server_config config;
    detail::reactor& reactor;
    hook_caller hooks;
    detail::counters counters;
    buffer_pool buffers;
    bool draining = false;

private:
    /// An armed timer keeps the context running, and the shard alive.
    void stop_timer() noexcept
    {
        if (std::exchange(timer_expiry_, time_point::max()) != time_point::max()) {
            timer_.cancel();
        }
    }

    /// One wait at a time, in memory of its own: a new expiry ends the one that is pending, and the
    /// next begins when that has completed.
    void arm_timer() noexcept
    {
        const auto next = wheel_.next_wakeup();
        if (!next) {
            return;
        }
        try {
            timer_.expires_at(*next);
            if (!is_timer_pending_) {
                wait_for_timer();
            }
            timer_expiry_ = *next;
        } catch (...) { // Asio's queue of timers wanted to grow, and could not
            timer_expiry_ = time_point::max();
            arm_timer_soon();
        }
    }

    void wait_for_timer()
    {
        timer_.async_wait(spared_handler{
            &timer_memory_, [self = keep()](const std::error_code&) { self->timer_completed(); }});
        is_timer_pending_ = true;
    }

    void timer_completed()
    {
        is_timer_pending_ = false;
        if (timer_expiry_ == time_point::max()) {
            return; // nothing is waited for any more
        }
        timer_expiry_ = time_point::max();
        wheel_.advance(clock::now());
        if (timer_expiry_ == time_point::max()) {
            arm_timer();
        }
    }

    /// Everything else that is ready comes first.
    void arm_timer_soon() noexcept
    {
        if (!std::exchange(is_arming_, true)) {
            asio::post(get_executor(), spared_handler{&arming_memory_, [self = keep()] {
                                                          self->is_arming_ = false;
                                                          if (self->timer_expiry_ ==
                                                              time_point::max()) {
                                                              self->arm_timer();
                                                          }
                                                      }});
        }
    }

    std::weak_ptr<environment> self_;
    std::shared_ptr<environment> kept_by_connections_;
    std::size_t connections_made_ = 0;
    deadline_wheel wheel_;
    asio::steady_timer timer_;
    time_point timer_expiry_ = time_point::max(); // for which a wait is pending, or about to be
    bool is_timer_pending_ = false;
    bool is_arming_ = false;
    spare_memory timer_memory_;
    spare_memory arming_memory_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ENVIRONMENT_HPP
