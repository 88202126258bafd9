// fairlead: sharded_server, one tcp_server per core on one port. A shard is one thread, one
// io_context and one server; shards share nothing but the connection limit and the TLS context.

#ifndef FAIRLEAD_SHARDED_SERVER_HPP
#define FAIRLEAD_SHARDED_SERVER_HPP

#include <fairlead/detail/shared_port.hpp>
#include <fairlead/server.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/post.hpp>

#include <atomic>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace fairlead
{
/// The verbs of `tcp_server`, for several shards at once, blocking where that one is awaited.
///
/// Handler: copied once per shard, so its members are that shard's own. Hooks: called on every
/// shard's thread, several at a time. Threads: every member may be called from any thread but the
/// shards' own; there, use `close()`, which does not block. A handler that blocks its thread blocks
/// its shard.
template <connection_handler Handler>
    requires std::copy_constructible<Handler>
class sharded_server
{
public:
    /// Loads and checks everything that `config` names. `max_connections` is for all shards
    /// together. Throws `std::system_error` as `tcp_server` does.
    explicit sharded_server(Handler handler, server_config config = {}, shard_config shards = {})
        : config_(detail::checked(std::move(config)))
    {
        if (config_.tls) {
            tls_ = std::make_shared<tls_context>(*config_.tls);
        }
        spreads_by_kernel_ = shards.distribution != client_distribution::round_robin &&
                             detail::native::has_reuse_port;
        if (shards.distribution == client_distribution::kernel && !spreads_by_kernel_) {
            throw std::system_error(
                make_error_code(errc::invalid_config),
                "shard_config::distribution is kernel: this system does not spread clients");
        }
        const auto limit = std::make_shared<detail::connection_limit>(config_.max_connections);
        const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
        const std::size_t count = shards.threads == 0 ? cores : shards.threads;
        for (std::size_t index = 0; index < count; ++index) {
            shards_.push_back(std::make_unique<shard>(handler, config_, limit, tls_));
        }
    }

    sharded_server(const sharded_server&) = delete;
    sharded_server& operator=(const sharded_server&) = delete;

    /// Closes everything and waits for the threads.
    ~sharded_server()
    {
        close();
        join();
    }

    /// Hooks: to be set before `open()`; later, `errc::already_running`.
    void on_error(const std::function<void(const error_event&)>& hook)
    {
        const auto lock = settled();
        for_each_server([&](auto& server) { server.on_error(hook); });
    }

    void on_connection(const std::function<void(const connection_event&)>& hook)
    {
        const auto lock = settled();
        for_each_server([&](auto& server) { server.on_connection(hook); });
    }

    void on_server(const std::function<void(const server_event&)>& hook)
    {
        const auto lock = settled();
        for_each_server([&](auto& server) { server.on_server(hook); });
    }

    void on_socket(const std::function<void(asio::ip::tcp::socket&)>& hook)
    {
        const auto lock = settled();
        for_each_server([&](auto& server) { server.on_socket(hook); });
    }

    /// Binds and listens, every shard on the same port. A port on which another process listens is
    /// refused with `std::errc::address_in_use`, also when that process would share it. Throws as
    /// `tcp_server::open`.
    void open()
    {
        const auto lock = settled();
        open_shards();
    }

    /// Opens, unless that was done, and starts the threads. Throws as `open()`; nothing runs then.
    void start()
    {
        const auto lock = settled();
        if (!shards_.front()->core().is_listening()) {
            forget_requests();
            open_shards();
        }
        start_threads();
    }

    /// Drains every shard, as `tcp_server::shutdown`, and waits for it; the threads have ended when
    /// it returns. The report is that of all shards together.
    drain_report shutdown(std::chrono::milliseconds deadline)
    {
        if (live_threads() == 0) {
            close();
            return {};
        }
        const auto sum = begin_drain(deadline);
        join();
        const std::lock_guard lock(mutex_);
        return *sum;
    }

    /// Closes every connection now, without waiting; `join()` waits.
    void close()
    {
        if (live_threads() != 0) {
            for_each_server([](auto& server) { server.close(); });
            return;
        }
        const std::lock_guard lock(control_);
        if (live_threads() != 0) { // it was starting meanwhile
            for_each_server([](auto& server) { server.close(); });
            return;
        }
        for (const auto& each : shards_) {
            each->core().close_everything();
        }
    }

    /// Waits until the server has stopped, by whomever.
    void join()
    {
        std::unique_lock lock(mutex_);
        const unsigned mine = run_;
        changed_.wait(lock, [&] { return threads_alive_ == 0 || run_ != mine; });
        lock.unlock();
        const std::lock_guard control(control_);
        if (live_threads() == 0) { // not started again meanwhile
            collect_threads();
            forget_requests();
        }
    }

    /// Closes one connection, of whichever shard. False: there is none of this id.
    bool close_connection(std::uint64_t id)
    {
        bool found = false;
        for_each_server([&](auto& server) { found = found || server.close_connection(id); });
        return found;
    }

    /// For the next `open()`. Throws as `tcp_server::set_address`.
    void set_address(const std::string& address)
    {
        const auto lock = settled();
        for_each_server([&](auto& server) { server.set_address(address); });
        config_.address = address;
    }

    /// As `tcp_server::set_tls`, for all shards.
    void set_tls(std::optional<tls_config> config)
    {
        const std::lock_guard lock(control_);
        auto loaded = detail::load_tls(shards_.front()->core(), config);
        config_.tls = std::move(config);
        for (const auto& each : shards_) {
            each->core().request_tls(loaded);
        }
    }

    /// Reads the files of the TLS configuration again. Nothing to do without one. Throws as
    /// `set_tls`.
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
        server_state all = shards_.front()->server.state();
        for (const auto& each : shards_) {
            const auto one = each->server.state();
            if (one == server_state::running ||
                (one == server_state::draining && all != server_state::running)) {
                all = one;
            }
        }
        return all;
    }

    bool is_running() const noexcept
    {
        return state() == server_state::running;
    }

    bool is_gone() const noexcept
    {
        const auto now = state();
        return now == server_state::draining || now == server_state::stopped;
    }

    std::int64_t open_connections() const noexcept
    {
        return stats().open;
    }

    /// The sum over the shards.
    server_stats stats() const noexcept
    {
        server_stats sum;
        for (const auto& each : shards_) {
            sum += each->server.stats();
        }
        return sum;
    }

    /// The bound address, the same for every shard.
    asio::ip::tcp::endpoint local_endpoint() const
    {
        const std::lock_guard lock(control_);
        return shards_.front()->server.local_endpoint();
    }

    /// The live connections of every shard; see `tcp_server::connections`.
    std::vector<connection_info> connections() const
    {
        std::vector<connection_info> all;
        for (const auto& each : shards_) {
            if (live_threads() != 0) {
                const auto some = each->server.connections();
                all.insert(all.end(), some.begin(), some.end());
            }
        }
        return all;
    }

    std::size_t shard_count() const noexcept
    {
        return shards_.size();
    }

private:
    struct shard
    {
        shard(
            const Handler& handler, const server_config& config,
            const std::shared_ptr<detail::connection_limit>& limit,
            const std::shared_ptr<const tls_context>& tls)
            : server(context, handler, config, limit, tls)
        {}

        detail::server_core& core() const noexcept
        {
            return *server.core_;
        }

        asio::io_context context{1};
        tcp_server<Handler> server;
        std::thread thread;
    };

    template <typename Visitor>
    void for_each_server(Visitor&& visit)
    {
        for (const auto& each : shards_) {
            visit(each->server);
        }
    }

    std::size_t live_threads() const noexcept
    {
        const std::lock_guard lock(mutex_);
        return threads_alive_;
    }

    /// The right to change things, for as long as the lock is held: nothing runs.
    std::unique_lock<std::mutex> settled()
    {
        std::unique_lock lock(control_);
        if (live_threads() != 0) {
            throw std::system_error(make_error_code(errc::already_running));
        }
        collect_threads();
        return lock;
    }

    void collect_threads()
    {
        for (const auto& each : shards_) {
            if (each->thread.joinable()) {
                each->thread.join();
            }
        }
    }

    void open_shards()
    {
        auto& first = shards_.front()->core();
        first.config.address = config_.address;
        if (!spreads_by_kernel_ || shards_.size() == 1) {
            first.open();
            return;
        }
        detail::open_shared_port(
            shards_.size(), [this](std::size_t index) -> auto& { return shards_[index]->core(); });
    }

    void start_threads()
    {
        if (!spreads_by_kernel_ && shards_.size() > 1) {
            shards_.front()->core().forward = [this, next = std::size_t(0)](
                                                  detail::native::descriptor& socket,
                                                  const asio::ip::tcp::endpoint& remote,
                                                  detail::connection_place& place) mutable {
                next = (next + 1) % shards_.size();
                return shards_[next]->core().request_adopt(socket, remote, place);
            };
        }
        for (const auto& each : shards_) {
            each->context.restart();
            if (each->core().is_listening()) {
                each->core().start();
            } else {
                each->core().start_without_listening();
            }
            auto& context = each->context; // before a stop can be asked for: nothing runs it yet
            each->core().notify_when_stopped(detail::wait_queue<std::exception_ptr>::make_waiter(
                context.get_executor(), [&context](const std::exception_ptr&) { context.stop(); }));
        }
        {
            const std::lock_guard lock(mutex_);
            threads_alive_ = shards_.size();
            drained_.reset();
            ++run_;
        }
        std::size_t started = 0;
        try {
            for (const auto& each : shards_) {
                each->thread = std::thread([this, &one = *each] { run(one); });
                ++started;
            }
        } catch (...) {
            const std::size_t missing = shards_.size() - started;
            {
                const std::lock_guard lock(mutex_);
                threads_alive_ -= missing;
            }
            for_each_server([](auto& server) { server.close(); });
            collect_threads();
            for (std::size_t index = started; index < shards_.size(); ++index) {
                shards_[index]->core().close_everything();
            }
            throw;
        }
    }

    /// A shard's thread: until its server has stopped. Handlers that outlive that stay suspended.
    void run(shard& one)
    {
        const auto work = asio::make_work_guard(one.context);
        one.context.run();
        const std::lock_guard lock(mutex_);
        --threads_alive_;
        changed_.notify_all();
    }

    /// What was asked of a server that had stopped just then is void.
    void forget_requests()
    {
        for (const auto& each : shards_) {
            each->context.restart();
            each->context.poll();
        }
    }

    /// Asks every shard to drain. The report of all of them belongs to the run, not to a caller:
    /// who joins late hears of the shards that are done already.
    std::shared_ptr<drain_report> begin_drain(std::chrono::milliseconds deadline)
    {
        std::unique_lock lock(mutex_);
        const bool is_first = drained_ == nullptr;
        auto sum = is_first ? std::make_shared<drain_report>() : drained_;
        drained_ = sum;
        lock.unlock();
        for (const auto& each : shards_) {
            const auto collect = [this, sum, is_first](const drain_report& report) {
                const std::lock_guard guard(mutex_);
                if (!is_first) {
                    return; // counted by the first caller's
                }
                sum->drained += report.drained;
                sum->closed_idle += report.closed_idle;
                sum->stragglers.insert(
                    sum->stragglers.end(), report.stragglers.begin(), report.stragglers.end());
                sum->took = std::max(sum->took, report.took);
            };
            each->core().request_drain(
                deadline, detail::wait_queue<drain_report>::make_waiter(
                              each->context.get_executor(), collect));
        }
        return sum;
    }

    server_config config_;
    std::shared_ptr<const tls_context> tls_;
    std::vector<std::unique_ptr<shard>> shards_;
    bool spreads_by_kernel_ = true;

    mutable std::mutex control_; // one open, start or set at a time
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t threads_alive_ = 0;
    unsigned run_ = 0;                      // tells a run from the next
    std::shared_ptr<drain_report> drained_; // of this run, once a drain was asked for
};
} // namespace fairlead

#endif // FAIRLEAD_SHARDED_SERVER_HPP
