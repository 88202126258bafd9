// A drain waits for handlers and their children, not for sockets; so does the connection limit. And
// what had begun before the drain is served.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <openssl/ssl.h>

#include <string>
#include <thread>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
struct journal
{
    test::gate gate;
    test::mailbox<std::string> entries;
};

asio::awaitable<void> commits_behind_the_close(connection& conn, journal& state)
{
    co_await conn.write(asio::buffer("ok", 2));
    conn.close();
    co_await state.gate.wait();
    state.entries.put("committed");
}

asio::awaitable<void> commits_in_a_child(connection& conn, journal& state)
{
    auto child = [](journal& own) -> asio::awaitable<void> {
        co_await own.gate.wait();
        own.entries.put("committed");
    };
    conn.spawn(child(state));
    co_await conn.write(asio::buffer("ok", 2));
    conn.close();
}
} // namespace

TEST_CASE(
    "a drain waits for handlers whose connections are closed already", "[drain][handlers][network]")
{
    const bool in_child = GENERATE(false, true);
    CAPTURE(in_child);
    journal state;
    test::running_server running(
        test::scripted{in_child ? commits_in_a_child : commits_behind_the_close, &state});
    running.start();
    test::client client(running.port());
    CHECK(client.receive_rest().bytes == "ok");
    client.close();
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.server.stats().open == 0);
    CHECK(running.server.stats().handlers == 1);
    const auto infos = running.on_shard([&] { return running.server.connections(); });
    REQUIRE(infos.size() == 1);
    CHECK(infos.front().closed);
    CHECK(infos.front().opened);
    auto drain = running.shutdown(10s);
    running.on_shard([] {});
    CHECK(drain.wait_for(100ms) == std::future_status::timeout);
    CHECK(running.server.state() == server_state::draining);
    state.gate.open();
    const auto report = test::report_of(drain);
    CHECK(report.drained == 1);
    CHECK(report.stragglers.empty());
    CHECK(state.entries.size() == 1);
    CHECK(running.server.stats().handlers == 0);
}

TEST_CASE(
    "a handler that is still running at the deadline is a straggler, whatever its socket",
    "[drain][handlers][network]")
{
    journal state;
    test::running_server running(test::scripted{commits_behind_the_close, &state});
    running.start();
    test::client client(running.port());
    CHECK(client.receive_rest().bytes == "ok");
    client.close();
    REQUIRE(test::eventually([&] { return state.gate.waiting() == 1; }));
    auto drain = running.shutdown(20ms);
    const auto report = test::report_of(drain);
    REQUIRE(report.stragglers.size() == 1);
    CHECK(report.drained == 0);
    CHECK(running.server.state() == server_state::stopped);
    CHECK(running.server.stats().handlers == 1);
    state.gate.open();
    CHECK(state.entries.take() == "committed");
    CHECK(test::eventually([&] { return running.server.stats().handlers == 0; }));
}

TEST_CASE("max_connections counts handlers that are still running", "[limit][handlers][network]")
{
    journal state;
    auto config = test::local_config();
    config.max_connections = 3;
    test::running_server running(test::scripted{commits_behind_the_close, &state}, config);
    running.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 3; ++i) {
        clients.emplace_back(running.port());
        CHECK(clients.back().receive_rest().bytes == "ok");
        clients.back().close();
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 3));
    test::client waits(running.port());
    REQUIRE(running.log.wait_for(server_event_kind::paused));
    CHECK(running.server.stats().accepted == 3);
    state.gate.open(); // whoever comes now is not held any more
    CHECK(waits.receive_rest().bytes == "ok");
    CHECK(running.log.wait_for(connection_event_kind::accepted, 4));
}

namespace
{
asio::awaitable<void> answers_requests(connection& conn)
{
    char buffer[64];
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
        if (n == 0) {
            break;
        }
        co_await conn.write(asio::buffer(buffer, n));
    }
}

/// A TLS client whose handshake goes one step at a time.
class stepping_client
{
public:
    stepping_client(std::uint16_t port, int version) : tcp_(port)
    {
        const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
            SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
        ssl_.reset(SSL_new(context.get()));
        SSL_set_max_proto_version(ssl_.get(), version);
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl_.get(), in_, out_);
        SSL_set_connect_state(ssl_.get());
    }

    /// As far as it goes with what has come.
    bool step()
    {
        return SSL_do_handshake(ssl_.get()) == 1;
    }

    void write(std::string_view bytes)
    {
        SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
    }

    void flush()
    {
        char buffer[16384];
        for (int n = BIO_read(out_, buffer, sizeof buffer); n > 0;
             n = BIO_read(out_, buffer, sizeof buffer)) {
            tcp_.send({buffer, static_cast<std::size_t>(n)});
        }
    }

    /// What has come from the server, at least one byte; false at the end.
    bool fill()
    {
        char buffer[16384];
        const ssize_t n = ::recv(tcp_.fd(), buffer, sizeof buffer, 0);
        if (n > 0) {
            BIO_write(in_, buffer, static_cast<int>(n));
        }
        return n > 0;
    }

    std::string read_rest()
    {
        std::string all;
        char buffer[16384];
        for (;;) {
            const int n = SSL_read(ssl_.get(), buffer, sizeof buffer);
            if (n > 0) {
                all.append(buffer, static_cast<std::size_t>(n));
            } else {
                flush();
                if (!fill()) {
                    return all;
                }
            }
        }
    }

private:
    struct deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            SSL_free(ssl);
        }
    };

    test::client tcp_;
    std::unique_ptr<SSL, deleter> ssl_;
    BIO* in_ = nullptr;
    BIO* out_ = nullptr;
};
} // namespace

TEST_CASE(
    "a handshake that has begun is finished in a drain, and the request behind it is served",
    "[drain][tls][network]")
{
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    CAPTURE(version);
    test::running_server running(answers_requests, test::local_config(test::speaks::tls));
    running.start();
    stepping_client begun(running.port(), version);
    begun.step(); // the ClientHello
    begun.flush();
    REQUIRE(begun.fill()); // the server has answered it
    test::client silent(running.port());
    REQUIRE(running.log.wait_for(connection_event_kind::accepted, 2));
    auto drain = running.shutdown(10s);
    CHECK(
        silent.receive_rest().end !=
        test::stream_end::timed_out); // it had not begun: closed at once
    silent.close();
    CHECK(running.server.state() == server_state::draining);
    while (!begun.step()) {
        begun.flush();
        REQUIRE(begun.fill());
    }
    begun.flush();
    begun.write("request");
    begun.flush();
    CHECK(begun.read_rest() == "request");
    const auto report = test::report_of(drain);
    CHECK(report.drained == 1);
    CHECK(report.closed_idle == 1);
    CHECK(report.stragglers.empty());
}

TEST_CASE(
    "who is served only during the drain, and says nothing, is sent home", "[drain][tls][network]")
{
    test::running_server running(answers_requests, test::local_config(test::speaks::tls));
    running.start();
    stepping_client begun(running.port(), TLS1_3_VERSION);
    begun.step();
    begun.flush();
    REQUIRE(begun.fill());
    auto drain = running.shutdown(60s);
    while (!begun.step()) {
        begun.flush();
        REQUIRE(begun.fill());
    }
    begun.flush();
    CHECK(begun.read_rest().empty());
    const auto report = test::report_of(drain); // long before its deadline
    CHECK(report.closed_idle == 1);
    CHECK(report.stragglers.empty());
}

TEST_CASE(
    "a handshake that is under way at the drain's deadline is a straggler", "[drain][tls][network]")
{
    test::running_server running(answers_requests, test::local_config(test::speaks::tls));
    running.start();
    stepping_client begun(running.port(), TLS1_3_VERSION);
    begun.step();
    begun.flush();
    REQUIRE(begun.fill());
    auto drain = running.shutdown(50ms);
    const auto report = test::report_of(drain);
    REQUIRE(report.stragglers.size() == 1);
    CHECK_FALSE(report.stragglers.front().opened);
}
