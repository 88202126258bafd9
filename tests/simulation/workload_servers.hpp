// The servers of the random workload: what they do with a connection, and the watch that is kept on
// every one of their promises.

#ifndef FAIRLEAD_TESTS_SIMULATION_WORKLOAD_SERVERS_HPP
#define FAIRLEAD_TESTS_SIMULATION_WORKLOAD_SERVERS_HPP

#include "simulation/choices.hpp"
#include "support/certificates.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/server.hpp>
#include <fairlead/testing/simulation.hpp>
#include <fairlead/tls.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace workload
{
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event;
using fairlead::connection_event_kind;
using fairlead::server_config;
using fairlead::testing::simulation;

/// A promise was broken.
[[noreturn]] inline void broken(const std::string& what)
{
    throw fairlead::testing::simulation_failure("broken: " + what);
}

/// What a server's handler does.
enum class service
{
    echo,    // what comes goes back
    polite,  // the same, and waits without a buffer
    lines,   // each line gets a reply
    upgrade, // lines, and TLS after the line STARTTLS
    whole,   // everything goes back when it is there: the client's end says so
    chaos,   // anything
};

/// Made before the first simulation begins, so that no two differ by it, and valid whatever a
/// simulation's calendar shows.
inline const test::certificate certificate({
    .common_name = "workload",
    .not_before = -std::chrono::hours(24 * 365 * 10),
    .not_after = std::chrono::hours(24 * 365 * 10),
});

inline fairlead::tls_config tls_rules()
{
    return {.certificate = certificate.certificate_pem, .private_key = certificate.key_pem};
}

inline asio::awaitable<void> echo(connection& client)
{
    std::array<char, 8192> buffer;
    while (const std::size_t n = co_await client.read_some(asio::buffer(buffer))) {
        co_await client.write(asio::buffer(buffer, n));
    }
}

inline asio::awaitable<void> polite(connection& client)
{
    std::array<char, 2048> buffer;
    while (co_await client.readable()) {
        const std::size_t n = co_await client.read_some(asio::buffer(buffer));
        if (n == 0) {
            break;
        }
        co_await client.write(asio::buffer(buffer, n));
    }
}

inline asio::awaitable<void> whole(connection& client)
{
    std::string all;
    std::array<char, 8192> buffer;
    while (const std::size_t n = co_await client.read_some(asio::buffer(buffer))) {
        all.append(buffer.data(), n);
    }
    co_await client.write(asio::buffer(all));
}

inline asio::awaitable<void> lines(connection& client, const fairlead::tls_context* upgrade)
{
    fairlead::framed messages(client, fairlead::codec::line{});
    for (auto message = co_await messages.next(); message; message = co_await messages.next()) {
        const std::string text(*message);
        if (upgrade != nullptr && client.tls() == nullptr && text == "STARTTLS") {
            co_await messages.send("go");
            co_await messages.start_tls(*upgrade);
        } else {
            co_await messages.send("re:" + text);
        }
    }
}

inline asio::awaitable<void> read_for_a_while(connection& client)
{
    std::array<char, 512> buffer;
    std::error_code ignored;
    for (int i = 0; i < 3; ++i) {
        co_await client.read_some(asio::buffer(buffer), ignored);
    }
}

inline asio::awaitable<void> wait_for_the_end(connection& client)
{
    co_await client.closed();
}

inline asio::awaitable<void> wait_for_a_drain(connection& client)
{
    co_await client.drain_begun();
}

inline asio::awaitable<void> fail_soon(connection& client, std::chrono::milliseconds after)
{
    asio::steady_timer timer(client.get_executor(), after);
    co_await timer.async_wait(asio::use_awaitable);
    throw std::runtime_error("a child fails");
}

inline asio::awaitable<void> chaos(connection& client, choices draw)
{
    using namespace std::chrono_literals;
    std::array<char, 1024> buffer;
    std::error_code error;
    const std::vector<char> much(static_cast<std::size_t>(draw.below(300'000)) + 1, 'm');
    for (std::uint64_t steps = draw.between(1, 12); steps > 0; --steps) {
        switch (draw.below(17)) {
        case 0:
        case 1:
        case 2:
            if (co_await client.read_some(asio::buffer(buffer), error) == 0) {
                co_return;
            }
            break;
        case 3:
        case 4:
            co_await client.write(asio::buffer(much), error);
            break;
        case 5:
            co_await client.readable(error);
            break;
        case 6: {
            asio::steady_timer timer(client.get_executor(), draw.between(0ms, 5000ms));
            co_await timer.async_wait(asio::use_awaitable);
            break;
        }
        case 7:
            client.expires_after(draw.between(0ms, 3000ms));
            break;
        case 8:
            client.spawn(read_for_a_while(client));
            break;
        case 9:
            client.spawn(draw.chance(50) ? wait_for_the_end(client) : wait_for_a_drain(client));
            break;
        case 10:
            client.spawn(fail_soon(client, draw.between(0ms, 2000ms)));
            break;
        case 11:
            co_await client.shutdown_send();
            break;
        case 12:
            client.close("enough");
            break;
        case 13:
            client.abort();
            break;
        case 14:
            co_await client.closed();
            break;
        case 15:
            throw std::runtime_error("a handler fails");
        default:
            co_await client.peek(draw.between(1, 8), error);
            break;
        }
    }
}

/// One server, and everything that its hooks have told.
class watched_server
{
public:
    struct seen
    {
        connection_event_kind last = connection_event_kind::accepted;
        close_reason reason = close_reason::peer_closed;
        std::chrono::nanoseconds accepted_at{};
        std::chrono::nanoseconds last_activity{};
        std::chrono::nanoseconds closed_at{};
        bool is_closed = false;
    };

    struct handler
    {
        watched_server* of;

        asio::awaitable<void> operator()(connection& client) const
        {
            return of->run(client);
        }
    };

    watched_server(simulation& in, service what, const server_config& how, choices& draw)
        : sim_(in),
          what_(what),
          config_(how),
          draw_(draw.below(1'000'000)),
          server_(in.add_server(handler{this}, how))
    {
        if (what == service::upgrade) {
            upgrade_.emplace(tls_rules());
        }
        server_.on_connection([this](const connection_event& event) { note(event); });
        server_.on_error([](const fairlead::error_event&) {});
        server_.on_server([this](const fairlead::server_event& event) { note(event); });
    }

    /// False: the system did not let it.
    bool try_to_start()
    {
        try {
            server_.start();
            return true;
        } catch (const std::system_error&) {
            return false;
        }
    }

    /// What must hold between any two steps.
    void check() const
    {
        if (!failure_.empty()) {
            broken(failure_);
        }
        const auto stats = server_.stats();
        if (stats.accepted != stats.closed + static_cast<std::uint64_t>(stats.open)) {
            broken(
                "accepted " + std::to_string(stats.accepted) + " = closed " +
                std::to_string(stats.closed) + " + open " + std::to_string(stats.open));
        }
        std::uint64_t by_reason = 0;
        for (const std::uint64_t count : stats.closed_by_reason) {
            by_reason += count;
        }
        if (by_reason != stats.closed || stats.opened > stats.accepted || stats.handlers < 0) {
            broken("the counters do not add up");
        }
        if (stats.accepted != accepted_ || stats.closed != closed_) {
            broken("the hooks were not told of every connection once");
        }
        if (has_few_places() && server_.connections().size() > config_.max_connections) {
            broken("more connections than max_connections");
        }
    }

    /// When everything is over.
    void check_at_the_end() const
    {
        check();
        if (server_.open_connections() != 0 || server_.stats().handlers != 0) {
            broken("a connection, or its handler, is left at the end");
        }
        for (const auto& [id, one] : connections_) {
            if (!one.is_closed) {
                broken("connection " + std::to_string(id) + " was never told to be closed");
            }
        }
    }

    /// The connection from there; null: it was not accepted yet. Valid as long as this.
    const seen* connection_of(const fairlead::testing::simulated::address& remote) const
    {
        const auto found = by_remote_.find(remote.text());
        return found == by_remote_.end() ? nullptr : &connections_.at(found->second);
    }

    /// Called when a drain has begun, before anything else of it.
    void on_draining(std::function<void()> action)
    {
        draining_ = std::move(action);
    }

    /// When the drain began that is under way; empty: none is.
    std::optional<std::chrono::nanoseconds> drains_since() const noexcept
    {
        return drains_since_;
    }

    std::uint64_t any_connection(choices& draw) const
    {
        return connections_.empty() ? 0 : draw.between(1, connections_.rbegin()->first);
    }

    fairlead::tcp_server<handler>& server() noexcept
    {
        return server_;
    }

    service what() const noexcept
    {
        return what_;
    }

    const server_config& config() const noexcept
    {
        return config_;
    }

    /// The clock is about to jump: what happens then may be noticed later than it happened.
    void expect_jump() noexcept
    {
        has_seen_jump_ = true;
    }

    bool has_seen_jump() const noexcept
    {
        return has_seen_jump_;
    }

    bool has_few_places() const noexcept
    {
        return config_.max_connections <= few;
    }

    bool speaks_tls_first() const noexcept
    {
        return config_.tls.has_value();
    }

private:
    asio::awaitable<void> run(connection& client)
    {
        switch (what_) {
        case service::echo:
            return echo(client);
        case service::polite:
            return polite(client);
        case service::lines:
            return lines(client, nullptr);
        case service::upgrade:
            return lines(client, &*upgrade_);
        case service::whole:
            return whole(client);
        case service::chaos:
            break;
        }
        return chaos(client, choices(draw_.below(1'000'000)));
    }

    /// What a hook throws is caught by the server: it is told at the next step.
    void failed(const std::string& what)
    {
        if (failure_.empty()) {
            failure_ = what;
        }
    }

    void note(const connection_event& event)
    {
        const bool is_known = connections_.contains(event.id);
        if ((event.kind == connection_event_kind::accepted) == is_known) {
            failed("accepted comes once, and first: connection " + std::to_string(event.id));
        }
        seen& one = connections_[event.id];
        if (one.is_closed) {
            failed("closed comes last: connection " + std::to_string(event.id));
        }
        one.last = event.kind;
        switch (event.kind) {
        case connection_event_kind::accepted:
            ++accepted_;
            one.accepted_at = sim_.now();
            by_remote_
                [event.remote.address().to_string() + ":" + std::to_string(event.remote.port())] =
                    event.id;
            break;
        case connection_event_kind::read:
        case connection_event_kind::write:
            one.last_activity = sim_.now();
            break;
        case connection_event_kind::closed:
            ++closed_;
            one.is_closed = true;
            one.reason = event.reason;
            one.closed_at = sim_.now();
            if (event.reason == close_reason::idle_timeout && config_.io_events &&
                sim_.now() - one.last_activity < config_.idle_timeout) {
                failed("an idle timeout came early");
            }
            if (event.reason == close_reason::handler_returned && what_ != service::chaos) {
                failed("a handler that serves until its peer has finished has returned before");
            }
            break;
        default:
            break;
        }
    }

    void note(const fairlead::server_event& event)
    {
        switch (event.kind) {
        case fairlead::server_event_kind::draining:
            drains_since_ = sim_.now();
            if (draining_) {
                draining_();
            }
            break;
        case fairlead::server_event_kind::stopped:
            drains_since_.reset();
            break;
        default:
            break;
        }
    }

    static constexpr std::size_t few = 10;

    simulation& sim_;
    service what_;
    server_config config_;
    choices draw_;
    std::optional<fairlead::tls_context> upgrade_;
    fairlead::tcp_server<handler>& server_;
    std::map<std::uint64_t, seen> connections_;
    std::map<std::string, std::uint64_t> by_remote_;
    std::uint64_t accepted_ = 0;
    std::uint64_t closed_ = 0;
    std::optional<std::chrono::nanoseconds> drains_since_;
    std::function<void()> draining_;
    std::string failure_;
    bool has_seen_jump_ = false;
};
} // namespace workload

#endif // FAIRLEAD_TESTS_SIMULATION_WORKLOAD_SERVERS_HPP
