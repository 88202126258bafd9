// What the hooks are told and in which order, for every kind of connection; hooks that throw; the
// socket hook; snapshots. That counters add up under load: counters.cpp.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <netinet/tcp.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::speaks;
using kind = connection_event_kind;

namespace
{
std::vector<kind> kinds(const std::vector<connection_event>& events)
{
    std::vector<kind> kinds;
    for (const auto& event : events) {
        kinds.push_back(event.kind);
    }
    return kinds;
}

asio::awaitable<void> answer_once(connection& connection)
{
    char buffer[64];
    const auto n = co_await connection.read_some(asio::buffer(buffer));
    co_await connection.write(asio::buffer(buffer, n));
}
} // namespace

TEST_CASE("the steps of a connection come in the promised order", "[hooks][network]")
{
    const auto protocol = GENERATE(speaks::plain, speaks::tls);
    INFO(test::name_of(protocol));
    const bool io_events = GENERATE(false, true);
    CAPTURE(io_events);
    auto config = test::local_config(protocol);
    config.io_events = io_events;
    test::running_server running(&test::echo, config);
    running.start();
    const auto before = std::chrono::steady_clock::now();
    test::peer peer(running.port(), protocol);
    for (const char* word : {"one", "three"}) {
        peer.send(word);
        CHECK(peer.receive(std::string(word).size()) == word);
    }
    peer.finish();
    CHECK(peer.receive_rest().end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(kind::closed));
    running.stop();

    const auto steps = running.log.connections();
    if (io_events) {
        REQUIRE(
            kinds(steps) == std::vector{
                                kind::accepted, kind::opened, kind::read, kind::write, kind::read,
                                kind::write, kind::close_read, kind::close_write, kind::closed});
        CHECK(steps[2].bytes_read == 3);
        CHECK(steps[2].bytes_written == 0);
        CHECK(steps[3].bytes_written == 3);
        CHECK(steps[4].bytes_read == 8);
        CHECK(steps[5].bytes_written == 8);
    } else {
        REQUIRE(
            kinds(steps) ==
            std::vector{
                kind::accepted, kind::opened, kind::close_read, kind::close_write, kind::closed});
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
        CAPTURE(i);
        CHECK(steps[i].id == steps[0].id);
        CHECK(steps[i].local == running.server.local_endpoint());
        CHECK(steps[i].remote.port() == peer.tcp().local_port());
        CHECK(steps[i].age >= (i == 0 ? 0ns : steps[i - 1].age));
        CHECK(steps[i].age <= std::chrono::steady_clock::now() - before);
    }
    CHECK(steps.back().bytes_read == 8);
    CHECK(steps.back().bytes_written == 8);
    CHECK(steps.back().reason == close_reason::peer_closed);
    CHECK_FALSE(steps.back().code);
    CHECK(running.log.errors().empty());
}

TEST_CASE("a rejected connection has a beginning and an end, and no middle", "[hooks]")
{
    auto config = test::local_config();
    config.max_connections = 1;
    config.at_limit = limit_policy::reject;
    test::running_server running(&test::echo, config);
    running.start();
    test::client first(running.port());
    REQUIRE(running.log.wait_for(kind::opened));
    test::client second(running.port());
    CHECK(second.receive_rest().end == test::stream_end::reset);
    REQUIRE(running.log.wait_for(kind::closed));
    const auto end = running.log.closed().front();
    CHECK(end.reason == close_reason::rejected_by_limit);
    CHECK(end.code == errc::connection_refused_by_limit);
    CHECK(end.remote.port() == second.local_port());
    CHECK(end.local == running.server.local_endpoint());
    CHECK(kinds(running.log.of(end.id)) == std::vector{kind::accepted, kind::closed});
    const auto stats = running.server.stats();
    CHECK(stats.accepted == 2);
    CHECK(stats.opened == 1);
    CHECK(stats.closed == 1);
    CHECK(stats.open == 1);
    CHECK(stats.closed_by(close_reason::rejected_by_limit) == 1);
    CHECK(running.log.errors().empty());
}

TEST_CASE("a connection that fails before its handler has a reason", "[hooks]")
{
    const auto how = GENERATE(as<std::string>{}, "garbage", "silent", "scan", "reset", "close");
    CAPTURE(how);
    auto config = test::local_config(speaks::tls);
    config.pre_open_timeout = how == "silent" ? 100ms : 60s;
    test::running_server running(&test::echo, config);
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(kind::accepted));
    auto reason = close_reason::tls_handshake_failed;
    if (how == "garbage") {
        client.send("GET / HTTP/1.1\r\n\r\n");
        client.receive_rest();
        client.close();
    } else if (how == "silent") {
        reason = close_reason::pre_open_timeout;
        CHECK(client.receive_rest().end != test::stream_end::timed_out);
    } else if (how == "scan") {
        reason = close_reason::peer_closed;
        client.finish();
        CHECK(client.receive_rest().end == test::stream_end::finished);
    } else if (how == "reset") {
        reason = close_reason::peer_reset;
        client.reset();
    } else {
        reason = close_reason::server_closed;
        running.server.close();
    }
    REQUIRE(running.log.wait_for(kind::closed));
    running.stop();
    const auto steps = running.log.connections();
    CHECK(steps.front().kind == kind::accepted);
    CHECK(steps.back().kind == kind::closed);
    CHECK(to_string(steps.back().reason) == to_string(reason));
    CHECK(running.log.count(kind::opened) == 0);
    CHECK(running.log.count(kind::accepted) == 1);
    CHECK(running.log.count(kind::closed) == 1);
    const auto stats = running.server.stats();
    CHECK(stats.accepted == 1);
    CHECK(stats.opened == 0);
    CHECK(stats.closed_by(reason) == 1);
    const std::size_t failures = how == "garbage" ? 1 : 0;
    CHECK(stats.tls_handshakes_failed == failures);
    CHECK(stats.tls_handshakes == 0);
    REQUIRE(running.log.errors().size() == failures);
    if (failures != 0) {
        CHECK(running.log.errors().front().connection_id == steps.back().id);
        CHECK(running.log.errors().front().remote == steps.back().remote);
        CHECK(running.log.errors().front().code == steps.back().code);
    }
}

// -- hooks that throw -------------------------------------------------------------------------------

TEST_CASE("a hook that throws is caught, counted each time and reported once", "[hooks]")
{
    const auto which =
        GENERATE(as<std::string>{}, "on_connection", "on_server", "on_socket", "on_error");
    CAPTURE(which);
    const bool standard = GENERATE(true, false);
    CAPTURE(standard);
    std::atomic<std::uint64_t> thrown = 0;
    const auto fail = [&] {
        ++thrown;
        if (standard) {
            throw std::runtime_error("hook gone wrong");
        }
        throw 42;
    };
    test::running_server running(&answer_once);
    auto& server = running.server;
    if (which == "on_connection") {
        server.on_connection([&](const connection_event&) { fail(); });
    } else if (which == "on_server") {
        server.on_server([&](const server_event&) { fail(); });
    } else if (which == "on_socket") {
        server.on_socket([&](asio::ip::tcp::socket&) { fail(); });
    } else {
        server.on_error([&](const error_event&) { fail(); });
        server.on_socket([&](asio::ip::tcp::socket&) { throw std::runtime_error("socket"); });
    }
    running.start();
    for (int i = 0; i < 5; ++i) {
        test::client client(running.port());
        client.send("hello");
        CHECK(client.receive(5) == "hello");
    }
    REQUIRE(test::wait_until_idle(server));
    server.close();
    REQUIRE(test::eventually([&] { return server.state() == server_state::stopped; }));
    running.stop();
    const auto stats = server.stats();
    CHECK(stats.closed == 5);
    CHECK(thrown > 0);
    if (which == "on_error") {
        CHECK(stats.hook_failures == 5 + thrown);
        CHECK(thrown == 1); // nobody is left to be told
    } else {
        CHECK(stats.hook_failures == thrown);
        REQUIRE(running.log.errors().size() == 1);
        const auto report = running.log.errors().front();
        CHECK(report.code == errc::hook_failed);
        CHECK(report.what.find(which) != std::string::npos);
        CHECK((report.what.find("hook gone wrong") != std::string::npos) == standard);
        CHECK(stats.errors == 1);
    }
}

// -- the socket hook --------------------------------------------------------------------------------

TEST_CASE("on_socket has the first and the last word on a socket", "[hooks]")
{
    test::mailbox<std::vector<int>> words; // the server's options as found; the descriptor
    test::running_server running(&test::echo);
    std::atomic<std::size_t> events_before = 99;
    running.server.on_socket([&](asio::ip::tcp::socket& socket) {
        events_before = running.log.connections().size();
        asio::ip::tcp::no_delay no_delay;
        asio::socket_base::keep_alive keep_alive;
        socket.get_option(no_delay);
        socket.get_option(keep_alive);
        socket.set_option(asio::ip::tcp::no_delay(false));
        socket.set_option(asio::socket_base::keep_alive(false));
        socket.send(asio::buffer("first word,", 11));
        words.put({no_delay.value() ? 1 : 0, keep_alive.value() ? 1 : 0, socket.native_handle()});
    });
    running.start();
    test::client client(running.port());
    client.send("echo");
    CHECK(client.receive(15) == "first word,echo");
    CHECK(events_before == 0); // it comes before `accepted`
    const auto told = words.take();
    CHECK(told[0] == 1); // the options of the configuration are set already
    CHECK(told[1] == 1);
    const auto option = [&](int level, int name) {
        return running.on_shard([&] {
            int value = -1;
            socklen_t size = sizeof value;
            ::getsockopt(told[2], level, name, &value, &size);
            return value;
        });
    };
    CHECK(option(IPPROTO_TCP, TCP_NODELAY) == 0); // and nothing overrides the hook's
    CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 0);
}

TEST_CASE("closing the socket in on_socket drops the client and leaks nothing", "[hooks]")
{
    const bool keeps = GENERATE(false, true);
    CAPTURE(keeps);
    auto config = test::local_config();
    config.max_connections = 1;
    test::running_server running(&test::echo, config);
    bool drops = true;
    std::vector<asio::ip::tcp::socket> kept; // the server's thread
    running.server.on_socket([&](asio::ip::tcp::socket& socket) {
        if (drops && keeps) {
            kept.clear();
            kept.push_back(std::move(socket));
        } else if (drops) {
            socket.close();
        }
    });
    running.start();
    const auto drop_one = [&] {
        test::client client(running.port());
        if (keeps) {
            running.on_shard([&] {}); // each is taken before the next comes
            client.finish();
        } else {
            CHECK(client.receive_rest().end != test::stream_end::timed_out);
        }
    };
    drop_one(); // what a server keeps from its first client on is no leak
    running.on_shard([&] { kept.clear(); });
    const auto descriptors = test::open_descriptors();
    for (int i = 0; i < 20; ++i) { // more than the limit: a lost place would stop the second
        drop_one();
    }
    REQUIRE(test::eventually([&] {
        return running.on_shard([&] {
            drops = false;
            kept.clear();
            return true;
        });
    }));
    test::client client(running.port());
    client.send("served");
    CHECK(client.receive(6) == "served");
    client.close();
    REQUIRE(test::wait_until_idle(running.server));
    CHECK(test::eventually([&] { return test::open_descriptors() == descriptors; }));
    REQUIRE(running.log.wait_for(kind::closed));
    CHECK(running.log.count(kind::accepted) == 1);
    CHECK(running.server.stats().accepted == 1);
    CHECK(running.log.count(server_event_kind::paused) <= 1); // by the one that was served
    running.on_shard([&] { kept.clear(); });
}

// -- hooks that act ---------------------------------------------------------------------------------

TEST_CASE("hooks may ask and tell the server what they like", "[hooks][network]")
{
    test::running_server running(&test::echo);
    auto& server = running.server;
    struct glimpse
    {
        kind when;
        std::size_t listed;
        std::int64_t open;
        bool listed_itself;
        bool closable;
    };
    test::mailbox<glimpse> glimpses;
    server.on_connection([&](const connection_event& event) {
        const auto all = server.connections();
        const bool listed =
            std::any_of(all.begin(), all.end(), [&](auto& each) { return each.id == event.id; });
        const auto open = server.open_connections();
        glimpses.put({event.kind, all.size(), open, listed, server.close_connection(event.id)});
    });
    running.start();
    test::client client(running.port());
    CHECK(client.receive_rest().end == test::stream_end::finished); // closed by `accepted`
    client.finish();
    for (;;) {
        const auto now = glimpses.take();
        CAPTURE(to_string(now.when));
        const bool ended = now.when == kind::closed;
        CHECK(now.listed == (ended ? 0 : 1));
        CHECK(now.open == (ended ? 0 : 1));
        CHECK(now.listed_itself == !ended);
        CHECK(now.closable == !ended);
        if (ended) {
            break;
        }
    }
    running.stop();
    CHECK(server.stats().closed_by(close_reason::server_closed) == 1);
}

TEST_CASE("connections() and stats() show what is there", "[hooks][snapshot]")
{
    const auto protocol = GENERATE(speaks::plain, speaks::tls);
    INFO(test::name_of(protocol));
    test::running_server running(&test::echo, test::local_config(protocol));
    auto& server = running.server;
    CHECK(server.connections().empty());
    running.start();
    CHECK(server.connections().empty());
    std::vector<test::peer> peers;
    for (int i = 0; i < 3; ++i) {
        peers.emplace_back(running.port(), protocol);
        peers.back().send(std::string(static_cast<std::size_t>(i) + 1, 'x'));
        peers.back().receive(static_cast<std::size_t>(i) + 1);
    }
    // A client may have its echo before the server has counted it.
    REQUIRE(test::eventually([&] { return server.stats().bytes_written == 6; }));
    const auto here = running.on_shard([&] { return server.connections(); });
    const auto there = server.connections();
    for (const auto& all : {here, there}) {
        REQUIRE(all.size() == 3);
        for (const auto& each : all) {
            const auto peer = std::find_if(peers.begin(), peers.end(), [&](auto& one) {
                return one.tcp().local_port() == each.remote.port();
            });
            REQUIRE(peer != peers.end());
            const auto bytes = static_cast<std::uint64_t>(peer - peers.begin()) + 1;
            CHECK(each.bytes_read == bytes);
            CHECK(each.bytes_written == bytes);
            CHECK(each.local == server.local_endpoint());
            CHECK(each.age >= each.idle);
            CHECK(each.idle >= 0ns);
            CHECK(each.opened);
            CHECK(each.tls == (protocol == speaks::tls));
            CHECK(running.log.of(each.id).size() == 2);
        }
    }
    const auto stats = server.stats();
    CHECK(stats.accepted == 3);
    CHECK(stats.opened == 3);
    CHECK(stats.open == 3);
    CHECK(stats.closed == 0);
    CHECK(stats.bytes_read == 6);
    CHECK(stats.tls_handshakes == (protocol == speaks::tls ? 3 : 0));
    for (auto& peer : peers) {
        peer.finish();
    }
    REQUIRE(running.log.wait_for(kind::closed, 3));
    CHECK(test::eventually([&] { return server.connections().empty(); })); // handlers return
}
