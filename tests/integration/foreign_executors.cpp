// Operations whose completion handlers belong to other executors: the operation ends on the
// connection's thread, with all its accounts; the handler is called where it wants to be. To be
// believed under ThreadSanitizer.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
struct elsewhere
{
    asio::thread_pool pool{1};
    test::mailbox<std::thread::id> threads;
    test::mailbox<std::size_t> counts;
};

/// A chain of single operations, each completing on the pool, the next one started at home.
struct pool_echo
{
    elsewhere* state;

    asio::awaitable<void> operator()(connection& conn) const
    {
        std::array<char, 64> buffer;
        for (int round = 0; round < 50; ++round) {
            const std::size_t n = co_await on_pool(
                [&](auto token) { return conn.async_read_some(asio::buffer(buffer), token); },
                conn);
            if (n == 0) {
                co_return;
            }
            co_await on_pool(
                [&](auto token) { return conn.async_write_some(asio::buffer(buffer, n), token); },
                conn);
        }
    }

    /// Starts the operation on this thread, and comes back to it.
    template <typename Operation>
    asio::awaitable<std::size_t> on_pool(Operation operation, connection& conn) const
    {
        asio::steady_timer done(conn.get_executor(), std::chrono::steady_clock::time_point::max());
        std::size_t bytes = 0;
        operation(asio::bind_executor(
            state->pool, [this, &done, &bytes](const std::error_code& error, std::size_t n) {
                state->threads.put(std::this_thread::get_id());
                asio::post(done.get_executor(), [&done, &bytes, count = error ? 0 : n] {
                    bytes = count;
                    done.cancel();
                });
            }));
        std::error_code ignored;
        co_await done.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        co_return bytes;
    }
};
} // namespace

TEST_CASE(
    "a completion bound to another executor is called there, its accounts are kept at home",
    "[executors]")
{
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    elsewhere state;
    auto config = test::local_config(protocol);
    config.io_events = true;
    test::running_server running(pool_echo{&state}, config);
    running.start();
    std::vector<test::peer> clients;
    for (int i = 0; i < 4; ++i) {
        clients.emplace_back(running.port(), protocol);
    }
    for (int round = 0; round < 50; ++round) {
        for (auto& client : clients) {
            client.send("ping");
        }
        for (auto& client : clients) {
            REQUIRE(client.receive(4) == "ping");
        }
        (void)running.server.stats();
    }
    for (auto& client : clients) {
        client.tcp().close();
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 4));
    const auto shard_thread = running.on_shard([] { return std::this_thread::get_id(); });
    const auto pool_thread = state.threads.take();
    CHECK(pool_thread != shard_thread);
    while (state.threads.size() != 0) {
        CHECK(state.threads.take() == pool_thread);
    }
    CHECK(running.server.stats().bytes_read == 4U * 50U * 4U);
    CHECK(running.server.stats().bytes_written == 4U * 50U * 4U);
}

TEST_CASE("a pending operation counts as work of its handler's executor", "[executors]")
{
    test::mailbox<std::thread::id> threads;
    asio::io_context other(1);
    auto script = [](connection& conn, asio::io_context& completes_in) -> asio::awaitable<void> {
        char byte = 0;
        conn.async_read_some(
            asio::buffer(&byte, 1),
            asio::bind_executor(completes_in, [](const std::error_code&, std::size_t) {}));
        co_await conn.closed();
        co_await asio::post(conn.get_executor(), asio::use_awaitable);
    };
    test::running_server running(test::scripted<asio::io_context>{script, &other});
    running.start();
    test::client client(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    running.on_shard([] {}); // the operation has begun
    std::thread thread([&] { // returns when the operation is done, and not before it
        other.run();
        threads.put(std::this_thread::get_id());
    });
    CHECK(threads.size() == 0);
    client.send("x");
    threads.take();
    thread.join();
    client.close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}

namespace
{
constexpr int rounds = 300;

/// A context that its own thread destroys as soon as nothing is left to run.
class short_lived_context
{
public:
    short_lived_context()
    {
        auto made = std::make_unique<asio::io_context>(1);
        strand.emplace(asio::make_strand(asio::any_io_executor(made->get_executor())));
        work.emplace(made->get_executor());
        thread = std::thread([context = std::move(made)]() mutable {
            context->run();
            context.reset();
        });
    }

    short_lived_context(const short_lived_context&) = delete;
    short_lived_context& operator=(const short_lived_context&) = delete;

    ~short_lived_context()
    {
        thread.join();
    }

    using strand_type = asio::strand<asio::any_io_executor>;

    std::optional<strand_type> strand;
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
    std::thread thread;
};

asio::awaitable<void> read_on_short_lived(connection& conn, test::mailbox<std::size_t>& counts)
{
    for (int round = 0; round < rounds; ++round) {
        short_lived_context other;
        char byte = 0;
        conn.async_read_some(
            asio::buffer(&byte, 1),
            asio::bind_executor(
                *std::exchange(other.strand, std::nullopt),
                [&](const std::error_code&, std::size_t bytes) { counts.put(bytes); }));
        other.work.reset(); // from here on it lives by the operation
        co_await conn.write(asio::buffer("?", 1));
        while (counts.size() == static_cast<std::size_t>(round)) {
            co_await asio::post(conn.get_executor(), asio::use_awaitable);
        }
    }
}
} // namespace

TEST_CASE("a completion on a strand leaves nothing behind that outlives its context", "[executors]")
{
    test::mailbox<std::size_t> counts;
    test::running_server running(test::scripted{read_on_short_lived, &counts});
    running.start();
    test::client client(running.port());
    for (int round = 0; round < rounds; ++round) {
        REQUIRE(client.receive(1) == "?");
        client.send("x");
    }
    client.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(counts.size() == rounds);
}

namespace
{
asio::awaitable<void> flush_each_line(connection& conn)
{
    framed lines(conn, codec::line{}, {.high_watermark = 10, .low_watermark = 1});
    for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
        co_await lines.send(*text);
        co_await lines.flush();
    }
    co_await conn.closed();
    co_await conn.shutdown_send();
}

/// Completes on a strand: a read, one that is refused, and then the whole conversation.
asio::awaitable<void> echo_on_a_strand(connection& conn, test::mailbox<std::size_t>& counts)
{
    const auto own = asio::make_strand(conn.get_executor());
    std::array<char, 4> buffer{};
    int ends = 0;
    conn.async_read_some(
        asio::buffer(buffer),
        asio::bind_executor(own, [&](const std::error_code& error, std::size_t bytes) {
            counts.put(error || !own.running_in_this_thread() ? 0 : bytes);
            ++ends;
        }));
    char more = 0;
    conn.async_read_some( // one is pending
        asio::buffer(&more, 1),
        asio::bind_executor(own, [&](const std::error_code& error, std::size_t) {
            counts.put(error && own.running_in_this_thread() ? 1 : 0);
            ++ends;
        }));
    while (ends != 2) {
        co_await asio::post(conn.get_executor(), asio::use_awaitable);
    }
    co_await asio::co_spawn(own, flush_each_line(conn), asio::use_awaitable);
}
} // namespace

TEST_CASE("a strand over the connection's executor is an executor like others", "[executors]")
{
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    test::mailbox<std::size_t> counts;
    test::running_server running(
        test::scripted{echo_on_a_strand, &counts}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    client.send("ping");
    CHECK(counts.take() == 1);
    CHECK(counts.take() == 4);
    client.send("hello\n" + std::string(20, 'x') + "\n");
    CHECK(client.receive(27) == "hello\n" + std::string(20, 'x') + "\n");
    client.tcp().close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
}
