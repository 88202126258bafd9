// fairlead: what any thread may ask of a server: it is posted, and done on the server's own.

#ifndef FAIRLEAD_DETAIL_SERVER_REQUESTS_HPP
#define FAIRLEAD_DETAIL_SERVER_REQUESTS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>

#include <asio/post.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// `stop(server, is_current)`: whether the run is up of which this was asked. It counts as asked for
/// from here on.
template <typename Stop>
void request_stop(std::shared_ptr<server_core> server, Stop&& stop)
{
    const unsigned run = server->ask_to_stop();
    const auto executor = server->get_executor();
    asio::post(
        executor, [server = std::move(server), run, stop = std::forward<Stop>(stop)]() mutable {
            const bool is_current = server->is_to_stop(run);
            stop(*server, is_current);
        });
}

inline void request_close(server_core& server)
{
    request_stop(server.shared_from_this(), [](server_core& core, bool is_current) {
        if (is_current) {
            core.end_run();
        }
    });
}

/// `server`: the caller's hold on it ends here, before anybody can hear of the drain's end. Who waits
/// in another context must not be the last to let go: the server's own is gone by then.
inline void request_drain(
    std::shared_ptr<server_core> server, std::chrono::milliseconds timeout,
    std::unique_ptr<drain_account::waiter> caller)
{
    const auto asked_at = server_core::clock::now();
    const auto deadline = later(asked_at, std::max(timeout, std::chrono::milliseconds(0)));
    request_stop(
        std::move(server), [asked_at, deadline, caller = std::move(caller)](
                               server_core& core, bool is_current) mutable {
            if (is_current) {
                core.drain_until(asked_at, deadline, std::move(caller));
            } else {
                wait_queue<drain_report>::complete(std::move(caller), {});
            }
        });
}

/// False: there is none of this id.
inline bool request_close_connection(server_core& server, std::uint64_t id)
{
    if (!server.has_connection(id)) {
        return false;
    }
    asio::post(server.get_executor(), [core = server.shared_from_this(), id] {
        if (connection_core* const found = core->find_connection(id)) {
            found->stop_in_order(close_reason::server_closed, errc::server_closed);
        }
    });
    return true;
}

/// New handshakes use `next`; null: new connections are plain.
inline void request_tls(server_core& server, std::shared_ptr<const tls_context> next)
{
    asio::post(
        server.get_executor(),
        [core = server.shared_from_this(), next = std::move(next)]() mutable {
            core->use_tls(std::move(next));
        });
}

inline void request_report(server_core& server, std::error_code code, std::string what)
{
    asio::post(
        server.get_executor(), [core = server.shared_from_this(), code, what = std::move(what)] {
            core->home.hooks.emit(error_event{.code = code, .what = what});
        });
}

/// A client that another server's acceptor took, with its place in the shared limit. False: this one
/// has stopped, and the client is still the caller's. Throws when there is no memory; the client is
/// gone then.
inline bool request_adopt(
    server_core& server, native::descriptor& socket, const endpoint& remote,
    connection_place& place)
{
    if (!server.arrivals.announce()) {
        return false;
    }
    try {
        asio::post(
            server.get_executor(), [core = server.shared_from_this(), socket = std::move(socket),
                                    remote, place = std::move(place)]() mutable {
                core->expected_client_came(std::move(socket), remote, std::move(place));
            });
    } catch (...) {
        server.arrivals.arrived();
        throw;
    }
    return true;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_REQUESTS_HPP
