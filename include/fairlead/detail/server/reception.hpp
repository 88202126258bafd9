// fairlead: how a client becomes a connection of its server: counted, registered, begun; or turned
// away. How the server stops is in server/core.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP
#define FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP

#include <fairlead/connection.hpp>
#include <fairlead/detail/connection/session.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/acceptor.hpp>
#include <fairlead/detail/server/adopted_listener.hpp>
#include <fairlead/detail/server/evictor.hpp>
#include <fairlead/detail/server/hand_over.hpp>
#include <fairlead/detail/server/open_listeners.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
class reception : public shard, private accept_sink
{
public:
    reception(
        asio::io_context& io_context, server_config options,
        std::shared_ptr<connection_limit> shared_limit,
        std::shared_ptr<const tls_context> shared_tls)
        : shard(io_context, std::move(options)),
          limit_(std::move(shared_limit)),
          tls_(std::move(shared_tls)),
          acceptor_(*this, limit_, *this),
          evictor_(*this, connections_, acceptor_, limit_),
          gate_(*this, config.max_handshakes)
    {}

    /// Starts the handler's coroutine.
    virtual void spawn(connection_ref client) = 0;

    /// A client with its place in the limit, from this server's acceptor or another's.
    void adopt(native::descriptor socket, const endpoint& remote, connection_place place) noexcept
    {
        const auto state = state_.load();
        if (state != server_state::running && state != server_state::draining) {
            return; // it came while this shard was stopping
        }
        try {
            connection_ref client = make_connection(*this, remote);
            client->place = std::move(place);
            if (enroll(*client, std::move(socket), remote)) {
                spawn(std::move(client));
            }
        } catch (...) {
            could_not_serve(remote);
        }
    }

    // -- any thread

    server_stats stats() const noexcept
    {
        server_stats stats = counters.snapshot();
        stats.errors = hooks.errors();
        stats.hook_failures = hooks.failures();
        return stats;
    }

    /// In the order in which they came.
    std::vector<connection_info> list() const
    {
        std::vector<connection_info> infos;
        connections_.visit_all([&, now = clock::now()](const auto& each) {
            if (each.is_open() || each.life().has_tasks()) {
                infos.push_back(each.info(now));
            }
        });
        std::sort(infos.begin(), infos.end(), [](const auto& one, const auto& other) {
            return one.id < other.id;
        });
        return infos;
    }

    // -- the server's thread

    std::shared_ptr<const tls_context> tls() const noexcept
    {
        return tls_;
    }

    handshake_gate& gate() noexcept override
    {
        return gate_;
    }

    void require_stopped() const
    {
        const auto state = state_.load();
        if (acceptor_.is_open() || state == server_state::running ||
            state == server_state::draining) {
            throw std::system_error(make_error_code(errc::already_running));
        }
    }

    /// To be changed: a function that is being called cannot be.
    fairlead::hooks& settable_hooks()
    {
        require_stopped();
        if (hooks.is_calling()) {
            throw std::system_error(make_error_code(errc::already_running));
        }
        return hooks.callbacks;
    }

    /// For the next opening, in place of the configured address.
    void adopt_listener(int fd)
    {
        require_stopped();
        adopted_.reserve(adopted_.size() + 1); // nothing fails once it is ours
        adopted_.push_back(detail::adopt(fd, config));
    }

    bool has_adopted() const noexcept
    {
        return !adopted_.empty();
    }

    /// Where accepted clients go when it is not here; for one acceptor that serves several shards.
    /// False: they were not taken, and this shard serves them. Throws when there is no memory; they
    /// are gone then.
    std::function<bool(native::descriptor&, const endpoint&, connection_place&)> forward;

protected:
    std::vector<listener> make_listeners()
    {
        return has_adopted() ? std::exchange(adopted_, {}) : open_listeners(context, config);
    }

    /// `is_adopted`: by the address of the socket, and not by the configured one.
    void tell_of_opening(const std::vector<refused_option>& refused, bool is_adopted)
    {
        const endpoint& local = acceptor_.sockets().local_endpoint();
        acceptor_.emit(
            server_event_kind::listening, {}, is_adopted ? local.to_string() : config.address);
        for (const auto& [name, why] : refused) {
            const std::string what = std::string(name) + ": " + why.message();
            acceptor_.emit(server_event_kind::option_refused, why, what);
        }
        if (const auto what = why_queue_is_shorter(config); !what.empty()) {
            acceptor_.emit(server_event_kind::limit_reached, {}, what);
        }
    }

    const std::shared_ptr<connection_limit> limit_;
    std::shared_ptr<const tls_context> tls_;
    registry<connection_core> connections_;
    acceptor acceptor_;
    evictor evictor_;
    handshake_gate gate_;
    std::atomic<server_state> state_ = server_state::created;
    hand_over arrivals_;

private:
    std::vector<listener> adopted_;

    void accepted(
        native::descriptor socket, const endpoint& remote, connection_place place) noexcept override
    {
        try {
            if (!forward || !forward(socket, remote, place)) {
                adopt(std::move(socket), remote, std::move(place));
            }
        } catch (...) {
            could_not_serve(remote);
        }
    }

    /// Tells of what is being thrown.
    void could_not_serve(const endpoint& remote) noexcept
    {
        hooks.report(
            std::current_exception(), errc::out_of_memory, "a client could not be served", 0,
            remote);
    }

    /// Counts and registers a client before anything of it runs: a drain can neither miss it nor
    /// see it twice.
    bool enroll(connection_core& client, native::descriptor socket, const endpoint& remote)
    {
        client.local = local_endpoint_of(socket.get());
        if (remote.is_unix()) {
            native::tune_unix_connection(socket.get(), config.socket);
        } else if (hooks.callbacks.on_socket && !tune(socket, remote)) {
            return false;
        }
        if (const auto error = client.stream.assign(std::move(socket), remote.is_unix())) {
            throw std::system_error(error, "accept");
        }
        connections_.insert(client);
        evictor_.arrived(client);
        client.is_counted = true;
        counters.accepted.add();
        counters.open.add();
        client.emit(connection_event_kind::accepted);
        client.begin_pre_open();
        return true;
    }

    /// The user's hook works on a socket of Asio's usual type. False: it closed the socket.
    bool tune(native::descriptor& socket, const endpoint& remote)
    {
        asio::ip::tcp::socket lent(context);
        std::error_code error;
        const auto protocol = remote.address().is_v4() ? asio::ip::tcp::v4() : asio::ip::tcp::v6();
        lent.assign(protocol, socket.get(), error);
        if (error) {
            throw std::system_error(error, "accept");
        }
        socket.release();
        hooks.tune(lent);
        if (lent.is_open()) {
            socket.reset(lent.release(error));
        }
        return static_cast<bool>(socket);
    }

    endpoint local_endpoint_of(int socket) const noexcept
    {
        const auto& sockets = acceptor_.sockets();
        const endpoint& bound = sockets.local_endpoint();
        const bool is_any = bound.is_ip() && bound.address().is_unspecified();
        return native::unmapped(
            sockets.size() == 1 && !is_any ? bound : native::local_endpoint(socket));
    }

    void rejected(native::descriptor socket, const endpoint& remote) noexcept override
    {
        native::reset_on_close(socket.get());
        acceptor_.report_limit("max_connections");
        counters.accepted.add();
        counters.closed.add();
        counters.closed_by_reason[static_cast<std::size_t>(close_reason::rejected_by_limit)].add();
        connection_event event{
            .kind = connection_event_kind::accepted,
            .id = registry_entry().id(),
            .local = local_endpoint_of(socket.get()),
            .remote = native::unmapped(remote),
            .reason = close_reason::rejected_by_limit,
            .bytes_read = 0,
            .bytes_written = 0,
            .age = {},
            .code = {}};
        hooks.emit(event);
        socket.reset();
        event.kind = connection_event_kind::closed;
        event.code = errc::connection_refused_by_limit;
        hooks.emit(event);
    }

    bool make_room(eviction cause) noexcept override
    {
        return evictor_.make_room(std::move(cause));
    }

    void first_bytes_read(connection_core& client) noexcept override
    {
        evictor_.settled(client);
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP
