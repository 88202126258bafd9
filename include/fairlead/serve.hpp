// fairlead: serve(), a whole server process in one call: all cores, signals, drain.

#ifndef FAIRLEAD_SERVE_HPP
#define FAIRLEAD_SERVE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/running_server.hpp>
#include <fairlead/sharded_server.hpp>
#include <fairlead/signals.hpp>

#include <asio/io_context.hpp>

#include <chrono>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// What `serve` adds to a server's configuration.
struct serve_config
{
    /// Threads, and how clients get to them.
    shard_config shards = {};
    /// Called on the shards' threads, several at a time; `on_server` as `sharded_server::on_server`
    /// says.
    fairlead::hooks hooks = {};
    /// Called once, on the thread that called `serve`, when all shards listen: with the server,
    /// which may be looked at and stopped from any thread until `serve` returns. Clients are served
    /// and signals are heard meanwhile. What it throws, `serve` throws, once everything is closed.
    std::function<void(running_server&)> on_start = {};
    /// Sockets that listen already, to be served in place of `server_config::address`, as
    /// `tcp_server::adopt_listener` says: of systemd those from descriptor 3 on. Empty: none.
    std::vector<int> adopted_listeners = {};
};

namespace detail
{
/// A thread that waits for signals, as long as it lives.
class signal_thread
{
public:
    /// Takes the signals over; they wait for `start()`.
    explicit signal_thread(signal_actions actions) : watch_(context_, std::move(actions))
    {}

    signal_thread(const signal_thread&) = delete;
    signal_thread& operator=(const signal_thread&) = delete;

    ~signal_thread()
    {
        context_.stop();
        if (thread_.joinable()) {
            thread_.join();
        }
    }

    void start()
    {
        thread_ = std::thread([this] { run(); });
    }

private:
    void run()
    {
        while (!context_.stopped()) {
            try {
                context_.run();
            } catch (...) { // no memory for what a signal asks for: perhaps for the next one
            }
        }
    }

    asio::io_context context_{1};
    signal_watch watch_;
    std::thread thread_;
};
} // namespace detail

/// Serves until SIGINT or SIGTERM, drains for `server_config::drain_timeout`, and returns how that
/// went. A second signal closes everything at once; SIGHUP reads the TLS files again (a failure
/// goes to `on_error`, and the old ones stay). Returns as well when `running_server::shutdown` or
/// `close` has stopped it. The signals' dispositions are afterwards as they were. Blocks, and
/// prints nothing; call it from one thread at a time.
///
/// Throws `std::system_error` as `sharded_server` does, before anything is served: catch it in
/// `main`, or a port that is taken ends the process without a word of why.
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
    for (const int each : options.adopted_listeners) {
        server.adopt_listener(each);
    }
    running_server handle(server);

    signal_actions actions{
        .drain = [&] { handle.shutdown(drain_timeout); }, .close = [&] { handle.close(); }};
    if (has_tls) {
        actions.reload = [&] {
            try {
                server.reload_tls();
            } catch (const std::system_error&) { // on_error has been told
            }
        };
    }
    detail::signal_thread signals(std::move(actions));
    server.start();
    signals.start();
    if (options.on_start) {
        options.on_start(handle);
    }
    return server.join();
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_SERVE_HPP
