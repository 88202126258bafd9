// fairlead: the shards of one server as one: everything of sharded_server that does not know the
// handler's type.

#ifndef FAIRLEAD_DETAIL_SERVER_SHARD_GROUP_HPP
#define FAIRLEAD_DETAIL_SERVER_SHARD_GROUP_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>
#include <fairlead/detail/server/operations.hpp>
#include <fairlead/detail/server/requests.hpp>
#include <fairlead/detail/server/shard_events.hpp>
#include <fairlead/detail/server/shard_threads.hpp>
#include <fairlead/detail/server/shared_port.hpp>
#include <fairlead/event.hpp>
#include <fairlead/hooks.hpp>
#include <fairlead/tls.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Threads: every member may be called from any thread, but `start`, `shutdown` and `join`, which
/// wait, not from the shards' own. The shards outlive the group.
class shard_group
{
public:
    shard_group(
        std::vector<server_core*> shards, server_config config, client_distribution distribution)
        : shards_(std::move(shards)),
          distribution_(distribution),
          config_(std::move(config)),
          events_(shards_.size(), 1),
          threads_(shards_)
    {
        for (std::size_t index = 0; index < shards_.size(); ++index) {
            shards_[index]->home.hooks.callbacks.on_server = [this,
                                                              index](const server_event& event) {
                const auto now = shard_events::time_point::clock::now();
                for (const auto& failure : events_.add(index, event, now)) {
                    if (failure) {
                        shards_[index]->home.hooks.server_hook_failed(failure);
                    }
                }
            };
        }
    }

    shard_group(const shard_group&) = delete;
    shard_group& operator=(const shard_group&) = delete;

    ~shard_group()
    {
        close();
        join();
    }

    /// Hooks, all but `on_server`: `set(hooks&)` is called for each shard.
    template <typename Set>
    void set_hooks(Set&& set)
    {
        const auto lock = settled();
        for (server_core* const each : shards_) {
            set(each->home.hooks.callbacks);
        }
    }

    void on_server(shard_events::hook hook)
    {
        const auto lock = settled();
        events_.set_hook(std::move(hook));
    }

    void open()
    {
        const auto lock = settled();
        open_shards();
    }

    void start()
    {
        const auto lock = settled();
        if (!shards_.front()->is_listening()) {
            open_shards();
            if (!shards_.front()->is_listening()) { // the hook has closed it
                return;
            }
        }
        try {
            threads_.start([this] { start_shards(); });
        } catch (...) {
            close_shards();
            throw;
        }
    }

    drain_report shutdown(std::chrono::milliseconds deadline)
    {
        const auto report = begin_drain(deadline);
        join();
        const std::lock_guard lock(mutex_);
        return *report;
    }

    /// Asks every shard to drain. The report of all of them belongs to the run, not to a caller:
    /// who comes late hears of the shards that are done already.
    std::shared_ptr<const drain_report> begin_drain(std::chrono::milliseconds deadline)
    {
        if (closes_at_rest()) {
            return std::make_shared<drain_report>();
        }
        std::unique_lock lock(mutex_);
        const bool is_first = drained_ == nullptr;
        auto sum = is_first ? std::make_shared<drain_report>() : drained_;
        drained_ = sum;
        lock.unlock();
        for (server_core* const each : shards_) {
            const auto collect = [this, sum, is_first](const drain_report& report) {
                if (is_first) { // others would count it again
                    add(*sum, report);
                }
            };
            request_drain(
                each->shared_from_this(), deadline,
                wait_queue<drain_report>::make_waiter(each->home.context.get_executor(), collect));
        }
        return sum;
    }

    void close()
    {
        if (closes_at_rest()) {
            return;
        }
        for (server_core* const each : shards_) {
            request_close(*each);
        }
    }

    /// The report is that of the run's drain; empty: there was none.
    drain_report join()
    {
        threads_.wait();
        const std::lock_guard control(control_);
        if (!threads_.are_running()) { // not started again meanwhile
            threads_.collect();
        }
        const std::lock_guard lock(mutex_);
        return drained_ ? *drained_ : drain_report();
    }

    bool close_connection(std::uint64_t id)
    {
        return std::any_of(shards_.begin(), shards_.end(), [id](server_core* each) {
            return request_close_connection(*each, id);
        });
    }

    void set_address(const std::string& address)
    {
        const auto lock = settled();
        check_address(address);
        config_.address = address;
    }

    void adopt_listener(int fd)
    {
        const auto lock = settled();
        shards_.front()->adopt_listener(fd);
    }

    void set_tls(std::optional<tls_config> config)
    {
        const std::lock_guard lock(control_);
        auto loaded = load_tls(*shards_.front(), config);
        config_.tls = std::move(config);
        for (server_core* const each : shards_) {
            request_tls(*each, loaded);
        }
    }

    void reload_tls()
    {
        std::optional<tls_config> current;
        {
            const std::lock_guard lock(control_);
            current = config_.tls;
        }
        if (current) {
            set_tls(std::move(current));
        }
    }

    /// Of the shard that is furthest from being stopped.
    server_state state() const noexcept
    {
        server_state all = shards_.front()->state();
        for (const server_core* const each : shards_) {
            const auto one = each->state();
            if (one == server_state::running ||
                (one == server_state::draining && all != server_state::running)) {
                all = one;
            }
        }
        return all;
    }

    server_stats stats() const noexcept
    {
        server_stats sum;
        for (const server_core* const each : shards_) {
            sum += each->home.stats();
        }
        return sum;
    }

    std::vector<connection_info> connections() const
    {
        std::vector<connection_info> all;
        for (server_core* const each : shards_) {
            const auto some = each->list();
            all.insert(all.end(), some.begin(), some.end());
        }
        return all;
    }

    endpoint local_endpoint() const
    {
        return events_.local_endpoint();
    }

private:
    /// The right to change things, for as long as the lock is held: nothing runs, nor does anybody
    /// else open or start.
    std::unique_lock<std::recursive_mutex> settled()
    {
        std::unique_lock lock(control_);
        if (is_opening_ || threads_.are_running()) {
            throw std::system_error(make_error_code(errc::already_running));
        }
        threads_.collect();
        return lock;
    }

    void open_shards()
    {
        for (server_core* const each : shards_) {
            each->home.config.address = config_.address;
        }
        const bool each_listens = does_each_listen();
        events_.will_listen(each_listens ? shards_.size() : 1);
        deal_clients_out(!each_listens);
        is_opening_ = true;
        try {
            if (!each_listens) {
                shards_.front()->open();
            } else {
                open_shared_port(
                    shards_.size(), [this](std::size_t index) -> auto& { return *shards_[index]; });
            }
        } catch (...) {
            is_opening_ = false;
            throw;
        }
        is_opening_ = false;
    }

    /// Otherwise the first does, for all of them: what is not a port of ours there is one of, a Unix
    /// socket or a descriptor, and shards that all wait on that one would all wake for each client.
    bool does_each_listen() const
    {
        if (shards_.size() == 1 || distribution_ == client_distribution::round_robin ||
            !native::has_reuse_port) {
            return false;
        }
        const bool is_adopted = shards_.front()->has_adopted();
        if (!is_adopted && !parse_address(config_.address).unix_socket) {
            return true;
        }
        if (distribution_ == client_distribution::kernel) {
            throw std::system_error(
                make_error_code(errc::invalid_config),
                std::string(
                    "shard_config::distribution is kernel: the kernel spreads no clients of ") +
                    (is_adopted ? "an adopted descriptor" : "a Unix socket"));
        }
        return false;
    }

    void deal_clients_out(bool deals)
    {
        if (!deals || shards_.size() == 1) {
            shards_.front()->forward_clients(nullptr);
            return;
        }
        shards_.front()->forward_clients([this, next = std::size_t(0)](
                                             native::descriptor& socket, const endpoint& remote,
                                             connection_place& place) mutable {
            next = (next + 1) % shards_.size();
            return request_adopt(*shards_[next], socket, remote, place);
        });
    }

    void start_shards()
    {
        for (server_core* const each : shards_) {
            if (each->is_listening()) {
                each->start();
            } else {
                each->start_without_listening();
            }
        }
        const std::lock_guard lock(mutex_);
        drained_.reset();
        events_.begin_run();
    }

    /// False: the shards run, perhaps since a moment ago, and are to be asked.
    bool closes_at_rest()
    {
        if (threads_.are_running()) {
            return false;
        }
        const std::lock_guard lock(control_);
        if (threads_.are_running()) { // it was starting meanwhile
            return false;
        }
        close_shards();
        return true;
    }

    /// While no thread runs them.
    void close_shards()
    {
        for (server_core* const each : shards_) {
            each->close_everything();
        }
    }

    void add(drain_report& sum, const drain_report& report)
    {
        const std::lock_guard lock(mutex_);
        sum.drained += report.drained;
        sum.closed_idle += report.closed_idle;
        sum.stragglers.insert(
            sum.stragglers.end(), report.stragglers.begin(), report.stragglers.end());
        sum.took = std::max(sum.took, report.took);
    }

    const std::vector<server_core*> shards_;
    const client_distribution distribution_;
    server_config config_;
    shard_events events_;
    shard_threads threads_;

    mutable std::recursive_mutex control_; // one open, start or set at a time; hooks may ask back
    bool is_opening_ = false;
    mutable std::mutex mutex_;              // of the next
    std::shared_ptr<drain_report> drained_; // of this run, once a drain was asked for
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SHARD_GROUP_HPP
