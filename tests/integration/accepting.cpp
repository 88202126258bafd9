// Clients on their way in: what an accepted socket is, who may look at it first, batches, and clients that have left
// before they were accepted. What happens at max_connections is in max_connections.cpp.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/server.hpp>

#include <atomic>
#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <future>
#include <netinet/tcp.h>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::server_event_kind;

namespace
{
int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

/// What the tests ask an accepted socket.
struct socket_facts
{
    int no_delay;
    int keep_alive;
    int keep_idle;
    int keep_interval;
    int keep_count;
    int user_timeout;
    int receive_buffer;
    int send_buffer;
    bool close_on_exec;
    bool non_blocking;
};

socket_facts facts_of(int fd)
{
    return {
        .no_delay = int_option(fd, IPPROTO_TCP, TCP_NODELAY),
        .keep_alive = int_option(fd, SOL_SOCKET, SO_KEEPALIVE),
        .keep_idle = int_option(fd, IPPROTO_TCP, TCP_KEEPIDLE),
        .keep_interval = int_option(fd, IPPROTO_TCP, TCP_KEEPINTVL),
        .keep_count = int_option(fd, IPPROTO_TCP, TCP_KEEPCNT),
        .user_timeout = int_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
        .receive_buffer = int_option(fd, SOL_SOCKET, SO_RCVBUF),
        .send_buffer = int_option(fd, SOL_SOCKET, SO_SNDBUF),
        .close_on_exec = (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0,
        .non_blocking = (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0};
}

/// Serves one client and returns what its socket was like when the hook saw it.
socket_facts facts_of_accepted(fairlead::server_config config)
{
    test::running_server server(test::echo, std::move(config));
    std::promise<socket_facts> seen;
    server.server.on_socket(
        [&](asio::ip::tcp::socket& socket) { seen.set_value(facts_of(socket.native_handle())); });
    server.start();
    test::client client(server.port());
    client.send("x");
    REQUIRE(client.receive(1) == "x"); // the socket survived being looked at
    return seen.get_future().get();
}

std::set<int> listed_descriptors()
{
    std::set<int> descriptors;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        descriptors.insert(std::stoi(entry.path().filename()));
    }
    std::erase_if(descriptors, [](int fd) { return ::fcntl(fd, F_GETFD) == -1; });
    return descriptors;
}

/// The descriptor that listens on `port`; -1: none.
int listener_on(std::uint16_t port)
{
    for (const int fd : listed_descriptors()) {
        sockaddr_in own{};
        socklen_t size = sizeof own;
        if (int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
            ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
            ntohs(own.sin_port) == port) {
            return fd;
        }
    }
    return -1;
}

/// The longest queue of a listening socket, as the kernel took it (TCP_INFO of a listener).
int queue_length(int fd)
{
    tcp_info info{};
    socklen_t size = sizeof info;
    return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0
               ? static_cast<int>(info.tcpi_sacked)
               : -1;
}

int longest_queue_allowed()
{
    int allowed = 0;
    std::ifstream("/proc/sys/net/core/somaxconn") >> allowed;
    return allowed;
}
} // namespace

TEST_CASE("an accepted socket has the safe options by default", "[accept][options]")
{
    const auto facts = facts_of_accepted(test::local_config());
    CHECK(facts.no_delay == 1);
    CHECK(facts.keep_alive == 1);
    CHECK(facts.keep_idle == 60);
    CHECK(facts.keep_interval == 15);
    CHECK(facts.keep_count == 4);
    CHECK(facts.user_timeout == 30'000);
    CHECK(facts.close_on_exec);
    CHECK(facts.non_blocking);
}

TEST_CASE("an accepted socket has the options that were asked for", "[accept][options]")
{
    auto config = test::local_config();
    config.socket.keep_alive_idle = 7s;
    config.socket.keep_alive_interval = 3s;
    config.socket.keep_alive_count = 9;
    config.socket.user_timeout = 12'345ms;
    config.socket.receive_buffer = 20'000;
    config.socket.send_buffer = 30'000;
    const auto facts = facts_of_accepted(config);
    CHECK(facts.keep_idle == 7);
    CHECK(facts.keep_interval == 3);
    CHECK(facts.keep_count == 9);
    CHECK(facts.user_timeout == 12'345);
    CHECK(facts.receive_buffer == 40'000); // the kernel doubles it (socket(7))
    CHECK(facts.send_buffer == 60'000);
    CHECK(facts.close_on_exec);
}

TEST_CASE("what is switched off is left to the kernel", "[accept][options]")
{
    auto config = test::local_config();
    config.socket.no_delay = false;
    config.socket.keep_alive = false;
    config.socket.user_timeout = 0ms;
    const auto facts = facts_of_accepted(config);
    CHECK(facts.no_delay == 0);
    CHECK(facts.keep_alive == 0);
    CHECK(facts.user_timeout == 0);
    CHECK(facts.close_on_exec);
}

TEST_CASE(
    "no descriptor of a server reaches a program that is executed", "[accept][options][network]")
{
    const auto before = listed_descriptors();
    test::running_server server(test::echo);
    server.start();
    test::client client(server.port());
    client.send("x");
    REQUIRE(client.receive(1) == "x");
    int seen = 0;
    for (const int fd : listed_descriptors()) {
        if (before.count(fd) == 0) {
            ++seen;
            std::error_code ignored;
            INFO(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored));
            CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
    }
    CHECK(seen >= 4); // listening, accepted, reserved, the client's own; and what Asio needs
}

TEST_CASE("the socket hook comes before everything else", "[accept][hooks]")
{
    test::running_server server(test::echo);
    std::promise<std::size_t> events_before;
    server.server.on_socket(
        [&](asio::ip::tcp::socket&) { events_before.set_value(server.log.connections().size()); });
    server.start();
    test::client client(server.port());
    REQUIRE(server.log.wait_for(connection_event_kind::opened));
    CHECK(events_before.get_future().get() == 0);
}

TEST_CASE("a socket hook that throws costs the client nothing", "[accept][hooks]")
{
    test::running_server server(test::echo);
    server.server.on_socket(
        [](asio::ip::tcp::socket&) { throw std::runtime_error("tuning went wrong"); });
    server.start();
    for (int i = 0; i < 3; ++i) {
        test::client client(server.port());
        client.send("hello");
        CHECK(client.receive(5) == "hello");
    }
    REQUIRE(server.log.wait_for_errors());
    CHECK(server.server.stats().hook_failures == 3);
    REQUIRE(server.log.wait_for(connection_event_kind::closed, 3));
    REQUIRE(server.log.errors().size() == 1); // reported once
    CHECK(server.log.errors()[0].what.find("tuning went wrong") != std::string::npos);
}

TEST_CASE("a socket hook may drop a client, who takes no place with him", "[accept][hooks]")
{
    auto config = test::local_config();
    config.max_connections = 1;
    test::running_server server(test::echo, config);
    std::atomic<bool> drops = true;
    server.server.on_socket([&](asio::ip::tcp::socket& socket) {
        if (drops) {
            socket.close();
        }
    });
    server.start();
    for (int i = 0; i < 3; ++i) {
        test::client dropped(server.port());
        CHECK(dropped.receive_rest().end != test::stream_end::timed_out);
    }
    CHECK(server.server.open_connections() == 0);
    drops = false;
    test::client client(server.port());
    client.send("x");
    CHECK(client.receive(1) == "x");
    CHECK(server.log.count(connection_event_kind::accepted) == server.server.stats().accepted);
}

TEST_CASE("every client that waited before the start is accepted", "[accept][batch][network]")
{
    auto config = test::local_config();
    // One per wake-up, an odd number that leaves a rest, and more than there are clients.
    config.accepts_per_wakeup = GENERATE(1, 7, 1024);
    test::running_server server(test::echo, config);
    server.server.open();
    std::vector<test::client> clients;
    for (int i = 0; i < 60; ++i) {
        clients.emplace_back(server.port());
        clients.back().send("before");
    }
    server.start();
    bool all_served = true;
    for (auto& client : clients) {
        all_served = all_served && client.receive(6) == "before";
    }
    CHECK(all_served);
    test::client late(server.port()); // and the next wake-up comes too
    late.send("late");
    CHECK(late.receive(4) == "late");
    CHECK(server.server.stats().accepted == 61);
    CHECK(server.server.open_connections() == 61);
}

TEST_CASE("clients who reset before they are accepted harm nobody", "[accept]")
{
    auto config = test::local_config();
    config.max_connections = 1'000;
    test::running_server server(test::echo, config);
    server.server.open();
    for (int i = 0; i < 50; ++i) {
        test::client gone(server.port());
        if (i % 2 == 0) {
            gone.send("never to be read");
        }
        gone.reset();
    }
    test::client good(server.port());
    server.start();
    good.send("still here");
    CHECK(good.receive(10) == "still here");
    good.close();
    REQUIRE(test::wait_until_idle(server.server));
    REQUIRE(server.log.wait_for(
        connection_event_kind::closed, static_cast<std::size_t>(server.server.stats().accepted)));
    const auto stats = server.server.stats();
    CHECK(stats.accepted >= 1); // Linux reports most of the others, and may drop them
    CHECK(stats.accepted == stats.closed);
    CHECK(server.log.count(connection_event_kind::accepted) == stats.accepted);
    for (const auto& event : server.log.closed()) {
        CHECK((
            event.reason == close_reason::peer_reset || event.reason == close_reason::peer_closed));
        CHECK(event.remote.port() != 0); // known although the peer was gone
    }
    CHECK(server.log.errors().empty()); // a peer's reset is no error
}

TEST_CASE("what a client sent before it left unaccepted is still answered", "[accept][network]")
{
    test::running_server server(test::echo);
    server.server.open();
    test::client client(server.port());
    client.send("question");
    client.finish();
    server.start();
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "question");
    CHECK(rest.end == test::stream_end::finished);
    REQUIRE(server.log.wait_for(connection_event_kind::closed));
    CHECK(server.log.closed()[0].reason == close_reason::peer_closed);
    CHECK(server.log.closed()[0].bytes_read == 8);
}

TEST_CASE("the listening socket has the backlog that was asked for", "[accept][backlog]")
{
    const int allowed = longest_queue_allowed();
    auto config = test::local_config();
    config.backlog = GENERATE(0, 1, 100);
    test::running_server server(test::echo, config);
    server.start();
    const int fd = listener_on(server.port());
    REQUIRE(fd >= 0);
    CHECK(queue_length(fd) == (config.backlog == 0 ? allowed : config.backlog));
    CHECK(server.log.count(server_event_kind::limit_reached) == 0);
}

TEST_CASE("a backlog that the kernel cuts is reported when the server opens", "[accept][backlog]")
{
    const int allowed = longest_queue_allowed();
    auto config = test::local_config();
    SECTION("one too many")
    {
        config.backlog = allowed + 1;
        test::running_server server(test::echo, config);
        server.start();
        CHECK(queue_length(listener_on(server.port())) == allowed);
        const auto steps = server.log.servers();
        REQUIRE(steps.size() == 2);
        CHECK(steps[0].kind == server_event_kind::listening);
        CHECK(steps[1].kind == server_event_kind::limit_reached);
        CHECK(steps[1].what.find(std::to_string(allowed + 1)) != std::string::npos);
        CHECK(steps[1].what.find(std::to_string(allowed)) != std::string::npos);
        CHECK(steps[1].what.find("somaxconn") != std::string::npos); // where to change it
        CHECK(server.log.errors().empty());
    }
    SECTION("exactly as many as it allows")
    {
        config.backlog = allowed;
        test::running_server server(test::echo, config);
        server.start();
        CHECK(server.log.count(server_event_kind::limit_reached) == 0);
    }
}
