#include "support/catch.hpp"
#include "support/error_list.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <thread>

// The time from accept to the handler's start, and what a server does while nothing happens.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::errc;
using clock_type = std::chrono::steady_clock;

namespace test::pre_open
{
/// The first flight of a TLS client.
inline std::string client_hello()
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

inline fairlead::server_config config(std::chrono::milliseconds timeout)
{
    auto config = test::local_config();
    config.tls = test::make_tls();
    config.pre_open_timeout = timeout;
    return config;
}

template <typename Running>
void check_closed_before_open(const Running& running)
{
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto steps = running.log.connections();
    REQUIRE(steps.size() == 2); // accepted, closed: no handler ran
    CHECK(steps[0].kind == connection_event_kind::accepted);
    CHECK(steps[1].reason == close_reason::pre_open_timeout);
    CHECK(steps[1].code == errc::pre_open_timeout);
    CHECK(steps[1].code == std::errc::timed_out);
    CHECK(steps[1].age >= 200ms);
    CHECK(running.server.stats().opened == 0);
    CHECK(running.log.errors().empty());
}
} // namespace test::pre_open

using namespace test::pre_open;

TEST_CASE(
    "a client that never says hello is closed after the pre-open timeout",
    "[pre_open][tls][network]")
{
    test::running_server running(test::echo, config(200ms));
    running.start();
    const auto begin = clock_type::now();
    test::client client(running.port());
    const auto rest = client.receive_rest();
    CHECK(clock_type::now() - begin >= 200ms);
    CHECK(rest.bytes.empty());
    CHECK(rest.end == test::stream_end::finished);
    check_closed_before_open(running);
}

TEST_CASE("half a hello does not hold a connection for longer", "[pre_open][tls][network]")
{
    test::running_server running(test::echo, config(200ms));
    running.start();
    const std::string hello = client_hello();
    REQUIRE(hello.size() > 50);
    const auto begin = clock_type::now();
    test::client client(running.port());
    client.send(hello.substr(0, hello.size() / 2));
    const auto rest = client.receive_rest();
    CHECK(clock_type::now() - begin >= 200ms);
    CHECK(rest.end == test::stream_end::finished);
    check_closed_before_open(running);
}

TEST_CASE("a hello that trickles does not hold a connection for longer", "[pre_open][tls][network]")
{
    test::running_server running(test::echo, config(300ms));
    running.start();
    const std::string hello = client_hello();
    const auto begin = clock_type::now();
    test::client client(running.port());
    // Bytes all the time, and few enough that the hello would take more than ten seconds.
    std::size_t sent = 0;
    while (running.log.count(connection_event_kind::closed) == 0 && sent + 1 < hello.size()) {
        client.try_send(std::string_view(hello).substr(sent++, 1));
        std::this_thread::sleep_for(50ms);
    }
    CHECK(clock_type::now() - begin >= 300ms);
    CHECK(sent + 1 < hello.size());
    check_closed_before_open(running);
}

TEST_CASE("the pre-open timeout ends with the handshake", "[pre_open][tls][network]")
{
    test::running_server running(test::echo, config(200ms));
    running.start();
    test::tls_client client{test::client(running.port())};
    test::client silent(running.port());
    silent.receive_rest(); // 200 ms later
    client.send("still here");
    CHECK(client.receive(10) == "still here");
    CHECK(running.log.closed().size() == 1);
}

TEST_CASE("without TLS there is nothing to do before the handler starts", "[pre_open][network]")
{
    auto config = test::local_config();
    config.pre_open_timeout = 50ms;
    config.idle_timeout = 300ms;
    test::error_list errors;
    test::running_server running(test::dropping_handler{&errors}, config);
    running.start();
    test::client client(running.port());
    client.receive_rest();
    CHECK(errors.wait() == errc::idle_timeout);
}

TEST_CASE("a pre-open timeout of zero is none", "[pre_open][tls][network]")
{
    auto settings = config(0ms);
    settings.idle_timeout = 100ms; // counts from the handler's start only
    test::running_server running(test::echo, settings);
    running.start();
    test::client slow(running.port());
    std::this_thread::sleep_for(300ms);
    test::tls_client client{std::move(slow)};
    CHECK(client.receive_rest().close_notify);
    client.tcp().close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::idle_timeout);
    CHECK(running.server.stats().opened == 1);
}

TEST_CASE(
    "the lifetime counts before the handler starts as well", "[pre_open][lifetime][tls][network]")
{
    auto settings = config(0ms);
    settings.max_lifetime = 200ms;
    test::running_server running(test::echo, settings);
    running.start();
    test::client silent(running.port());
    CHECK(silent.receive_rest().end == test::stream_end::finished);
    silent.close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::max_lifetime);
    CHECK(running.server.stats().opened == 0);
}

// -- nothing happens ------------------------------------------------------------------------------------

namespace
{
/// Runs `context` on this thread until `condition()`. False: it does not come.
template <typename Condition>
bool run_until(asio::io_context& context, Condition condition)
{
    const auto limit = clock_type::now() + test::patience;
    while (!condition() && clock_type::now() < limit) {
        context.run_for(10ms);
    }
    return condition();
}
} // namespace

TEST_CASE("a server without connections never wakes", "[idle][timer]")
{
    asio::io_context context{1};
    fairlead::tcp_server server(context, &test::echo, test::local_config());
    server.start();
    context.poll();
    CHECK(context.run_for(300ms) == 0);

    {
        test::client client(server.local_endpoint().port());
        client.send("x");
        REQUIRE(run_until(context, [&] { return server.stats().bytes_written == 1; }));
        CHECK(client.receive(1) == "x");
        context.poll();
        CHECK(context.run_for(300ms) == 0); // its deadline is minutes away
    }
    REQUIRE(run_until(context, [&] { return server.open_connections() == 0; }));
    context.poll();
    CHECK(context.run_for(300ms) == 0);

    // Nothing is left that the context would wait for, least of all a timer for the idle timeout of five minutes.
    server.close();
    context.run_for(test::patience);
    CHECK(context.stopped());
}

TEST_CASE("a context with a drained server in it runs out of work", "[drain][timer]")
{
    asio::io_context context{1};
    fairlead::tcp_server server(context, &test::echo, test::local_config());
    server.start();
    auto report = asio::co_spawn(context, server.shutdown(1h), asio::use_future);
    context.run_for(test::patience);
    CHECK(context.stopped());
    CHECK(report.wait_for(0s) == std::future_status::ready);
    CHECK(server.state() == fairlead::server_state::stopped);
}
