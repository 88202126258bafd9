// What the Go package gets wrong, by id (B...), and its idle manager's specs (GI-...), where no test
// of a capability says it already. README.md here has every id.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/steady_timer.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <future>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::eventually;
using test::speaks;
using clock_type = std::chrono::steady_clock;
using kind = connection_event_kind;

namespace
{
asio::awaitable<void> wait_at_gate(connection&, test::gate& gate)
{
    co_await gate.wait();
}

asio::awaitable<void> work_for_a_while(connection& connection)
{
    char byte = 0;
    co_await connection.read_some(asio::buffer(&byte, 1));
    asio::steady_timer timer(connection.get_executor(), 1200ms);
    co_await timer.async_wait(asio::use_awaitable);
    co_await connection.write(asio::buffer("done", 4));
}

/// A blocking connection from a chosen address and port, which others may use as well.
class bound_client
{
public:
    /// From 127.0.0.5, port `from` (0: any free one), to `address`, port `port`.
    bound_client(std::uint16_t from, const char* address, std::uint16_t port)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        const int on = 1;
        const timeval patience{.tv_sec = 10, .tv_usec = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        sockaddr_in own = endpoint("127.0.0.5", from);
        const sockaddr_in target = endpoint(address, port);
        connected_ = ::bind(fd_, reinterpret_cast<const sockaddr*>(&own), sizeof own) == 0 &&
                     ::connect(fd_, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0;
        socklen_t size = sizeof own;
        ::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size);
        local_port_ = ntohs(own.sin_port);
    }

    bound_client(const bound_client&) = delete;
    bound_client& operator=(const bound_client&) = delete;

    ~bound_client()
    {
        ::close(fd_);
    }

    bool connected() const
    {
        return connected_;
    }

    std::uint16_t local_port() const
    {
        return local_port_;
    }

    bool echoes(const std::string& text)
    {
        std::string answer(text.size(), '\0');
        return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) ==
                   static_cast<ssize_t>(text.size()) &&
               ::recv(fd_, answer.data(), answer.size(), MSG_WAITALL) ==
                   static_cast<ssize_t>(text.size()) &&
               answer == text;
    }

    /// FIN comes, and nothing before it.
    bool ends()
    {
        char byte = 0;
        return ::recv(fd_, &byte, 1, 0) == 0;
    }

private:
    static sockaddr_in endpoint(const char* address, std::uint16_t port)
    {
        sockaddr_in made{};
        made.sin_family = AF_INET;
        made.sin_port = htons(port);
        ::inet_pton(AF_INET, address, &made.sin_addr);
        return made;
    }

    int fd_;
    bool connected_ = false;
    std::uint16_t local_port_ = 0;
};
} // namespace

TEST_CASE("B6 a drain's deadline of 30 s is not cut to one", "[parity][drain]")
{
    test::running_server running(&work_for_a_while);
    running.start();
    test::client client(running.port());
    client.send("x");
    REQUIRE(eventually([&] { return running.server.stats().bytes_read == 1; }));
    auto draining = running.shutdown(30s);
    CHECK(client.receive_rest().bytes == "done"); // 1.2 s later
    client.close();
    REQUIRE(draining.wait_for(test::patience) == std::future_status::ready);
    const auto report = draining.get();
    CHECK(report.drained == 1);
    CHECK(report.stragglers.empty());
}

TEST_CASE("B14 under TLS a socket has the options too, and the hook the last word", "[parity][tls]")
{
    test::running_server running(&test::echo, test::local_config(speaks::tls));
    test::mailbox<std::pair<bool, bool>> found; // no_delay, keep_alive
    std::atomic<int> descriptor = -1;
    running.server.on_socket([&](asio::ip::tcp::socket& socket) {
        asio::ip::tcp::no_delay no_delay;
        asio::socket_base::keep_alive keep_alive;
        socket.get_option(no_delay);
        socket.get_option(keep_alive);
        found.put({no_delay.value(), keep_alive.value()});
        socket.set_option(asio::socket_base::keep_alive(false));
        descriptor = socket.native_handle();
    });
    running.start();
    test::peer peer(running.port(), speaks::tls);
    peer.send("hello");
    CHECK(peer.receive(5) == "hello");
    CHECK(found.take() == std::pair(true, true));
    int keep_alive = -1;
    socklen_t size = sizeof keep_alive;
    REQUIRE(::getsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &keep_alive, &size) == 0);
    CHECK(keep_alive == 0);
}

TEST_CASE("B17 B23 TLS clients that do not answer a close delay nobody", "[parity][idle][tls]")
{
    auto config = test::local_config(speaks::tls);
    config.idle_timeout = 300ms;
    config.linger = 1h; // a close that blocks others would block them for ever
    config.tls_close_timeout = 1h;
    test::running_server running(&test::echo, config);
    running.start();
    std::vector<test::peer> silent;
    for (int i = 0; i < 8; ++i) {
        silent.emplace_back(running.port(), speaks::tls);
    }
    REQUIRE(running.log.wait_for(kind::close_write, silent.size())); // each is being closed
    CHECK(running.log.count(kind::closed) == 0);
    {
        test::peer newcomer(running.port(), speaks::tls);
        newcomer.send("served");
        CHECK(newcomer.receive(6) == "served");
        newcomer.finish();
        CHECK(newcomer.receive_rest().end == test::stream_end::finished);
    }
    REQUIRE(running.log.wait_for(kind::closed));
    CHECK(running.log.count(kind::closed) == 1);
    auto draining = running.shutdown(200ms);
    CHECK(draining.wait_for(test::patience) == std::future_status::ready);
    CHECK(running.server.open_connections() == 0);
    CHECK(running.server.state() == server_state::stopped);
}

TEST_CASE("B18 connections from one remote address and port are told apart", "[parity]")
{
    test::running_server running(&test::echo, {.address = "0.0.0.0:0"});
    running.start();
    bound_client first(0, "127.0.0.1", running.port());
    REQUIRE(first.connected());
    bound_client second(first.local_port(), "127.0.0.2", running.port());
    REQUIRE(second.connected());
    REQUIRE(running.log.wait_for(kind::opened, 2));
    const auto events = running.log.connections();
    std::optional<connection_event> to_first;
    for (const auto& event : events) {
        CHECK(event.remote == events.front().remote);
        if (event.local.address() == asio::ip::make_address("127.0.0.1")) {
            to_first = event;
        }
    }
    REQUIRE(to_first);
    CHECK(running.server.open_connections() == 2);
    CHECK(running.server.connections().size() == 2);
    CHECK(running.server.close_connection(to_first->id));
    CHECK(first.ends());
    CHECK(second.echoes("not me"));
}

TEST_CASE("B22 a drain waits without waking", "[parity][drain]")
{
    test::gate gate;
    asio::io_context context(1);
    test::event_log log;
    const auto hold = test::scripted{wait_at_gate, &gate};
    tcp_server server(context, hold, test::local_config());
    log.attach(server);
    server.start();
    test::client client(server.local_endpoint().port());
    while (gate.waiting() == 0) {
        REQUIRE(context.run_one_for(test::patience) == 1);
    }
    auto draining = asio::co_spawn(context, server.shutdown(1h), asio::use_future);
    while (log.count(server_event_kind::draining) == 0) {
        REQUIRE(context.run_one_for(test::patience) == 1);
    }
    context.poll();
    CHECK(context.run_for(300ms) <= 2); // polled every 3 ms it would be a hundred
    client.finish();
    gate.open();
    const auto limit = clock_type::now() + test::patience;
    while (draining.wait_for(0ms) != std::future_status::ready && clock_type::now() < limit) {
        context.run_one_for(100ms);
    }
    REQUIRE(draining.wait_for(0ms) == std::future_status::ready);
    CHECK(draining.get().drained == 1);
}

TEST_CASE("B31 a hook that shuts down while the server drains blocks nobody", "[parity][drain]")
{
    test::running_server running(&test::echo);
    std::atomic<int> drains = 0;
    std::future<drain_report> from_hook;
    running.server.on_server([&](const server_event& event) {
        if (event.kind == server_event_kind::draining) {
            ++drains;
            from_hook = running.shutdown(1min);
        } else if (event.kind == server_event_kind::stopped) {
            running.server.close();
        }
    });
    running.start();
    test::client client(running.port());
    client.send("x");
    CHECK(client.receive(1) == "x");
    auto report = running.shutdown(1min);
    client.finish();
    REQUIRE(report.wait_for(test::patience) == std::future_status::ready);
    CHECK(report.get().stragglers.empty());
    REQUIRE(from_hook.wait_for(test::patience) == std::future_status::ready);
    CHECK(from_hook.get().stragglers.empty());
    CHECK(drains == 1);
    CHECK(running.server.state() == server_state::stopped);
}

// -- the idle manager -------------------------------------------------------------------------------

TEST_CASE("GI-03 GI-11 GI-12 idle timeouts work again after a restart", "[parity][idle]")
{
    auto config = test::local_config();
    config.idle_timeout = 200ms;
    test::running_server running(&test::echo, config);
    running.start();
    auto port = running.port();
    for (std::size_t round = 1; round <= 3; ++round) {
        CAPTURE(round);
        {
            test::client silent(port);
            CHECK(silent.receive_rest().end == test::stream_end::finished);
        }
        REQUIRE(running.log.wait_for(kind::closed, round));
        CHECK(running.server.stats().closed_by(close_reason::idle_timeout) == round);
        running.server.close();
        REQUIRE(running.log.wait_for(server_event_kind::stopped, round)); // GI-10 GI-11
        running.on_shard([&] { running.server.start(); });
        port = running.on_shard([&] { return running.port(); });
    }
}

TEST_CASE("GI-09 of two clients only the silent one is closed, until both are", "[parity][idle]")
{
    auto config = test::local_config();
    config.idle_timeout = 1s;
    config.linger = 0ms; // `closed` comes with the timeout
    test::running_server running(&test::echo, config);
    running.start();
    test::client busy(running.port());
    test::client silent(running.port());
    const auto limit = clock_type::now() + test::patience;
    auto pause = clock_type::duration::zero();
    auto last = clock_type::now();
    while (running.log.closed().empty() && clock_type::now() < limit) {
        pause = std::max(pause, clock_type::now() - last);
        last = clock_type::now();
        if (!busy.try_send("x")) {
            break;
        }
        std::this_thread::sleep_for(20ms); // it talks now and then
    }
    REQUIRE(running.log.wait_for(kind::closed));
    if (pause >= 500ms) {
        SKIP_TEST("this machine is too busy for a statement about time");
    }
    CHECK(running.log.closed().front().remote.port() == silent.local_port());
    CHECK(running.log.closed().front().reason == close_reason::idle_timeout);
    CHECK(running.server.open_connections() == 1);
    CHECK(busy.receive(1) == "x");
    CHECK(busy.receive_rest().end == test::stream_end::finished); // silent itself now
    CHECK(clock_type::now() - last >= 1s);
    REQUIRE(running.log.wait_for(kind::closed, 2));
    CHECK(running.server.stats().closed_by(close_reason::idle_timeout) == 2);
}
