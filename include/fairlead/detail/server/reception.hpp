// fairlead: how a client becomes a connection of its server: counted, registered, begun; or turned
// away. How the server stops is in server/core.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP
#define FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP

#include <fairlead/connection.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/acceptor.hpp>
#include <fairlead/detail/server/adopted_listener.hpp>
#include <fairlead/detail/server/evictor.hpp>
#include <fairlead/detail/server/open_listeners.hpp>

#include <algorithm>
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
/// What comes of a client.
class reception_listener
{
public:
    reception_listener() = default;
    reception_listener(const reception_listener&) = delete;
    reception_listener& operator=(const reception_listener&) = delete;

    /// It has its place in the limit, and is not counted yet.
    virtual void client_came(
        native::descriptor socket, const endpoint& remote, connection_place place) noexcept = 0;

    /// Who had been queued when the drain began has been taken; nobody comes any more.
    virtual void all_have_come() noexcept = 0;

protected:
    ~reception_listener() = default;
};

/// A part of its server.
class reception final : private accept_sink
{
public:
    reception(
        environment& home, connection_owner& owner, registry<connection_core>& connections,
        const std::shared_ptr<connection_limit>& limit, reception_listener& told)
        : acceptor(home, limit, *this),
          evictor(home, connections, acceptor, limit),
          home_(home),
          owner_(owner),
          connections_(connections),
          told_(told)
    {}

    /// Makes it a connection, counted and registered; null: a hook has closed its socket. Throws.
    connection_ref enroll(native::descriptor socket, const endpoint& remote, connection_place place)
    {
        connection_ref client = make_connection(home_, owner_, remote);
        client->place = std::move(place);
        return enroll(*client, std::move(socket), remote) ? client : connection_ref();
    }

    /// Tells of what is being thrown.
    void could_not_serve(const endpoint& remote) noexcept
    {
        home_.hooks.report(
            std::current_exception(), errc::out_of_memory, "a client could not be served", 0,
            remote);
    }

    /// For the next opening, in place of the configured address.
    void adopt_listener(int fd)
    {
        if (std::any_of(adopted_.begin(), adopted_.end(), [fd](const listener& each) {
                return each.socket.get() == fd;
            })) {
            throw std::system_error(
                std::make_error_code(std::errc::invalid_argument),
                "adopt_listener(" + std::to_string(fd) + "): it was adopted before");
        }
        adopted_.reserve(adopted_.size() + 1); // nothing fails once it is ours
        adopted_.push_back(detail::adopt(fd, home_.config));
    }

    bool has_adopted() const noexcept
    {
        return !adopted_.empty();
    }

    std::vector<listener> make_listeners()
    {
        return has_adopted() ? std::exchange(adopted_, {})
                             : open_listeners(home_.context, home_.config);
    }

    /// `is_adopted`: by the address of the socket, and not by the configured one.
    void tell_of_opening(const std::vector<refused_option>& refused, bool is_adopted)
    {
        const endpoint& local = acceptor.sockets().local_endpoint();
        acceptor.emit(
            server_event_kind::listening, {},
            is_adopted ? local.to_string() : home_.config.address);
        for (const auto& [name, why] : refused) {
            const std::string what = std::string(name) + ": " + why.message();
            acceptor.emit(server_event_kind::option_refused, why, what);
        }
        if (const auto what = why_queue_is_shorter(home_.config); !what.empty()) {
            acceptor.emit(server_event_kind::limit_reached, {}, what);
        }
    }

    /// Where accepted clients go when it is not here; for one acceptor that serves several shards.
    /// False: they were not taken, and this server serves them. Throws when there is no memory; they
    /// are gone then.
    std::function<bool(native::descriptor&, const endpoint&, connection_place&)> forward;

    detail::acceptor acceptor;
    detail::evictor evictor;

private:
    void accepted(
        native::descriptor socket, const endpoint& remote, connection_place place) noexcept override
    {
        try {
            if (!forward || !forward(socket, remote, place)) {
                told_.client_came(std::move(socket), remote, std::move(place));
            }
        } catch (...) {
            could_not_serve(remote);
        }
    }

    /// Counts and registers a client before anything of it runs: a drain can neither miss it nor
    /// see it twice.
    bool enroll(connection_core& client, native::descriptor socket, const endpoint& remote)
    {
        client.local = local_endpoint_of(socket.get());
        if (remote.is_unix()) {
            native::tune_unix_connection(socket.get(), home_.config.socket);
        } else if (home_.hooks.callbacks.on_socket && !tune(socket, remote)) {
            return false;
        }
        if (const auto error = client.stream.assign(std::move(socket), remote.is_unix())) {
            throw std::system_error(error, "accept");
        }
        connections_.insert(client);
        evictor.arrived(client);
        client.is_counted = true;
        home_.counters.accepted.add();
        home_.counters.open.add();
        client.emit(connection_event_kind::accepted);
        client.begin_pre_open();
        return true;
    }

    /// The user's hook works on a socket of Asio's usual type. False: it closed the socket.
    bool tune(native::descriptor& socket, const endpoint& remote)
    {
        asio::ip::tcp::socket lent(home_.context);
        std::error_code error;
        const auto protocol = remote.address().is_v4() ? asio::ip::tcp::v4() : asio::ip::tcp::v6();
        lent.assign(protocol, socket.get(), error);
        if (error) {
            throw std::system_error(error, "accept");
        }
        socket.release();
        home_.hooks.tune(lent);
        if (lent.is_open()) {
            socket.reset(lent.release(error));
        }
        return static_cast<bool>(socket);
    }

    endpoint local_endpoint_of(int socket) const noexcept
    {
        const auto& sockets = acceptor.sockets();
        const endpoint& bound = sockets.local_endpoint();
        const bool is_any = bound.is_ip() && bound.address().is_unspecified();
        return native::unmapped(
            sockets.size() == 1 && !is_any ? bound : native::local_endpoint(socket));
    }

    void rejected(native::descriptor socket, const endpoint& remote) noexcept override
    {
        native::reset_on_close(socket.get());
        acceptor.report_limit("max_connections");
        home_.counters.accepted.add();
        home_.counters.closed.add();
        home_.counters.closed_by_reason[static_cast<std::size_t>(close_reason::rejected_by_limit)]
            .add();
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
        home_.hooks.emit(event);
        socket.reset();
        event.kind = connection_event_kind::closed;
        event.code = errc::connection_refused_by_limit;
        home_.hooks.emit(event);
    }

    bool make_room(eviction cause) noexcept override
    {
        return evictor.make_room(std::move(cause));
    }

    void finished() noexcept override
    {
        told_.all_have_come();
    }

    environment& home_;
    connection_owner& owner_;
    registry<connection_core>& connections_;
    reception_listener& told_;
    std::vector<listener> adopted_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_RECEPTION_HPP
