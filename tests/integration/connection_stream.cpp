// A connection as a stream of Asio's: its algorithms, a user's own composed operation, other
// completion tokens; and both directions at once.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/co_spawn.hpp>
#include <asio/compose.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/use_future.hpp>
#include <asio/write.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

using namespace fairlead;
using namespace std::chrono_literals;
using test::either;
using test::speaks;

namespace
{
// Asio's AsyncReadStream and AsyncWriteStream, as its documentation words them.
template <typename Stream>
concept async_stream = requires(
    Stream& stream, asio::mutable_buffer in, asio::const_buffer out,
    void (*handler)(std::error_code, std::size_t))
{
    typename Stream::executor_type;
    {
        stream.get_executor()
        } -> std::same_as<typename Stream::executor_type>;
    stream.async_read_some(in, handler);
    stream.async_write_some(out, handler);
};
static_assert(async_stream<connection>);
static_assert(std::same_as<connection::executor_type, asio::any_io_executor>);
static_assert(!std::is_copy_constructible_v<connection>);
static_assert(!std::is_move_constructible_v<connection>);
static_assert(!std::is_copy_assignable_v<connection>);
static_assert(!std::is_move_assignable_v<connection>);
static_assert(noexcept(std::declval<connection&>().close()));
static_assert(noexcept(std::declval<connection&>().abort()));

/// A user's composed operation: reads a length byte, then so many bytes.
template <typename Stream>
struct read_counted
{
    Stream& stream;
    std::string& body;
    enum
    {
        starting,
        reading_size,
        reading_body,
    } state = starting;

    template <typename Self>
    void operator()(Self& self, std::error_code error = {}, std::size_t = 0)
    {
        if (error) {
            return self.complete(error, body.size());
        }
        switch (state) {
        case starting:
            state = reading_size;
            size_in = std::make_unique<unsigned char>();
            asio::async_read(stream, asio::buffer(size_in.get(), 1), std::move(self));
            return;
        case reading_size:
            state = reading_body;
            body.resize(*size_in);
            asio::async_read(stream, asio::buffer(body), std::move(self));
            return;
        case reading_body:
            self.complete({}, body.size());
            return;
        }
    }

    std::unique_ptr<unsigned char> size_in = {};
};

template <typename Stream, typename Token>
auto async_read_counted(Stream& stream, std::string& body, Token&& token)
{
    return asio::async_compose<Token, void(std::error_code, std::size_t)>(
        read_counted<Stream>{stream, body}, token, stream);
}

struct told
{
    test::mailbox<std::string> words;
    test::mailbox<std::error_code> errors;
};

asio::awaitable<void> speak_lines(connection& connection, told& told)
{
    std::string buffer;
    for (int i = 0; i < 3; ++i) {
        const std::size_t size = co_await asio::async_read_until(
            connection, asio::dynamic_buffer(buffer), "\r\n", asio::use_awaitable);
        told.words.put(buffer.substr(0, size));
        const std::array<asio::const_buffer, 3> answer{
            asio::buffer("<", 1), asio::buffer(buffer.data(), size - 2), asio::buffer(">", 1)};
        co_await asio::async_write(connection, answer, asio::use_awaitable);
        buffer.erase(0, size);
    }
    std::error_code error;
    co_await asio::async_read_until(
        connection, asio::dynamic_buffer(buffer), "\r\n",
        asio::redirect_error(asio::use_awaitable, error));
    told.errors.put(error);
    told.words.put(buffer);
}

asio::awaitable<void> speak_counted(connection& connection, told& told)
{
    for (int i = 0; i < 2; ++i) {
        std::string body;
        const auto size = co_await async_read_counted(connection, body, asio::use_awaitable);
        told.words.put(body + "/" + std::to_string(size));
    }
    std::string body;
    std::error_code error;
    co_await async_read_counted(connection, body, asio::redirect_error(asio::use_awaitable, error));
    told.errors.put(error);
}

/// Callbacks, as code older than coroutines has them; the gate is opened by the last one.
asio::awaitable<void> speak_callbacks(connection& connection, told& told)
{
    std::string input(3, '\0');
    asio::steady_timer done(
        co_await asio::this_coro::executor, std::chrono::steady_clock::time_point::max());
    bool inside = true;
    connection.async_read_some(asio::buffer(input), [&](std::error_code error, std::size_t bytes) {
        told.words.put(inside ? "inside the call" : input.substr(0, bytes));
        told.errors.put(error);
        inside = true;
        connection.async_write_some(
            asio::buffer(input, bytes), [&](std::error_code failure, std::size_t) {
                told.words.put(inside ? "inside the call" : "written");
                told.errors.put(failure);
                done.cancel();
            });
        inside = false;
    });
    inside = false;
    std::error_code ignored;
    co_await done.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}
} // namespace

TEST_CASE("asio::async_read_until and asio::async_write work on a connection", "[stream][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    told told;
    test::running_server running(test::scripted{speak_lines, &told}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send("one\r\ntwo\r");
    CHECK(told.words.take() == "one\r\n");
    CHECK(peer.receive(5) == "<one>");
    peer.send("\n" + std::string(5000, 'x') + "\r\nrest");
    CHECK(told.words.take() == "two\r\n");
    CHECK(told.words.take() == std::string(5000, 'x') + "\r\n");
    CHECK(peer.receive(5) == "<two>");
    CHECK(peer.receive(5002) == "<" + std::string(5000, 'x') + ">");
    peer.finish();
    CHECK(told.errors.take() == asio::error::eof);
    CHECK(told.words.take() == "rest");
    CHECK(peer.receive_rest().end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
}

TEST_CASE("a user's composed operation works on a connection", "[stream][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    told told;
    test::running_server running(
        test::scripted{speak_counted, &told}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send(
        "\x03"
        "abc"
        "\xc8" +
        std::string(100, 'x'));
    CHECK(told.words.take() == "abc/3");
    peer.send(std::string(100, 'x') + "\x02y");
    CHECK(told.words.take() == std::string(200, 'x') + "/200");
    peer.finish();
    CHECK(told.errors.take() == asio::error::eof);
}

TEST_CASE(
    "callbacks are called once, and never inside the call that starts them", "[stream][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    told told;
    test::running_server running(
        test::scripted{speak_callbacks, &told}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    peer.send("abc");
    CHECK(told.words.take() == "abc");
    CHECK(told.words.take() == "written");
    CHECK_FALSE(told.errors.take());
    CHECK_FALSE(told.errors.take());
    CHECK(peer.receive(3) == "abc");
    CHECK(peer.receive_rest().end == test::stream_end::finished);
    CHECK(told.words.size() == 0);
}

namespace
{
constexpr std::size_t duplex_size = 3'000'000;

/// Letters that depend on the position, so that a lost or repeated piece shows.
std::string letters(std::size_t from, std::size_t size)
{
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) {
        text[i] = static_cast<char>('a' + (from + i) % 26 + (from + i) / 10'007 % 3);
    }
    return text;
}

asio::awaitable<void> pour(connection& connection)
{
    for (std::size_t at = 0; at < duplex_size; at += 50'000) {
        const std::string piece = letters(at, 50'000);
        co_await connection.write(asio::buffer(piece));
    }
}

/// One coroutine writes all the time while this one reads.
asio::awaitable<void> both_at_once(connection& connection, told& told)
{
    auto poured = asio::co_spawn(connection.get_executor(), pour(connection), asio::use_future);
    asio::steady_timer tick(co_await asio::this_coro::executor);
    std::string got;
    std::string buffer(30'000, '\0');
    while (const std::size_t n = co_await connection.read_some(asio::buffer(buffer))) {
        got.append(buffer, 0, n);
    }
    while (poured.wait_for(0s) != std::future_status::ready) {
        tick.expires_after(1ms);
        co_await tick.async_wait(asio::use_awaitable);
    }
    poured.get();
    told.words.put(got);
}
} // namespace

TEST_CASE("one coroutine reads while another writes", "[stream][network]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    told told;
    test::running_server running(test::scripted{both_at_once, &told}, test::local_config(protocol));
    running.start();
    test::peer peer(running.port(), protocol);
    // In turn, so that neither side of a blocking client stops the other for good.
    for (std::size_t at = 0; at < duplex_size; at += 100'000) {
        peer.send(letters(at, 100'000));
        REQUIRE(peer.receive(100'000) == letters(at, 100'000));
    }
    peer.finish();
    CHECK(told.words.take() == letters(0, duplex_size));
    CHECK(peer.receive_rest().bytes.empty());
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_read == duplex_size);
    CHECK(running.log.closed().front().bytes_written == duplex_size);
    CHECK(running.log.errors().empty());
}
