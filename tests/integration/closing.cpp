#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/error_list.hpp"
#include "support/server_fixture.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

// The end of a connection on plain TCP: what the handler wrote arrives, whatever the client does meanwhile. TLS has
// closing_tls.cpp.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using clock_type = std::chrono::steady_clock;

namespace test::closing
{
inline std::string pattern(std::size_t size)
{
    std::string bytes(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        bytes[index] = static_cast<char>((index * 17 + index / 253) % 256);
    }
    return bytes;
}

/// Reads one byte of the request, answers, and leaves the rest of the request alone.
struct hasty_handler
{
    const std::string* answer;
    bool closes = false;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        co_await connection.read_some(asio::buffer(&byte, 1));
        co_await connection.write(asio::buffer(*answer));
        if (closes) {
            connection.close();
        }
    }
};

/// Throws when it has answered.
struct failing_handler
{
    const std::string* answer;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        co_await connection.read_some(asio::buffer(&byte, 1));
        co_await connection.write(asio::buffer(*answer));
        throw std::runtime_error("after the answer");
    }
};

/// Sends all the time from a thread of its own, up to `limit` bytes, until it is told to stop.
class flood
{
public:
    flood(client& target, std::size_t limit)
        : thread_([this, &target, limit] {
              const std::string bytes(4096, 'f');
              for (std::size_t sent = 0; sent < limit && !stopped_; sent += bytes.size()) {
                  if (!target.try_send(bytes)) {
                      return;
                  }
              }
          })
    {}

    ~flood()
    {
        stop();
    }

    void stop()
    {
        stopped_ = true;
        if (thread_.joinable()) {
            thread_.join();
        }
    }

private:
    std::atomic<bool> stopped_ = false;
    std::thread thread_;
};

constexpr std::size_t large = 2 << 20;
} // namespace test::closing

using namespace test::closing;

TEST_CASE("a client that keeps sending receives the whole answer and FIN", "[close][network]")
{
    const bool small_window = GENERATE(true, false);
    const bool closes = GENERATE(false, true);
    INFO("small window " << small_window << ", calls close() " << closes);
    const std::string answer = pattern(small_window ? large / 4 : large);
    test::running_server running(hasty_handler{&answer, closes});
    running.start();
    test::client client(running.port(), "127.0.0.1", small_window ? 8192 : 0);
    client.send("?");
    test::remainder rest;
    {
        flood sender(client, 16 << 20);
        rest = client.receive_rest();
        CHECK((rest.bytes == answer));
        CHECK(rest.end == test::stream_end::finished);
    }
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
    CHECK(running.log.closed().front().bytes_written == answer.size());
}

TEST_CASE("an exception after the answer does not cost the client the answer", "[close][network]")
{
    const std::string answer = pattern(large);
    test::running_server running(failing_handler{&answer});
    running.start();
    test::client client(running.port());
    client.send(std::string(64 << 10, '?')); // most of it is never read
    const auto rest = client.receive_rest();
    CHECK((rest.bytes == answer));
    CHECK(rest.end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_failed);
}

TEST_CASE("what the handler never read does not turn FIN into RST", "[close][network]")
{
    const bool peeks =
        GENERATE(false, true); // readable() keeps some of it, and that was not read either
    INFO("peeks " << peeks);
    const std::string answer = pattern(large / 8);
    struct refusing_handler
    {
        const std::string* answer;
        bool peeks;

        asio::awaitable<void> operator()(fairlead::connection& connection) const
        {
            if (peeks) {
                co_await connection.readable();
            }
            co_await connection.write(asio::buffer(*answer));
        }
    };
    auto config = test::local_config();
    config.socket.send_buffer = 1 << 20; // takes the answer, which a small window then holds back
    test::running_server running(refusing_handler{&answer, peeks}, config);
    running.start();
    for (int round = 0; round < 10; ++round) {
        test::client client(running.port(), "127.0.0.1", 8192);
        client.send(std::string(64 << 10, '?'));
        const auto rest = client.receive_rest();
        CHECK((rest.bytes == answer));
        CHECK(rest.end == test::stream_end::finished);
    }
}

TEST_CASE("a client that never closes is left after the linger time", "[close][linger][network]")
{
    const std::string answer = "bye";
    auto config = test::local_config();
    config.linger = 300ms;
    test::running_server running(hasty_handler{&answer}, config);
    running.start();
    test::client client(running.port());
    const auto begin = clock_type::now();
    client.send("?");
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "bye");
    CHECK(rest.end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed)); // though our socket is open
    CHECK(clock_type::now() - begin >= 300ms);
    CHECK(running.server.open_connections() == 0);
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
}

TEST_CASE(
    "a client that never stops sending is left after the linger time", "[close][linger][network]")
{
    const std::string answer = "bye";
    auto config = test::local_config();
    config.linger = 300ms;
    test::running_server running(hasty_handler{&answer}, config);
    running.start();
    test::client client(running.port());
    const auto begin = clock_type::now();
    client.send("?");
    // Slowly, so that it is the time that ends it, and not the number of bytes.
    while (running.log.count(connection_event_kind::closed) == 0 &&
           clock_type::now() - begin < test::patience) {
        client.try_send("x");
        std::this_thread::sleep_for(1ms);
    }
    CHECK(clock_type::now() - begin >= 300ms);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(client.receive(3) == "bye");
}

TEST_CASE("a client that sends without end is left after so many bytes", "[close][linger][network]")
{
    const std::string answer = "bye";
    auto config = test::local_config();
    config.linger = std::chrono::hours(1);
    test::running_server running(hasty_handler{&answer}, config);
    running.start();
    test::client client(running.port());
    client.send("?");
    const std::string bytes(1 << 20, 'f');
    int sent = 0;
    while (sent < 2048 && client.try_send(bytes)) {
        ++sent;
    }
    CHECK(sent < 2048); // it was stopped long before two gigabytes
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_returned);
    CHECK(running.log.closed().front().bytes_read == 1); // what is dropped was not read
}

TEST_CASE("a linger of zero does not wait for the client", "[close][linger][network]")
{
    const std::string answer = "bye";
    auto config = test::local_config();
    config.linger = 0ms;
    config.idle_timeout = 0ms;
    test::running_server running(hasty_handler{&answer}, config);
    running.start();
    test::client client(running.port());
    client.send("?");
    REQUIRE(running.log.wait_for(connection_event_kind::closed)); // though our socket is open
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "bye");
    CHECK(rest.end == test::stream_end::finished);
}

TEST_CASE("a client that finished first leaves nothing to wait for", "[close][linger][network]")
{
    auto config = test::local_config();
    config.linger = std::chrono::hours(1);
    test::running_server running(&test::echo, config);
    running.start();
    test::client client(running.port());
    client.send("all of it");
    client.finish();
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "all of it");
    CHECK(rest.end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK_FALSE(running.log.closed().front().code);
}

TEST_CASE("close_connection ends in order what was written", "[close][network]")
{
    const std::string answer = pattern(large / 8);
    struct waiting_handler
    {
        const std::string* answer;
        test::error_list* errors;

        asio::awaitable<void> operator()(fairlead::connection& connection) const
        {
            co_await connection.write(asio::buffer(*answer));
            char byte = 0;
            std::error_code error;
            co_await connection.read_some(asio::buffer(&byte, 1), error);
            errors->add(error);
        }
    };
    auto config = test::local_config();
    config.socket.send_buffer = 1 << 20;
    test::error_list errors;
    test::running_server running(waiting_handler{&answer, &errors}, config);
    running.start();
    test::client client(running.port(), "127.0.0.1", 8192);
    const auto limit = clock_type::now() + test::patience;
    while (running.server.stats().bytes_written < answer.size() && clock_type::now() < limit) {
        std::this_thread::yield();
    }
    CHECK(running.server.close_connection(running.log.connections().front().id));
    CHECK(errors.wait() == errc::server_closed);
    client.try_send("unexpected"); // meets an open socket, not a reset
    const auto rest = client.receive_rest();
    CHECK((rest.bytes == answer));
    CHECK(rest.end == test::stream_end::finished);
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::server_closed);
}
