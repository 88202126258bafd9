// Several shards on one port: how clients get to them, and what the server says of them all together. Starting and
// stopping is in shards_lifecycle.cpp.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/sharded_server.hpp>

#include <asio/steady_timer.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <poll.h>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::client_distribution;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::server_event_kind;
using fairlead::server_state;
using test::event_log;

namespace shards_test
{
/// Says how many clients this copy of the handler has served: two digits.
struct counting_handler
{
    int served = 0; // no atomic: a copy belongs to one thread

    asio::awaitable<void> operator()(fairlead::connection& connection)
    {
        const int number = ++served;
        const std::string text = {
            static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10)};
        co_await connection.write(asio::buffer(text));
        co_await connection.readable();
    }
};

/// Does what its client's first letter says, and answers that it has begun.
///   i: waits for a request; r: reads, and does not look for a drain; d: works until the drain, then says "bye"
asio::awaitable<void> obedient(fairlead::connection& connection)
{
    std::array<char, 1> order{};
    co_await connection.read(asio::buffer(order));
    co_await connection.write(asio::buffer("+", 1));
    if (order[0] == 'i') {
        co_await connection.readable();
    } else if (order[0] == 'r') {
        co_await connection.read_some(asio::buffer(order));
    } else {
        asio::steady_timer timer(connection.get_executor());
        while (!connection.draining()) {
            timer.expires_after(1ms);
            co_await timer.async_wait(asio::use_awaitable);
        }
        co_await connection.write(asio::buffer("bye", 3));
    }
}
} // namespace shards_test

namespace
{
test::client ordered(std::uint16_t port, const std::string& order)
{
    test::client client(port);
    client.send(order);
    REQUIRE(client.receive(1) == "+");
    return client;
}

/// A listening socket that shares its port with whoever else asks for it.
class sharing_listener
{
public:
    sharing_listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        const int on = 1;
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof own;
        const bool listens = ::bind(fd_, reinterpret_cast<const sockaddr*>(&own), size) == 0 &&
                             ::listen(fd_, 10) == 0 &&
                             ::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) == 0;
        port_ = listens ? ntohs(own.sin_port) : 0;
    }

    sharing_listener(const sharing_listener&) = delete;
    sharing_listener& operator=(const sharing_listener&) = delete;

    ~sharing_listener()
    {
        ::close(fd_);
    }

    std::uint16_t port() const
    {
        return port_;
    }

private:
    int fd_;
    std::uint16_t port_ = 0;
};
} // namespace

TEST_CASE("round robin gives every shard the same number of clients", "[shards]")
{
    fairlead::sharded_server server(
        shards_test::counting_handler{}, test::local_config(),
        {.threads = 3, .distribution = client_distribution::round_robin});
    server.start();
    std::vector<test::client> clients;
    std::map<std::string, int> replies;
    for (int i = 0; i < 60; ++i) {
        clients.emplace_back(server.local_endpoint().port());
        ++replies[clients.back().receive(2)];
    }
    CHECK(replies.size() == 20); // 01 to 20, from each of three handlers
    for (const auto& [reply, times] : replies) {
        INFO("served as number " << reply);
        CHECK(times == 3);
    }
    CHECK(server.open_connections() == 60);
}

TEST_CASE("the kernel spreads clients over shards on one port", "[shards]")
{
    event_log log; // outlives the server, which reports its end
    std::mutex mutex;
    std::map<std::thread::id, int> clients_of;
    fairlead::sharded_server server(
        shards_test::counting_handler{}, test::local_config(),
        {.threads = 3, .distribution = client_distribution::kernel});
    log.attach(server);
    server.on_socket([&](asio::ip::tcp::socket&) {
        const std::lock_guard lock(mutex);
        ++clients_of[std::this_thread::get_id()];
    });
    server.start();
    CHECK(log.count(server_event_kind::listening) == 1);
    std::vector<test::client> clients;
    for (int i = 0; i < 60; ++i) {
        clients.emplace_back(server.local_endpoint().port());
        clients.back().receive(2);
    }
    const std::lock_guard lock(mutex);
    CHECK(clients_of.size() >= 2); // all 60 on one of three: a chance of 3 to the minus 59
    CHECK(clients_of.count(std::this_thread::get_id()) == 0);
    CHECK(server.open_connections() == 60);
}

TEST_CASE("the shards answer questions as one server", "[shards]")
{
    event_log log; // outlives the server, which reports its end
    const auto distribution =
        GENERATE(client_distribution::kernel, client_distribution::round_robin);
    fairlead::sharded_server server(
        test::echo, test::local_config(), {.threads = 3, .distribution = distribution});
    log.attach(server);
    CHECK(server.shard_count() == 3);
    CHECK(server.state() == server_state::created);
    CHECK_FALSE(server.is_running());
    CHECK_FALSE(server.is_gone());
    CHECK(server.connections().empty());
    server.start();
    CHECK(server.state() == server_state::running);
    const auto port = server.local_endpoint().port();
    CHECK(port != 0);

    std::vector<test::client> clients;
    std::set<std::uint16_t> ports;
    for (int i = 0; i < 30; ++i) {
        auto& client = clients.emplace_back(port);
        ports.insert(client.local_port());
        client.send("12345");
        REQUIRE(client.receive(5) == "12345");
    }
    std::set<std::uint64_t> ids;
    for (const auto& info : server.connections()) {
        ids.insert(info.id);
        CHECK(ports.erase(info.remote.port()) == 1);
        CHECK(info.local.port() == port);
        CHECK(info.opened);
    }
    CHECK(ports.empty());
    CHECK(ids.size() == 30);
    auto stats = server.stats();
    CHECK(stats.accepted == 30);
    CHECK(stats.opened == 30);
    CHECK(stats.open == 30);
    CHECK(stats.closed == 0);
    CHECK(stats.bytes_read == 150);
    CHECK(server.open_connections() == 30);

    clients.clear();
    REQUIRE(log.wait_for(connection_event_kind::closed, 30));
    stats = server.stats();
    CHECK(stats.closed == 30);
    CHECK(stats.open == 0);
    CHECK(stats.closed_by_reason[static_cast<std::size_t>(close_reason::peer_closed)] == 30);
    server.close();
    server.join();
    CHECK(server.state() == server_state::stopped);
    CHECK(server.is_gone());
    CHECK(log.count(server_event_kind::stopped) == 1);
    CHECK(server.local_endpoint().port() == port); // still known
}

TEST_CASE("any connection is closed by its id, whichever shard has it", "[shards]")
{
    event_log log; // outlives the server, which reports its end
    const auto distribution =
        GENERATE(client_distribution::kernel, client_distribution::round_robin);
    fairlead::sharded_server server(
        test::echo, test::local_config(), {.threads = 3, .distribution = distribution});
    log.attach(server);
    server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 9; ++i) {
        clients.emplace_back(server.local_endpoint().port());
        clients.back().send("x");
        REQUIRE(clients.back().receive(1) == "x");
    }
    for (const auto& info : server.connections()) {
        CHECK(server.close_connection(info.id));
    }
    for (auto& client : clients) {
        CHECK(client.receive_rest().end == test::stream_end::finished);
        client.close();
    }
    REQUIRE(log.wait_for(connection_event_kind::closed, 9));
    for (const auto& event : log.closed()) {
        CHECK(event.reason == close_reason::server_closed);
        CHECK_FALSE(server.close_connection(event.id));
    }
    CHECK_FALSE(server.close_connection(0));
    CHECK(server.is_running());
}

TEST_CASE("one drain report speaks for all shards", "[shards][drain]")
{
    event_log log; // outlives the server, which reports its end
    const auto distribution =
        GENERATE(client_distribution::kernel, client_distribution::round_robin);
    fairlead::sharded_server server(
        shards_test::obedient, test::local_config(), {.threads = 3, .distribution = distribution});
    log.attach(server);
    server.start();
    const auto port = server.local_endpoint().port();
    std::vector<test::client> idle;
    std::vector<test::client> working;
    std::vector<test::client> stuck;
    for (int i = 0; i < 6; ++i) {
        idle.push_back(ordered(port, "i"));
        working.push_back(ordered(port, "d"));
        stuck.push_back(ordered(port, "r"));
    }
    test::let_handlers_go_on(server, log);
    auto draining = std::async(std::launch::async, [&] { return server.shutdown(500ms); });
    for (auto& client : idle) {
        CHECK(client.receive_rest().end == test::stream_end::finished);
        client.close();
    }
    for (auto& client : working) {
        const auto rest = client.receive_rest();
        CHECK(rest.bytes == "bye");
        CHECK(rest.end == test::stream_end::finished);
        client.close();
    }
    for (auto& client : stuck) {
        CHECK(client.receive_rest().end != test::stream_end::timed_out);
    }
    const auto report = draining.get();
    CHECK(report.closed_idle == 6);
    CHECK(report.drained == 6);
    REQUIRE(report.stragglers.size() == 6);
    CHECK(report.took >= 500ms);
    std::set<std::uint64_t> named;
    for (const auto& straggler : report.stragglers) {
        named.insert(straggler.id);
        CHECK(log.of(straggler.id).back().reason == close_reason::shutdown_timeout);
    }
    CHECK(named.size() == 6);
    CHECK(server.state() == server_state::stopped);
    CHECK(server.open_connections() == 0);
    const auto stats = server.stats();
    CHECK(stats.accepted == stats.closed);
}

TEST_CASE(
    "max_connections counts over all shards, and a place that one frees wakes another",
    "[shards][limit]")
{
    auto config = test::local_config();
    config.max_connections = 2;
    config.at_limit = fairlead::limit_policy::pause;
    fairlead::sharded_server server(
        test::echo, config, {.threads = 3, .distribution = client_distribution::kernel});
    std::atomic<int> open = 0;
    std::atomic<int> most = 0;
    std::mutex mutex;
    std::set<std::thread::id> shards;
    server.on_connection([&](const fairlead::connection_event& event) {
        if (event.kind == connection_event_kind::accepted) {
            const int now = ++open;
            for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
            }
            const std::lock_guard lock(mutex);
            shards.insert(std::this_thread::get_id());
        } else if (event.kind == connection_event_kind::closed) {
            --open;
        }
    });
    server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 40; ++i) {
        clients.emplace_back(server.local_endpoint().port());
        clients.back().send("x");
    }
    int served = 0;
    while (!clients.empty()) { // whoever is answered leaves
        std::vector<pollfd> waiting;
        for (const auto& client : clients) {
            waiting.push_back({.fd = client.fd(), .events = POLLIN, .revents = 0});
        }
        REQUIRE(::poll(waiting.data(), waiting.size(), 10'000) > 0); // nobody is forgotten
        for (std::size_t i = waiting.size(); i-- > 0;) {
            if (waiting[i].revents != 0) {
                served += clients[i].receive(1) == "x" ? 1 : 0;
                clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }
    CHECK(served == 40);
    CHECK(most <= 2);
    server.close();
    server.join();
    CHECK(shards.size() >= 2);
    CHECK(server.stats().pauses >= 1);
    CHECK(server.stats().accepted == 40);
}

TEST_CASE("a port that another socket would share is refused", "[shards][address]")
{
    event_log log; // outlives the server, which reports its end
    auto foreign = std::make_unique<sharing_listener>();
    REQUIRE(foreign->port() != 0);
    auto config = test::local_config();
    config.address = "127.0.0.1:" + std::to_string(foreign->port());
    const auto distribution = GENERATE(
        client_distribution::automatic, client_distribution::kernel,
        client_distribution::round_robin);
    fairlead::sharded_server server(
        test::echo, config, {.threads = 2, .distribution = distribution});
    log.attach(server);
    std::error_code refused;
    try {
        server.start();
    } catch (const std::system_error& error) {
        refused = error.code();
    }
    CHECK(refused == std::errc::address_in_use);
    CHECK_FALSE(server.is_running());
    REQUIRE(log.errors().size() >= 1);
    CHECK(log.errors()[0].code == std::errc::address_in_use);
    CHECK(log.count(server_event_kind::listening) == 0);
    server.join(); // nothing runs

    foreign.reset();
    server.start(); // and now it is free
    test::client client(server.local_endpoint().port());
    client.send("x");
    CHECK(client.receive(1) == "x");
}

TEST_CASE("a port is shared with strangers when that is what was asked for", "[shards][address]")
{
    const sharing_listener foreign;
    auto config = test::local_config();
    config.address = "127.0.0.1:" + std::to_string(foreign.port());
    config.socket.reuse_port = true;
    fairlead::sharded_server server(test::echo, config, {.threads = 2});
    server.start();
    CHECK(server.is_running());
    CHECK(server.local_endpoint().port() == foreign.port());
}
