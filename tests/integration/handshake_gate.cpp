// TLS handshakes beside clients that do not finish theirs: dripping, stalling, gone. One place in all these tests: who
// gets it is what they are about.

#include "support/catch.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;

namespace test::handshake_gate
{
inline fairlead::server_config one_place()
{
    auto config = test::local_config();
    config.tls = test::make_tls();
    config.max_handshakes = 1;
    config.pre_open_timeout = 1h; // nobody is rescued by it
    return config;
}

/// The first flight of a TLS client.
inline std::string hello()
{
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
        SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), &SSL_free);
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_connect(ssl.get());
    char* data = nullptr;
    const long size = BIO_get_mem_data(SSL_get_wbio(ssl.get()), &data);
    return {data, static_cast<std::size_t>(size)};
}

/// Has sent its hello and got the first bytes of the answer: the server waits for it, in its place.
inline test::client stalled(std::uint16_t port)
{
    test::client client(port);
    client.send(hello());
    client.receive(1);
    return client;
}

template <typename Running>
void require_service(const Running& running)
{
    test::tls_client good{test::client(running.port())};
    good.send("hello");
    CHECK(good.receive(5) == "hello");
}

/// Sends a byte now and again until it is destroyed.
class dripper
{
public:
    dripper(test::client connected, std::string_view beginning) : client_(std::move(connected))
    {
        client_.send(beginning);
        thread_ = std::thread([this] {
            for (int left = 10'000; left > 0 && !ends_; --left) {
                client_.try_send("x");
                std::this_thread::sleep_for(2ms);
            }
        });
    }

    dripper(const dripper&) = delete;
    dripper& operator=(const dripper&) = delete;

    ~dripper()
    {
        ends_ = true;
        thread_.join();
    }

private:
    test::client client_;
    std::atomic<bool> ends_ = false;
    std::thread thread_;
};
} // namespace test::handshake_gate

using namespace test::handshake_gate;

TEST_CASE("who has not completed its hello has no place", "[tls][handshake]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    const std::string half = hello().substr(0, 100);
    std::vector<test::client> slow;
    for (int n = 0; n < 200; ++n) {
        slow.emplace_back(running.port());
        slow.back().send(half);
    }
    require_service(running);
    CHECK(running.server.open_connections() >= 200);
}

TEST_CASE("bytes that drip in a handshake do not renew its time", "[tls][handshake]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    const bool has_hello = GENERATE(false, true);
    CAPTURE(has_hello);
    // Half a hello that goes on for 64 KB, or, behind a whole one, a record as long as they come.
    const std::string_view half("\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03", 11);
    const std::string_view record("\x17\x03\x03\x40\x00", 5);
    const dripper slow(
        has_hello ? stalled(running.port()) : test::client(running.port()),
        has_hello ? record : half);
    require_service(running);
    require_service(running);
}

TEST_CASE("clients that stall behind their hello give way, and may finish late", "[tls][handshake]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    std::vector<test::client> stallers;
    for (int n = 0; n < 15; ++n) {
        stallers.emplace_back(running.port());
        stallers.back().send(hello());
    }
    // This one has a whole handshake to do, with a pause in the middle.
    test::client late(running.port());
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
        SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), &SSL_free);
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_connect(ssl.get());
    std::string flight(16384, '\0');
    const auto take_flight = [&] {
        flight.resize(16384);
        const int n = BIO_read(SSL_get_wbio(ssl.get()), flight.data(), 16384);
        flight.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    };
    take_flight();
    late.send(flight);
    require_service(running); // queued behind all of them
    while (SSL_connect(ssl.get()) != 1) {
        const std::string byte = late.receive(1);
        BIO_write(SSL_get_rbio(ssl.get()), byte.data(), 1);
    }
    SSL_write(ssl.get(), "late", 4);
    take_flight();
    late.send(flight);
    CHECK_FALSE(late.receive(1).empty());
    REQUIRE(running.log.wait_for(connection_event_kind::opened, 2));
    CHECK(running.log.errors().empty());
}

TEST_CASE("who queues for a place notices that its peer has gone", "[tls][handshake]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    const bool resets = GENERATE(false, true);
    CAPTURE(resets);
    const auto expected = resets ? close_reason::peer_reset : close_reason::peer_closed;
    bool was_noticed = false;
    // On a slow machine the holder may have used up its time, and then nobody queues: another round.
    for (std::size_t round = 1; !was_noticed && round < 20; ++round) {
        const test::client holder = stalled(running.port());
        test::client gone(running.port());
        const auto port = gone.local_port();
        gone.send(hello());
        if (resets) {
            // Not before it is in the queue: a reset discards what nobody has read.
            REQUIRE(running.log.wait_for(connection_event_kind::accepted, 2 * round));
            running.on_shard([] {});
            running.on_shard([] {});
            gone.reset();
        } else {
            gone.finish();
        }
        const auto end = [&]() -> std::optional<close_reason> {
            for (const auto& event : running.log.closed()) {
                if (event.remote.port() == port) {
                    return event.reason;
                }
            }
            return std::nullopt;
        };
        REQUIRE(test::eventually([&] { return end().has_value(); }));
        was_noticed = end() == expected;
    }
    CHECK(was_noticed);
    CHECK(running.server.stats().opened == 0);
}

TEST_CASE("a server that is closed leaves nobody in the queue", "[tls][handshake][stop]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    const auto how = GENERATE(as<std::string>{}, "close", "deadline", "close_connection");
    CAPTURE(how);
    const test::client holder = stalled(running.port());
    std::vector<test::client> queue;
    for (int n = 0; n < 20; ++n) {
        queue.emplace_back(running.port());
        queue.back().send(hello());
    }
    REQUIRE(running.log.wait_for(connection_event_kind::accepted, 21));
    if (how == "close") {
        running.server.close();
    } else if (how == "deadline") {
        running.shutdown(0ms).get();
    } else {
        for (const auto& event : running.log.connections()) {
            running.server.close_connection(event.id);
        }
        for (auto& client : queue) {
            client.close();
        }
    }
    REQUIRE(
        running.log.wait_for(connection_event_kind::closed, how == "close_connection" ? 20 : 21));
    CHECK(running.server.stats().opened == 0);
    if (how == "close_connection") {
        require_service(running);
    }
}

TEST_CASE(
    "a context that is destroyed with handshakes in the queue takes them along",
    "[tls][handshake][stop]")
{
    const std::string first_flight = hello();
    std::vector<test::client> clients;
    {
        asio::io_context context{1};
        fairlead::tcp_server server(context, &test::echo, one_place());
        server.start();
        for (int n = 0; n < 20; ++n) {
            clients.emplace_back(server.local_endpoint().port());
            clients.back().send(first_flight);
        }
        const auto limit = std::chrono::steady_clock::now() + test::patience;
        while (server.stats().accepted < 20 && std::chrono::steady_clock::now() < limit) {
            context.run_for(1ms);
        }
        context.poll();
        CHECK(server.open_connections() == 20);
    }
    for (auto& client : clients) {
        CHECK(client.receive_rest().end != test::stream_end::timed_out);
    }
}

TEST_CASE("handshakes that the handler begins go through the same gate", "[start_tls][handshake]")
{
    struct upgrade
    {
        std::shared_ptr<const fairlead::tls_context> context;

        asio::awaitable<void> operator()(fairlead::connection& connection)
        {
            co_await connection.write(asio::buffer("go", 2));
            co_await connection.start_tls(*context);
            co_await test::echo(connection);
        }
    };
    auto config = test::local_config();
    config.max_handshakes = 1;
    config.pre_open_timeout = 1h;
    test::running_server running(
        upgrade{std::make_shared<fairlead::tls_context>(test::make_tls())}, config);
    running.start();
    std::vector<test::client> stallers;
    for (int n = 0; n < 5; ++n) {
        stallers.emplace_back(running.port());
        CHECK(stallers.back().receive(2) == "go");
        stallers.back().send(hello());
    }
    test::client plain(running.port());
    CHECK(plain.receive(2) == "go");
    test::tls_client good(std::move(plain));
    good.send("hello");
    CHECK(good.receive(5) == "hello");
}

TEST_CASE("a hello in records of one byte is a hello", "[tls][handshake]")
{
    test::running_server running(&test::echo, one_place());
    running.start();
    const std::string whole = hello().substr(5); // without the header of its record
    std::string records;
    for (const char byte : whole) {
        records += std::string("\x16\x03\x01\x00\x01", 5) + byte;
    }
    test::client client(running.port());
    client.send(records);
    CHECK(client.receive(1) == "\x16"); // the server's hello
}
