// fairlead: tcp_server, a server on one address, TCP or Unix, and one single-threaded io_context.
// For all cores there is sharded_server.hpp; for main(), serve.hpp.

#ifndef FAIRLEAD_SERVER_HPP
#define FAIRLEAD_SERVER_HPP

#include <fairlead/config.hpp>
#include <fairlead/connection.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>
#include <fairlead/detail/server/operations.hpp>
#include <fairlead/detail/server/requests.hpp>
#include <fairlead/event.hpp>
#include <fairlead/handler.hpp>
#include <fairlead/hooks.hpp>
#include <fairlead/tls.hpp>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// Accepts clients and runs `Handler` for each.
///
///     created ── start() ──> running ── shutdown() ──> draining ──> stopped
///        ^                      └───────── close() ───────────────────^│
///        └──────────────────────────────────── open() ─────────────────┘
///
/// Returning from the handler closes its connection in order; an exception that leaves it closes
/// the connection and is reported to `on_error`. Neither touches the server.
///
/// Threads: the io_context is run by one thread at a time, and everything happens there. `state`,
/// `is_running`, `is_gone`, `open_connections`, `stats`, `connections`, `close`,
/// `close_connection`, `shutdown` and `set_tls` may be called from any thread; the others on the
/// context's thread, or while nothing runs the context. What is called from a hook or a handler takes effect after it.
///
/// Lifetime: the io_context outlives the server. A handler that still runs when the server is
/// stopped or destroyed keeps the `Handler` object alive, its connection, which is closed, and its
/// place in `max_connections`.
///
/// Out of memory: a client for whom there is none is closed and told of in `on_error`; accepting,
/// timers, drains and stops go on, with memory put aside for them. Asio is less careful: when the
/// start of an awaited operation, or of a coroutine, needs new memory and finds none, Asio 1.22 ends
/// the process (it starts both from functions that are `noexcept`), and Asio 1.30 destroys the
/// coroutine, and with a handler its connection, and lets `std::bad_alloc` out of
/// `io_context::run()`, which may be called again. So does either where an operation's error is made
/// into an exception. Once warm, an operation's start needs none.
template <connection_handler Handler>
class tcp_server
{
public:
    /// Loads and checks everything that `config` names; listens to nothing yet. Throws
    /// `std::system_error`: `errc::invalid_handler`, `invalid_address`, `invalid_config`,
    /// `invalid_tls_config`.
    tcp_server(asio::io_context& context, Handler handler, server_config config = {})
        : core_(context, std::move(handler), detail::checked(std::move(config)))
    {}

    tcp_server(const tcp_server&) = delete;
    tcp_server& operator=(const tcp_server&) = delete;

    /// Closes whatever is open, as `close()` does, before it returns. On the context's thread, or
    /// while nothing runs the context, and never from a hook or a handler. No hook is called
    /// afterwards.
    ~tcp_server() = default;

    /// Hooks: to be set before `open()`; afterwards, until the server has stopped, and from a hook,
    /// setting one throws `std::system_error` with `errc::already_running`. An empty function
    /// removes it.
    void on_error(std::function<void(const error_event&)> hook)
    {
        core_->settable_hooks().on_error = std::move(hook);
    }

    void on_connection(std::function<void(const connection_event&)> hook)
    {
        core_->settable_hooks().on_connection = std::move(hook);
    }

    void on_server(std::function<void(const server_event&)> hook)
    {
        core_->settable_hooks().on_server = std::move(hook);
    }

    /// Runs right after accept, before anything else happens to the socket. Not called for clients
    /// of Unix sockets.
    void on_socket(std::function<void(asio::ip::tcp::socket&)> hook)
    {
        core_->settable_hooks().on_socket = std::move(hook);
    }

    /// Binds and listens, so that the port is known; clients wait until `start()`. Resolves names,
    /// which may block. Throws `std::system_error`: `errc::already_running` when it is open,
    /// `errc::invalid_address` when the name does not resolve, `errc::invalid_config` when
    /// `unix_socket_config` names nobody, else the kernel's code (`std::errc::address_in_use`,
    /// `permission_denied`).
    void open()
    {
        core_->open();
    }

    /// Opens, unless that was done, and accepts from then on, as long as the context runs. Throws
    /// as `open()`.
    void start()
    {
        core_->start();
    }

    /// `start()` for coroutines: completes when the server has stopped, whoever stopped it. A
    /// `close()` that is called after this function, and before the coroutine has begun, stops it
    /// as well. Throws as `open()`.
    asio::awaitable<void> listen()
    {
        return detail::listen(core_.shared());
    }

    /// Stops accepting and lets the handlers finish: `connection::draining()` turns true, and
    /// connections that wait in `readable()` with nothing to read are closed at once. A TLS
    /// handshake that has begun goes on, and the first request behind it is served; when none comes
    /// within a second, `readable()` is false there too. Completes when the last handler and the
    /// last child of one has returned and every connection is closed, or at the deadline, when
    /// those left are closed and named in the report. A negative or zero deadline: at once.
    ///
    /// A second call joins the first, and can only shorten it. On a server that is not running,
    /// completes at once with an empty report. Takes effect when it is awaited; may be awaited in
    /// any context.
    ///
    /// Clients that the kernel has queued when the drain begins are accepted and served like those
    /// in a handshake, within the deadline and as `max_connections` permits; those who come later
    /// are refused by the kernel.
    asio::awaitable<drain_report> shutdown(std::chrono::milliseconds deadline)
    {
        return detail::shutdown(core_.shared(), deadline);
    }

    /// Stops accepting and closes every connection now: operations end with `errc::server_closed`.
    /// Returns before it is done: `is_running()` is false at once, `state()` is `stopped` when it
    /// is done. Idempotent.
    void close()
    {
        detail::request_close(*core_);
    }

    /// Closes one connection in order; its pending operation ends with `errc::server_closed`.
    /// False: there is none of this id. Returns before it is done.
    bool close_connection(std::uint64_t id)
    {
        return detail::request_close_connection(*core_, id);
    }

    /// For the next `open()`. Throws `std::system_error`: `errc::invalid_address`, or
    /// `errc::already_running`.
    void set_address(std::string address)
    {
        core_->require_stopped();
        detail::check_address(address);
        core_->home.config.address = std::move(address);
    }

    /// Listens, from the next `open()` until it stops, on a socket that somebody else has made,
    /// TCP or Unix, in place of the configured address: one that a parent process passes on, or
    /// systemd (from descriptor 3 on, sd_listen_fds(3)). Called several times, on all of them.
    ///
    /// The descriptor is the server's from here on, which closes it when it stops; whoever holds
    /// another one for the same socket goes on listening. It becomes non-blocking, for all who hold
    /// it, and close-on-exec. Options of `socket_config` that hold for connections apply; those
    /// of binding, the queue's length and the file of a Unix socket are its maker's.
    ///
    /// Throws `std::system_error`, and the descriptor stays the caller's: `errc::already_running`;
    /// `std::errc::bad_file_descriptor`, `not_a_socket`; `address_family_not_supported` when it is
    /// neither TCP nor Unix; `invalid_argument` when it is no stream socket or does not listen.
    void adopt_listener(int fd)
    {
        core_->adopt_listener(fd);
    }

    /// New connections get this certificate and these rules, or no TLS when it is empty; those
    /// that exist keep theirs. Reads the files that it names. Throws `std::system_error` with
    /// `errc::invalid_tls_config` when it cannot be used: nothing changes then, and `on_error` is
    /// told.
    void set_tls(std::optional<tls_config> config)
    {
        detail::request_tls(*core_, detail::load_tls(*core_, config));
    }

    server_state state() const noexcept
    {
        return core_->state();
    }

    /// Accepting (or about to, with clients waiting in the kernel because of a limit).
    bool is_running() const noexcept
    {
        return state() == server_state::running;
    }

    /// Draining or stopped.
    bool is_gone() const noexcept
    {
        const auto now = state();
        return now == server_state::draining || now == server_state::stopped;
    }

    /// Accepted, and its socket not closed. Handlers may be running that have closed theirs:
    /// `stats().handlers`.
    std::int64_t open_connections() const noexcept
    {
        return core_->home.counters.open.get();
    }

    server_stats stats() const noexcept
    {
        return core_->home.stats();
    }

    /// The bound address, of several the first; none before the first `open()`. Stays known after
    /// the server stopped.
    endpoint local_endpoint() const
    {
        return core_->local_endpoint();
    }

    /// The live connections, and those closed ones whose handlers are still running, in the order
    /// in which they came. Any thread, whether or not something runs the context. Nobody comes or
    /// goes while it looks; numbers of one connection that change together may be seen one step
    /// apart.
    std::vector<connection_info> connections() const
    {
        return core_->list();
    }

private:
    detail::server_owner<Handler> core_;
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_SERVER_HPP
