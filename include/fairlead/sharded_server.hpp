// fairlead: sharded_server, one tcp_server per core on one address. A shard is one thread, one
// io_context and one server; shards share nothing but the connection limit and the TLS context.

#ifndef FAIRLEAD_SHARDED_SERVER_HPP
#define FAIRLEAD_SHARDED_SERVER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/shard_group.hpp>
#include <fairlead/server.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// The verbs of `tcp_server`, for several shards at once, blocking where that one is awaited.
///
/// Handler: copied once per shard, so its members are that shard's own. Everything of a connection
/// runs on its shard's thread, and on no other. An exception that leaves something which runs there
/// beside the handlers, a coroutine that nobody waits for, is told to `on_error`
/// (`errc::unhandled_exception`), and the shard goes on.
///
/// Threads: every member may be called from any thread but the shards' own; there, use `close()`,
/// which does not block. A handler that blocks its thread blocks its shard.
template <connection_handler Handler>
    requires std::copy_constructible<Handler>
class sharded_server
{
public:
    /// Loads and checks everything that `config` names. `max_connections` is for all shards
    /// together. Throws `std::system_error` as `tcp_server` does.
    explicit sharded_server(Handler handler, server_config config = {}, shard_config shards = {})
    {
        config = detail::checked(std::move(config));
        std::shared_ptr<const tls_context> tls;
        if (config.tls) {
            tls = std::make_shared<tls_context>(*config.tls);
        }
        if (shards.distribution == client_distribution::kernel && !detail::native::has_reuse_port) {
            throw std::system_error(
                make_error_code(errc::invalid_config),
                "shard_config::distribution is kernel: this system does not spread clients");
        }
        const auto limit = std::make_shared<detail::connection_limit>(config.max_connections);
        const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
        const std::size_t count = shards.threads == 0 ? cores : shards.threads;
        std::vector<detail::server_core*> parts;
        for (std::size_t index = 0; index < count; ++index) {
            shards_.push_back(std::make_unique<shard>(handler, config, limit, tls));
            parts.push_back(shards_.back()->server.operator->());
        }
        group_.emplace(std::move(parts), std::move(config), shards.distribution);
    }

    sharded_server(const sharded_server&) = delete;
    sharded_server& operator=(const sharded_server&) = delete;

    /// Closes everything and waits for the threads. Handlers that `close()` does not wait for, and
    /// that have not returned, are destroyed where they are suspended.
    ~sharded_server() = default;

    /// Hooks: to be set before `open()`; later, `errc::already_running`. They are called on the
    /// shards' threads, several at a time, except `on_server`.
    void on_error(const std::function<void(const error_event&)>& hook)
    {
        group_->set_hooks([&](hooks& each) { each.on_error = hook; });
    }

    void on_connection(const std::function<void(const connection_event&)>& hook)
    {
        group_->set_hooks([&](hooks& each) { each.on_connection = hook; });
    }

    /// Called once per step of the server, and not once per shard, by one thread at a time:
    /// `listening` on the thread that calls `open()` or `start()`, when all shards listen; the
    /// others on a shard's thread. `draining`, `stopped` and `tls_reloaded` come when they hold for
    /// the last shard, `paused` when the first one does not accept and `resumed` when all do again,
    /// `limit_reached` at most once a second for one limit.
    void on_server(const std::function<void(const server_event&)>& hook)
    {
        group_->on_server(hook);
    }

    void on_socket(const std::function<void(asio::ip::tcp::socket&)>& hook)
    {
        group_->set_hooks([&](hooks& each) { each.on_socket = hook; });
    }

    /// Binds and listens, every shard on the same port. A port on which another process listens is
    /// refused with `std::errc::address_in_use`, also when that process would share it. Of a Unix
    /// socket, or an adopted one, there is one: the first shard accepts for all and hands clients
    /// out in turn. Throws as `tcp_server::open`; `errc::invalid_config` when
    /// `client_distribution::kernel` was asked for and cannot be.
    void open()
    {
        group_->open();
    }

    /// Opens, unless that was done, and starts the threads. Throws as `open()`, or what the system
    /// says when it has no thread left; nothing runs then.
    void start()
    {
        group_->start();
    }

    /// Drains every shard, as `tcp_server::shutdown`, and waits for it; the threads have ended when
    /// it returns. The report is that of all shards together.
    drain_report shutdown(std::chrono::milliseconds deadline)
    {
        return group_->shutdown(deadline);
    }

    /// Closes every connection now, without waiting; `join()` waits.
    void close()
    {
        group_->close();
    }

    /// Waits until the server has stopped, by whomever, and its threads have ended. Returns the
    /// report of the drain that ended it; an empty one: there was none.
    drain_report join()
    {
        return group_->join();
    }

    /// Closes one connection, of whichever shard. False: there is none of this id.
    bool close_connection(std::uint64_t id)
    {
        return group_->close_connection(id);
    }

    /// For the next `open()`. Throws as `tcp_server::set_address`.
    void set_address(const std::string& address)
    {
        group_->set_address(address);
    }

    /// As `tcp_server::adopt_listener`: the first shard accepts from it, for all of them.
    void adopt_listener(int fd)
    {
        group_->adopt_listener(fd);
    }

    /// As `tcp_server::set_tls`, for all shards.
    void set_tls(std::optional<tls_config> config)
    {
        group_->set_tls(std::move(config));
    }

    /// Reads the files of the TLS configuration again. Nothing to do without one. Throws as
    /// `set_tls`.
    void reload_tls()
    {
        group_->reload_tls();
    }

    /// Of the shard that is furthest from being stopped.
    server_state state() const noexcept
    {
        return group_->state();
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
        return group_->stats();
    }

    /// The bound address, the same for every shard.
    endpoint local_endpoint() const
    {
        return group_->local_endpoint();
    }

    /// The live connections of every shard; see `tcp_server::connections`.
    std::vector<connection_info> connections() const
    {
        return group_->connections();
    }

    std::size_t shard_count() const noexcept
    {
        return shards_.size();
    }

private:
    friend class running_server;

    struct shard
    {
        shard(
            const Handler& handler, const server_config& config,
            const std::shared_ptr<detail::connection_limit>& limit,
            const std::shared_ptr<const tls_context>& tls)
            : server(context, handler, config, limit, tls)
        {}

        asio::io_context context{1};
        detail::server_owner<Handler> server;
    };

    std::vector<std::unique_ptr<shard>> shards_;
    std::optional<detail::shard_group> group_; // the first to go: it refers to the shards
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_SHARDED_SERVER_HPP
