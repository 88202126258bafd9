// fairlead: serve(), a whole server process in one call: all cores, signals, drain.

#ifndef FAIRLEAD_SERVE_HPP
#define FAIRLEAD_SERVE_HPP

#include <fairlead/sharded_server.hpp>
#include <fairlead/signals.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace fairlead
{
/// What `serve` adds to a server's configuration.
struct serve_config
{
    /// Threads, and how clients get to them.
    shard_config shards = {};
    /// Called on the shards' threads, several at a time.
    fairlead::hooks hooks = {};
};

/// Serves until SIGINT or SIGTERM, drains for `server_config::drain_timeout`, and returns how that
/// went. A second signal closes everything at once; SIGHUP reads the TLS files again (a failure
/// goes to `on_error`, and the old ones stay). The signals' dispositions are afterwards as they
/// were. Blocks; call it from one thread at a time.
///
/// Throws `std::system_error` as `sharded_server` does, before anything is served.
/// \code
/// int main() { fairlead::serve(echo, {.address = ":7777", .idle_timeout = 5min}); }
/// \endcode
template <connection_handler Handler>
drain_report serve(Handler handler, server_config config = {}, serve_config options = {})
{
    const auto drain_timeout =
        config.drain_timeout.count() != 0 ? config.drain_timeout : std::chrono::milliseconds::max();
    const bool has_tls = config.tls.has_value();
    sharded_server<Handler> server(std::move(handler), std::move(config), options.shards);
    server.on_error(std::move(options.hooks.on_error));
    server.on_connection(std::move(options.hooks.on_connection));
    server.on_server(std::move(options.hooks.on_server));
    server.on_socket(std::move(options.hooks.on_socket));

    asio::io_context control(1);
    drain_report report;
    std::thread drainer;
    signal_actions actions{
        .drain =
            [&] {
                drainer = std::thread([&] { // the control thread stays free for a second signal
                    report = server.shutdown(drain_timeout);
                    control.stop();
                });
            },
        .close = [&] { server.close(); }};
    if (has_tls) {
        actions.reload = [&] {
            try {
                server.reload_tls();
            } catch (const std::system_error&) { // on_error has been told
            }
        };
    }
    signal_watch watch(control, std::move(actions));
    server.start();
    control.run();
    drainer.join();
    return report;
}
} // namespace fairlead

#endif // FAIRLEAD_SERVE_HPP
