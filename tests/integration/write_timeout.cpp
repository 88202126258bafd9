#include "support/catch.hpp"
#include "support/error_list.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

// Writes that the client takes slowly, or not at all. Buffers are small, so that the kernel cannot take it all.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using clock_type = std::chrono::steady_clock;

namespace test::write_timeout
{
inline std::string pattern(std::size_t size)
{
    std::string bytes(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        bytes[index] = static_cast<char>((index * 31 + index / 251) % 256);
    }
    return bytes;
}

/// Writes one large message, notes how that ended, and returns.
struct large_writer
{
    error_list* errors;
    const std::string* message;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        std::error_code error;
        co_await connection.write(asio::buffer(*message), error);
        errors->add(error);
    }
};

inline fairlead::server_config config(bool tls, int send_buffer)
{
    auto config = test::local_config();
    config.socket.send_buffer = send_buffer;
    if (tls) {
        config.tls = test::make_tls();
    }
    return config;
}

/// Reads what a large_writer sends, plain or under TLS.
class reader
{
public:
    reader(std::uint16_t port, bool tls) : plain_(port, "127.0.0.1", 4096)
    {
        if (tls) {
            tls_ = std::make_unique<tls_client>(std::move(plain_));
        }
    }

    std::string some(std::size_t size)
    {
        return tls_ ? tls_->receive(size) : plain_.receive(size);
    }

    test::client& tcp()
    {
        return tls_ ? tls_->tcp() : plain_;
    }

private:
    test::client plain_;
    std::unique_ptr<tls_client> tls_;
};
} // namespace test::write_timeout

using namespace test::write_timeout;

TEST_CASE("a write of which the client takes nothing ends after the write timeout", "[write]")
{
    const bool tls = GENERATE(false, true);
    INFO((tls ? "TLS" : "plain TCP"));
    auto settings = config(tls, 16 * 1024);
    settings.write_timeout = 300ms;
    const std::string message = pattern(8 << 20);
    test::error_list errors;
    test::running_server running(large_writer{&errors, &message}, settings);
    running.start();

    const auto begin = clock_type::now();
    reader client(running.port(), tls);
    CHECK(errors.wait() == errc::write_timeout);
    CHECK(clock_type::now() - begin >= 300ms);
    CHECK(errors.wait() == std::errc::timed_out);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto closed = running.log.closed().front();
    CHECK(closed.reason == close_reason::write_timeout);
    CHECK(closed.code == errc::write_timeout);
    CHECK(closed.bytes_written > 0);
    CHECK(closed.bytes_written < message.size());
    CHECK(running.log.errors().empty());
    CHECK(client.tcp().receive_rest().end == test::stream_end::reset);
}

TEST_CASE(
    "a client that stops in the middle is given the whole write timeout again", "[write][network]")
{
    auto settings = config(false, 16 * 1024);
    settings.write_timeout = 300ms;
    const std::string message = pattern(8 << 20);
    test::error_list errors;
    test::running_server running(large_writer{&errors, &message}, settings);
    running.start();
    reader client(running.port(), false);
    CHECK(client.some(1 << 20) == message.substr(0, 1 << 20));
    const auto stalled = clock_type::now(); // the server may send a little more into the buffers
    CHECK(errors.wait() == errc::write_timeout);
    CHECK(clock_type::now() - stalled >= 300ms);
}

TEST_CASE(
    "a large write that a slow client takes bit by bit is neither idle nor stalled",
    "[write][idle][network]")
{
    const bool tls = GENERATE(false, true);
    INFO((tls ? "TLS" : "plain TCP"));
    // The kernel's buffer is so large that no write completes for seconds, though bytes leave it all the time.
    auto settings = config(tls, 256 * 1024);
    settings.write_timeout = 1s;
    settings.idle_timeout = 1s;
    const std::string message = pattern(2 << 20);
    test::error_list errors;
    test::running_server running(large_writer{&errors, &message}, settings);
    running.start();
    reader client(running.port(), tls);

    std::string got;
    const auto begin = clock_type::now();
    while (clock_type::now() - begin < 4s) { // 40 KB/s
        got += client.some(1024);
        std::this_thread::sleep_for(25ms);
    }
    CHECK(errors.size() == 0); // not done, not given up
    got += client.some(message.size() - got.size());
    CHECK((got == message));
    CHECK_FALSE(errors.wait());
    CHECK(running.log.errors().empty());
}

TEST_CASE("what the kernel still sends for a waiting handler is not idleness", "[idle][network]")
{
    // The write completes at once, into the kernel's buffer. The client then takes seconds to get it.
    auto settings = test::local_config();
    settings.socket.send_buffer = 1 << 20;
    settings.idle_timeout = 1s;
    const std::string message = pattern(512 << 10);
    test::error_list errors;
    struct write_then_wait
    {
        test::error_list* errors;
        const std::string* message;

        asio::awaitable<void> operator()(fairlead::connection& connection) const
        {
            co_await connection.write(asio::buffer(*message));
            errors->add({});
            std::error_code error;
            co_await connection.readable(error);
            errors->add(error);
        }
    };
    test::running_server running(write_then_wait{&errors, &message}, settings);
    running.start();
    test::client client(running.port(), "127.0.0.1", 4096);
    CHECK_FALSE(errors.wait(0));
    std::string got;
    const auto begin = clock_type::now();
    while (clock_type::now() - begin < 4s) {
        got += client.receive(1024);
        std::this_thread::sleep_for(25ms);
    }
    CHECK(errors.size() == 1);
    const auto rest = client.receive_rest();
    CHECK((got + rest.bytes == message));
    CHECK(rest.end == test::stream_end::finished);
    CHECK(errors.wait(1) == errc::idle_timeout);
}

TEST_CASE("a write timeout of zero waits for ever", "[write][network]")
{
    auto settings = config(false, 16 * 1024);
    settings.write_timeout = 0ms;
    settings.idle_timeout = 0ms;
    const std::string message = pattern(4 << 20);
    test::error_list errors;
    test::running_server running(large_writer{&errors, &message}, settings);
    running.start();
    reader client(running.port(), false);
    std::this_thread::sleep_for(300ms);
    CHECK(errors.size() == 0);
    CHECK((client.some(message.size()) == message));
    CHECK_FALSE(errors.wait());
}

TEST_CASE(
    "expires_after and the lifetime end a write as well",
    "[write][expires_after][lifetime][network]")
{
    const bool by_handler = GENERATE(true, false);
    const bool tls = GENERATE(false, true);
    INFO("by the handler " << by_handler << (tls ? ", TLS" : ", plain TCP"));
    auto settings = config(tls, 16 * 1024);
    settings.max_lifetime = by_handler ? 0ms : 300ms;
    settings.linger = 300ms;
    const std::string message = pattern(8 << 20);
    struct limited_writer
    {
        test::error_list* errors;
        const std::string* message;
        bool by_handler;

        asio::awaitable<void> operator()(fairlead::connection& connection) const
        {
            connection.expires_after(by_handler ? 300ms : 0ms);
            std::error_code error;
            co_await connection.write(asio::buffer(*message), error);
            errors->add(error);
        }
    };
    test::error_list errors;
    test::running_server running(limited_writer{&errors, &message, by_handler}, settings);
    running.start();
    const auto begin = clock_type::now();
    reader client(running.port(), tls); // which reads nothing, and does not close
    const errc expected = by_handler ? errc::deadline_exceeded : errc::max_lifetime;
    CHECK(errors.wait() == expected);
    CHECK(clock_type::now() - begin >= 270ms);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().code == expected);
    CHECK(test::wait_until_idle(running.server));
}
