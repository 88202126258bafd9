// Clients that the kernel has queued when a drain begins are served, every one of them.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/sharded_server.hpp>

#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::client_distribution;
using fairlead::limit_policy;
using fairlead::server_event_kind;
using fairlead::server_state;

namespace test::drain_queue
{
/// Answers one request after the other, and leaves when the drain says so.
inline asio::awaitable<void> answer_each(fairlead::connection& connection)
{
    std::array<char, 64> buffer;
    for (bool more = co_await connection.readable(); more; more = co_await connection.readable()) {
        const auto n = co_await connection.read_some(asio::buffer(buffer));
        if (n == 0) {
            co_return;
        }
        co_await connection.write(asio::buffer(buffer, n));
    }
}

/// A TLS client that has sent its ClientHello and waits.
class waiting_tls_client
{
public:
    explicit waiting_tls_client(std::uint16_t port) : tcp_(port)
    {
        static const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
            SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
        ssl_.reset(SSL_new(context.get()));
        SSL_set_fd(ssl_.get(), tcp_.fd());
        const int flags = ::fcntl(tcp_.fd(), F_GETFL);
        ::fcntl(tcp_.fd(), F_SETFL, flags | O_NONBLOCK);
        SSL_connect(ssl_.get());
        ::fcntl(tcp_.fd(), F_SETFL, flags);
    }

    /// What it gets for `request`; empty: nothing.
    std::string ask(const std::string& request)
    {
        std::string reply(request.size(), '\0');
        const int size = static_cast<int>(request.size());
        if (SSL_connect(ssl_.get()) != 1 || SSL_write(ssl_.get(), request.data(), size) != size ||
            SSL_read(ssl_.get(), reply.data(), size) != size) {
            return {};
        }
        return reply;
    }

private:
    struct ssl_deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            SSL_free(ssl);
        }
    };

    test::client tcp_;
    std::unique_ptr<SSL, ssl_deleter> ssl_;
};

inline std::string request_of(std::size_t client)
{
    return "request " + std::to_string(client);
}

/// Clients that have connected and sent a request, and wait.
inline std::vector<test::client> queued_clients(std::uint16_t port, std::size_t count)
{
    std::vector<test::client> clients;
    for (std::size_t index = 0; index < count; ++index) {
        clients.emplace_back(port);
        clients.back().send(request_of(index));
    }
    return clients;
}

/// How many of them get no reply.
inline std::size_t count_lost(std::vector<test::client>& clients)
{
    std::size_t lost = 0;
    for (std::size_t index = 0; index < clients.size(); ++index) {
        lost += clients[index].receive_rest().bytes == request_of(index) ? 0U : 1U;
        clients[index].close();
    }
    return lost;
}

inline std::vector<waiting_tls_client> queued_tls_clients(std::uint16_t port, std::size_t count)
{
    std::vector<waiting_tls_client> clients;
    for (std::size_t index = 0; index < count; ++index) {
        clients.emplace_back(port);
    }
    return clients;
}

inline std::size_t count_lost(std::vector<waiting_tls_client>& clients)
{
    std::size_t lost = 0;
    for (std::size_t index = 0; index < clients.size(); ++index) {
        lost += clients[index].ask(request_of(index)) == request_of(index) ? 0U : 1U;
    }
    clients.clear();
    return lost;
}

inline fairlead::server_config queue_config(bool with_tls)
{
    auto settings = test::local_config();
    settings.pre_open_timeout = 60s;
    if (with_tls) {
        settings.tls = test::make_tls();
    }
    return settings;
}
} // namespace test::drain_queue

using namespace test::drain_queue;

TEST_CASE("a drain serves the clients that the kernel has queued", "[drain][network]")
{
    test::running_server running(answer_each, queue_config(false));
    running.server.start(); // and nothing runs it yet
    auto clients = queued_clients(running.port(), 500);
    auto draining = running.shutdown(60s);
    running.run();
    CHECK(count_lost(clients) == 0);
    const auto report = test::report_of(draining);
    CHECK(report.drained + report.closed_idle == 500); // some had been accepted before it began
    CHECK(report.stragglers.empty());
    CHECK_THROWS(test::client(running.port())); // and nobody after them
    CHECK(running.server.state() == server_state::stopped);
}

TEST_CASE("a drain serves the TLS clients that the kernel has queued", "[drain][tls][network]")
{
    test::running_server running(answer_each, queue_config(true));
    running.server.start();
    auto clients = queued_tls_clients(running.port(), 200);
    auto draining = running.shutdown(60s);
    running.run();
    CHECK(count_lost(clients) == 0);
    const auto report = test::report_of(draining);
    CHECK(report.drained + report.closed_idle == 200);
    CHECK(report.stragglers.empty());
}

TEST_CASE(
    "a drain at max_connections takes the queued clients as places become free", "[drain][network]")
{
    auto settings = queue_config(false);
    settings.max_connections = 7;
    test::running_server running(answer_each, settings);
    running.server.start();
    auto clients = queued_clients(running.port(), 100);
    auto draining = running.shutdown(60s);
    running.run();
    CHECK(count_lost(clients) == 0);
    const auto report = test::report_of(draining);
    CHECK(report.drained + report.closed_idle == 100);
}

TEST_CASE("a drain that waits for a place ends at its deadline", "[drain][network]")
{
    auto settings = queue_config(false);
    settings.max_connections = 1;
    test::running_server running(test::echo, settings);
    running.start();
    test::client first(running.port());
    first.send("x");
    REQUIRE(first.receive(1) == "x");
    test::client second(running.port());
    REQUIRE(running.log.wait_for(server_event_kind::paused));
    auto draining = running.shutdown(50ms); // echo does not listen to drains
    CHECK(test::report_of(draining).stragglers.size() == 1);
    CHECK(second.receive_rest().end == test::stream_end::reset);
    CHECK_THROWS(test::client(running.port()));
}

TEST_CASE("queued clients that say nothing do not hold up a drain", "[drain][network]")
{
    const bool with_tls = GENERATE(false, true);
    INFO("TLS " << with_tls);
    test::running_server running(answer_each, queue_config(with_tls));
    running.server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 20; ++i) {
        clients.emplace_back(running.port());
    }
    auto draining = running.shutdown(60s);
    running.run();
    const auto report = test::report_of(draining);
    CHECK(report.closed_idle == 20);
    CHECK(report.stragglers.empty());
}

TEST_CASE("a drain without time takes nobody", "[drain][network]")
{
    test::running_server running(answer_each, queue_config(false));
    running.server.start();
    test::client client(running.port());
    auto draining = running.shutdown(0ms);
    running.run();
    test::report_of(draining);
    CHECK(client.receive_rest().end != test::stream_end::timed_out);
    CHECK_THROWS(test::client(running.port()));
}

TEST_CASE("close during a drain drops the clients that wait for a place", "[drain][network]")
{
    auto settings = queue_config(false);
    settings.max_connections = 1;
    test::running_server running(test::echo, settings);
    running.start();
    test::client first(running.port());
    first.send("x");
    REQUIRE(first.receive(1) == "x");
    test::client second(running.port());
    REQUIRE(running.log.wait_for(server_event_kind::paused));
    auto draining = running.shutdown(60s);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    running.server.close();
    test::report_of(draining);
    CHECK(second.receive_rest().end == test::stream_end::reset);
}

TEST_CASE("a drain of all shards serves the clients that the kernel has queued", "[drain][shards]")
{
    const auto distribution =
        GENERATE(client_distribution::automatic, client_distribution::round_robin);
    const bool with_tls = GENERATE(false, true);
    INFO("round robin " << (distribution == client_distribution::round_robin));
    INFO("TLS " << with_tls);
    fairlead::sharded_server server(
        answer_each, queue_config(with_tls), {.threads = 3, .distribution = distribution});
    server.open();
    const auto port = server.local_endpoint().port();
    const auto serve = [&](auto clients) {
        server.start();
        std::thread drain([&] { server.shutdown(60s); });
        const std::size_t lost = count_lost(clients);
        drain.join();
        return lost;
    };
    if (with_tls) {
        CHECK(serve(queued_tls_clients(port, 200)) == 0);
    } else {
        CHECK(serve(queued_clients(port, 500)) == 0);
    }
    CHECK(server.state() == server_state::stopped);
}
