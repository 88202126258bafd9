// The specs of the Go package's socket/server/tcp, by id (GT-...), where no test of a capability
// says the same already. README.md here has every id.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/steady_timer.hpp>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using test::eventually;
using kind = connection_event_kind;

namespace
{
bool echoes(std::uint16_t port, const std::string& text)
{
    test::client client(port);
    client.send(text);
    return client.receive(text.size()) == text;
}

asio::awaitable<void> return_at_once(connection&)
{
    co_return;
}

template <typename Server>
bool counts(const Server& server, std::int64_t open)
{
    return eventually([&] { return server.open_connections() == open; });
}

/// How many of `threads` threads' calls of `attempt(thread)` return true.
template <typename Attempt>
int successes(int threads, Attempt attempt)
{
    std::atomic<bool> may_go = false;
    std::atomic<int> succeeded = 0;
    std::vector<std::thread> crowd;
    for (int thread = 0; thread < threads; ++thread) {
        crowd.emplace_back([&, thread] {
            while (!may_go) {
                std::this_thread::yield();
            }
            try {
                succeeded += attempt(thread) ? 1 : 0;
            } catch (const std::exception&) { // not a success
            }
        });
    }
    may_go = true;
    for (std::thread& each : crowd) {
        each.join();
    }
    return succeeded;
}
} // namespace

TEST_CASE("GT-01 GT-07 a new server is neither running nor gone, and empty", "[parity]")
{
    asio::io_context context;
    const tcp_server server(context, &test::echo, test::local_config());
    CHECK(server.state() == server_state::created);
    CHECK_FALSE(server.is_running());
    CHECK_FALSE(server.is_gone()); // there: true
    CHECK(server.open_connections() == 0);
    CHECK(server.connections().empty());
    CHECK(server.stats().accepted == 0);
    CHECK(context.poll() == 0); // and nothing is under way
}

TEST_CASE("GT-10 GT-34 an echo is exact to the byte", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    std::string every_byte;
    for (int byte = 0; byte < 256; ++byte) {
        every_byte += static_cast<char>(byte);
    }
    CHECK(echoes(running.port(), "Hello, World!"));
    CHECK(echoes(running.port(), "test read operation"));
    CHECK(echoes(running.port(), every_byte));
    REQUIRE(running.log.wait_for(kind::closed, 3));
    CHECK(running.server.stats().bytes_read == 13 + 19 + 256);
    CHECK(running.server.stats().bytes_written == 13 + 19 + 256);
}

TEST_CASE("GT-12 three clients one after the other count 1, 2, 3", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    std::vector<test::client> clients;
    for (int expected = 1; expected <= 3; ++expected) { // GT-09
        clients.emplace_back(running.port());
        REQUIRE(running.log.wait_for(kind::opened, clients.size()));
        CHECK(running.server.open_connections() == expected);
    }
    for (int expected = 2; expected >= 0; --expected) { // GT-13
        clients.pop_back();
        CHECK(counts(running.server, expected));
    }
}

TEST_CASE("GT-14 GT-40 twenty rapid openings and closings leave none, and it serves on", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    for (int i = 0; i < 20; ++i) {
        test::client client(running.port());
    }
    REQUIRE(running.log.wait_for(kind::closed, 20));
    CHECK(running.server.open_connections() == 0);
    CHECK(running.server.is_running());
    CHECK(echoes(running.port(), "still here"));
}

TEST_CASE("GT-15 GT-17 GT-48 a drain without anybody ends at once and empty", "[parity][drain]")
{
    test::running_server running(&test::echo);
    running.start();
    CHECK(echoes(running.port(), "gone before"));
    REQUIRE(running.log.wait_for(kind::closed));
    auto report = running.shutdown(1h);
    REQUIRE(report.wait_for(test::patience) == std::future_status::ready);
    const auto drained = report.get();
    CHECK(drained.drained + drained.closed_idle + drained.stragglers.size() == 0);
    CHECK_FALSE(running.server.is_running());
    CHECK(running.server.is_gone());
    CHECK(running.server.state() == server_state::stopped);
    CHECK(running.server.open_connections() == 0);
}

TEST_CASE("GT-20 GT-21 clients at once and again get each their own echo", "[parity][threads]")
{
    test::running_server running(&test::echo);
    running.start();
    const auto port = running.port();
    CHECK(successes(10, [port](int client) {
              test::client connected(port);
              for (int message = 0; message < 20; ++message) {
                  const auto text =
                      "client " + std::to_string(client) + " message " + std::to_string(message);
                  connected.send(text);
                  if (connected.receive(text.size()) != text) {
                      return false;
                  }
              }
              return true;
          }) == 10);
    REQUIRE(running.log.wait_for(kind::closed, 10));
    CHECK(running.server.stats().opened == 10);
}

TEST_CASE("GT-22 twenty connections held count twenty, all closed none", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    {
        std::vector<test::client> clients;
        for (int i = 0; i < 20; ++i) {
            clients.emplace_back(running.port());
        }
        REQUIRE(running.log.wait_for(kind::opened, 20));
        CHECK(running.server.open_connections() == 20);
        CHECK(running.server.connections().size() == 20);
    }
    CHECK(counts(running.server, 0));
}

TEST_CASE("GT-23 GT-24 ten threads ask a server a hundred times", "[parity][threads]")
{
    test::running_server running(&test::echo);
    running.start();
    const test::client client(running.port());
    REQUIRE(running.log.wait_for(kind::opened));
    const auto& server = running.server;
    CHECK(successes(10, [&](int) {
              bool right = true;
              for (int i = 0; i < 100; ++i) {
                  right = right && server.is_running() && !server.is_gone() &&
                          server.open_connections() == 1 && server.stats().opened == 1 &&
                          server.state() == server_state::running;
              }
              return right;
          }) == 10);
}

TEST_CASE("GT-25 fifty at once at a handler that returns at once leave none", "[parity][threads]")
{
    test::running_server running(&return_at_once);
    running.start();
    const auto port = running.port();
    CHECK(successes(50, [port](int) {
              return test::client(port).receive_rest().end == test::stream_end::finished;
          }) == 50);
    REQUIRE(running.log.wait_for(kind::closed, 50));
    CHECK(running.server.open_connections() == 0);
    CHECK(running.server.stats().accepted == 50);
}

// -- what the handler's context was -----------------------------------------------------------------

namespace
{
struct told
{
    test::mailbox<std::string> words;
    test::mailbox<std::error_code> errors;
    test::gate gate;
};

asio::awaitable<void> wait_for_the_end(connection& connection, told& told)
{
    char byte = 0;
    std::error_code error;
    co_await connection.read_some(asio::buffer(&byte, 1), error);
    told.words.put(connection.is_open() ? "open" : "not open");
    told.errors.put(error);
}

asio::awaitable<void> wait_for_the_drain(connection& connection, told& told)
{
    told.words.put(connection.draining() ? "draining" : "not draining");
    const bool ready = co_await connection.readable();
    told.words.put(ready ? "input" : "nothing");
    told.words.put(connection.draining() ? "draining" : "not draining");
}

asio::awaitable<void> tell_about_itself(connection& connection, told& told)
{
    asio::steady_timer timer(connection.get_executor());
    told.words.put(connection.is_open() ? "open" : "not open");
    timer.expires_after(10ms);
    co_await timer.async_wait(asio::use_awaitable);
    told.words.put(connection.is_open() ? "open" : "not open");
    told.words.put(connection.remote_endpoint().address().to_string());
    told.words.put(connection.local_endpoint().address().to_string());
    std::string text(20, '\0');
    co_await connection.read(asio::buffer(text));
    told.words.put(text);
}
} // namespace

TEST_CASE("GT-28 GT-29 a handler hears that the server closes, and why", "[parity]")
{
    told told;
    test::running_server running(test::scripted{wait_for_the_end, &told});
    running.start();
    const test::client client(running.port());
    REQUIRE(running.log.wait_for(kind::opened));
    running.server.close();
    CHECK(told.errors.take() == errc::server_closed);
    CHECK(told.words.take() == "not open");
}

TEST_CASE("GT-28 a handler that waits for input hears that a drain has begun", "[parity][drain]")
{
    told told;
    test::running_server running(test::scripted{wait_for_the_drain, &told});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(kind::opened));
    CHECK(told.words.take() == "not draining");
    auto report = running.shutdown(1min);
    CHECK(told.words.take() == "nothing");
    CHECK(told.words.take() == "draining");
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    REQUIRE(report.wait_for(test::patience) == std::future_status::ready);
    CHECK(report.get().closed_idle == 1);
}

TEST_CASE("GT-31 GT-32 GT-33 GT-35 a handler knows its connection and reads from it", "[parity]")
{
    told told;
    test::running_server running(test::scripted{tell_about_itself, &told});
    running.start();
    test::client client(running.port());
    client.send("test write operation");
    CHECK(told.words.take() == "open");
    CHECK(told.words.take() == "open");
    CHECK(told.words.take() == "127.0.0.1");
    CHECK(told.words.take() == "127.0.0.1");
    CHECK(told.words.take() == "test write operation");
}

// -- robustness -------------------------------------------------------------------------------------

TEST_CASE("GT-39 after a client that breaks off the next one is served", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    test::client first(running.port());
    first.send("half a");
    first.reset();
    CHECK(echoes(running.port(), "the next"));
    REQUIRE(running.log.wait_for(kind::closed, 2));
    CHECK(running.server.stats().closed_by(close_reason::peer_reset) == 1);
    CHECK(running.log.errors().empty()); // GT-41: a peer's end is no error
}

TEST_CASE("GT-16 GT-45 close() with a live client stops the server and frees it", "[parity]")
{
    test::running_server running(&test::echo);
    running.start();
    const auto port = running.port();
    test::client client(port);
    REQUIRE(running.log.wait_for(kind::opened));
    running.server.close();
    CHECK_FALSE(running.server.is_running());
    running.server.close(); // GT-19
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    CHECK(running.server.open_connections() == 0);
    CHECK(running.log.count(server_event_kind::stopped) == 1);
    CHECK(running.log.closed().front().reason == close_reason::server_closed);
    CHECK_THROWS_AS(test::client(port), std::system_error);
}

TEST_CASE("GT-47 without a single hook a server serves as well", "[parity]")
{
    asio::io_context context(1);
    tcp_server server(context, &test::echo, test::local_config());
    server.start();
    const auto port = server.local_endpoint().port();
    std::thread thread([&] { context.run(); });
    bool right = true;
    for (int i = 0; i < 3; ++i) {
        try {
            right = right && echoes(port, "nobody listens");
        } catch (const std::exception&) {
            right = false;
        }
    }
    {
        test::client failing(port);
        failing.reset();
    }
    server.close();
    thread.join(); // nothing of it keeps the context
    CHECK(right);
    CHECK(server.state() == server_state::stopped);
    CHECK(server.stats().closed >= 3);
    CHECK(server.open_connections() == 0);
}

// -- TLS --------------------------------------------------------------------------------------------

TEST_CASE("GT-52 GT-53 GT-54 a TLS server starts, counts and echoes", "[parity][tls]")
{
    test::running_server running(&test::echo, test::local_config(test::speaks::tls)); // GT-02 GT-51
    CHECK(running.server.state() == server_state::created);
    running.start();
    CHECK(running.server.is_running());
    {
        test::peer peer(running.port(), test::speaks::tls);
        CHECK(running.server.open_connections() == 1);
        peer.send("TLS test message");
        CHECK(peer.receive(16) == "TLS test message");
    }
    CHECK(counts(running.server, 0));
    CHECK(running.server.stats().tls_handshakes == 1);
}

TEST_CASE("GT-55 set_tls with nothing turns TLS off before the start", "[parity][tls]")
{
    test::running_server running(&test::echo, test::local_config(test::speaks::tls));
    running.server.set_tls(std::nullopt);
    running.start();
    running.on_shard([] {});
    CHECK(echoes(running.port(), "in the clear"));
    // And on again, while it runs.
    running.server.set_tls(test::local_config(test::speaks::tls).tls);
    running.on_shard([] {});
    test::peer peer(running.port(), test::speaks::tls);
    peer.send("secret");
    CHECK(peer.receive(6) == "secret");
}

TEST_CASE("GT-56 set_tls without a certificate is refused and changes nothing", "[parity][tls]")
{
    const auto protocol = GENERATE(test::speaks::plain, test::speaks::tls);
    INFO(test::name_of(protocol));
    test::running_server running(&test::echo, test::local_config(protocol));
    running.start();
    CHECK(test::code_thrown_by([&] {
              running.server.set_tls(tls_config{});
          }) == errc::invalid_tls_config);
    REQUIRE(running.log.wait_for_errors());
    CHECK(running.log.errors().front().code == errc::invalid_tls_config);
    test::peer peer(running.port(), protocol);
    peer.send("as before");
    CHECK(peer.receive(9) == "as before");
}

// -- names ------------------------------------------------------------------------------------------

TEST_CASE("core: every state and kind has its own name, and 255 has none", "[parity]")
{
    using names = std::vector<std::string_view>;
    names found;
    for (int value = 0; value < 7; ++value) {
        found.push_back(to_string(static_cast<kind>(value)));
    }
    CHECK(
        found ==
        names{"accepted", "opened", "read", "close_read", "write", "close_write", "closed"});
    found.clear();
    for (int value = 0; value < 4; ++value) {
        found.push_back(to_string(static_cast<server_state>(value)));
    }
    CHECK(found == names{"created", "running", "draining", "stopped"});
    found.clear();
    for (int value = 0; value < 7; ++value) {
        found.push_back(to_string(static_cast<server_event_kind>(value)));
    }
    CHECK(
        found == names{
                     "listening", "paused", "resumed", "draining", "stopped", "tls_reloaded",
                     "limit_reached"});
    CHECK(to_string(static_cast<kind>(255)) == "unknown");
    CHECK(to_string(static_cast<server_state>(255)) == "unknown");
    CHECK(to_string(static_cast<server_event_kind>(255)) == "unknown");
    CHECK(to_string(static_cast<close_reason>(255)) == "unknown");
}
