#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/error_list.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// Who a drain waits for, for how long, and what it tells. That it loses nothing is in drain.cpp.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::drain_report;
using fairlead::errc;
using fairlead::server_event_kind;
using fairlead::server_state;
using std::chrono::milliseconds;
using clock_type = std::chrono::steady_clock;

namespace test::reports
{
/// Waits for requests of one byte in readable(); answers each with whether the server drains.
struct polite_handler
{
    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        while (co_await connection.readable()) {
            if (co_await connection.read_some(asio::buffer(&byte, 1)) == 0) {
                co_return;
            }
            co_await connection.write(asio::buffer(connection.draining() ? "d" : "r", 1));
        }
    }
};

/// Waits in read_some, and so holds up a drain; answers in the same way.
struct obstinate_handler
{
    error_list* errors;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        std::error_code error;
        while (co_await connection.read_some(asio::buffer(&byte, 1), error) != 0) {
            co_await connection.write(asio::buffer(connection.draining() ? "d" : "r", 1));
        }
        errors->add(error);
    }
};

/// A client whose handler has started, and has answered "r".
template <typename Running>
test::client greeted(Running& running)
{
    test::client client(running.port());
    client.send("?");
    if (client.receive(1) != "r") {
        throw std::runtime_error("the server drains already");
    }
    return client;
}
} // namespace test::reports

using namespace test::reports;

TEST_CASE(
    "connections that wait in readable() close at once when a drain begins", "[drain][network]")
{
    const bool tls = GENERATE(false, true);
    INFO((tls ? "TLS" : "plain TCP"));
    auto config = test::local_config();
    if (tls) {
        config.tls = test::make_tls();
    }
    test::running_server running(polite_handler{}, config);
    running.start();
    std::vector<test::client> plain;
    std::vector<test::tls_client> secure;
    for (int number = 0; number < 5; ++number) {
        test::client client(running.port());
        if (tls) {
            secure.emplace_back(std::move(client)).send("?");
            CHECK(secure.back().receive(1) == "r");
        } else {
            plain.push_back(std::move(client));
            plain.back().send("?");
            CHECK(plain.back().receive(1) == "r");
        }
    }
    auto drain = running.shutdown(1h);
    for (auto& client : plain) {
        CHECK(client.receive_rest().end == test::stream_end::finished);
        client.close();
    }
    for (auto& client : secure) {
        const auto rest = client.receive_rest();
        CHECK(rest.close_notify);
        CHECK(rest.below.end == test::stream_end::finished);
        client.tcp().close();
    }
    const auto report = test::report_of(drain);
    CHECK(report.closed_idle == 5);
    CHECK(report.drained == 0);
    CHECK(report.stragglers.empty());
    CHECK(running.server.stats().closed_by(close_reason::drained) == 5);
    CHECK(running.log.errors().empty());
}

TEST_CASE("an idle client that does not close its end does not hold up a drain", "[drain][network]")
{
    test::running_server running(polite_handler{});
    running.start();
    test::client client = greeted(running);
    auto drain = running.shutdown(1h);
    const auto report = test::report_of(drain); // the client's socket is open all the time
    CHECK(report.closed_idle == 1);
    CHECK(report.stragglers.empty());
    CHECK(client.receive_rest().end == test::stream_end::finished);
}

TEST_CASE(
    "draining() turns true, and a connection in read_some may go on until it returns",
    "[drain][network]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    auto drain = running.shutdown(1h);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    CHECK(running.server.state() == server_state::draining);
    CHECK(running.server.is_gone());
    CHECK_FALSE(running.server.is_running());
    for (int message = 0; message < 3; ++message) {
        client.send("?");
        CHECK(client.receive(1) == "d");
    }
    CHECK(drain.wait_for(0s) == std::future_status::timeout);
    client.finish();
    CHECK(client.receive_rest().end == test::stream_end::finished);
    const auto report = test::report_of(drain);
    CHECK(report.drained == 1);
    CHECK(report.closed_idle == 0);
    CHECK(report.stragglers.empty());
    CHECK_FALSE(errors.wait());
}

TEST_CASE("a straggler is named at the deadline, and not before", "[drain]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client leaving = greeted(running);
    test::client staying = greeted(running);
    staying.send("?");
    staying.receive(1);
    const auto begin = clock_type::now();
    auto drain = running.shutdown(300ms);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    leaving.close();
    const auto report = test::report_of(drain);
    CHECK(clock_type::now() - begin >= 300ms);
    CHECK(report.took >= 300ms);
    CHECK(report.drained == 1);
    CHECK(report.closed_idle == 0);
    REQUIRE(report.stragglers.size() == 1);
    const auto& straggler = report.stragglers.front();
    CHECK(straggler.remote.port() == staying.local_port());
    CHECK(straggler.local.port() == running.port());
    CHECK(straggler.bytes_read == 2);
    CHECK(straggler.bytes_written == 2);
    CHECK(straggler.age >= 300ms);
    CHECK(straggler.idle >= 300ms);
    CHECK(straggler.idle <= straggler.age);
    CHECK(straggler.opened);
    CHECK_FALSE(straggler.tls);
    CHECK(staying.receive_rest().end == test::stream_end::finished);
    CHECK_FALSE(errors.wait(0));
    CHECK(errors.wait(1) == errc::shutdown_timeout);
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));
    const auto closed = running.log.closed().back();
    CHECK(closed.id == straggler.id);
    CHECK(closed.reason == close_reason::shutdown_timeout);
    CHECK(closed.code == errc::shutdown_timeout);
    CHECK(running.server.state() == server_state::stopped);
}

TEST_CASE(
    "the deadline counts from the call, also when the server's thread is busy then",
    "[drain][network]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    asio::io_context caller{1};
    std::promise<void> resume;
    asio::post(running.context, [&, wait = resume.get_future()] { wait.wait(); });
    auto drain = asio::co_spawn(caller, running.server.shutdown(300ms), asio::use_future);
    const auto begin = clock_type::now();
    caller.poll(); // the call
    std::this_thread::sleep_for(150ms);
    resume.set_value();
    caller.run();
    CHECK(clock_type::now() - begin >= 300ms);
    const auto report = test::report_of(drain);
    CHECK(report.stragglers.size() == 1);
    CHECK(report.took >= 300ms); // event.hpp: from the call to its completion
}

TEST_CASE("a second shutdown joins the first and can only shorten it", "[drain][network]")
{
    const auto [first, second] = GENERATE(
        std::pair<milliseconds, milliseconds>(1h, 300ms),
        std::pair<milliseconds, milliseconds>(300ms, 1h),
        std::pair<milliseconds, milliseconds>(milliseconds::max(), 300ms),
        std::pair<milliseconds, milliseconds>(300ms, milliseconds::max()));
    INFO("first " << first.count() << " second " << second.count());
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    const auto begin = clock_type::now();
    auto one = running.shutdown(first);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    auto two = running.shutdown(second);
    const auto report = test::report_of(one);
    CHECK(clock_type::now() - begin >= 300ms);
    REQUIRE(report.stragglers.size() == 1);
    const auto same = test::report_of(two);
    REQUIRE(same.stragglers.size() == 1);
    CHECK(same.stragglers.front().id == report.stragglers.front().id);
    CHECK(running.log.count(server_event_kind::draining) == 1);
    CHECK(running.log.count(server_event_kind::stopped) == 1);
}

TEST_CASE("a drain is started and awaited from other contexts on other threads", "[drain][network]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    std::vector<test::client> clients;
    for (int number = 0; number < 3; ++number) {
        clients.push_back(greeted(running));
    }
    std::atomic<bool> elsewhere = true;
    std::vector<std::thread> threads;
    std::vector<std::future<drain_report>> drains;
    std::vector<std::unique_ptr<asio::io_context>> contexts;
    struct drainer
    {
        fairlead::tcp_server<obstinate_handler>* server;
        std::atomic<bool>* elsewhere;

        asio::awaitable<drain_report> operator()() const
        {
            const auto own = std::this_thread::get_id();
            auto report = co_await server->shutdown(1h);
            *elsewhere = *elsewhere && std::this_thread::get_id() == own;
            co_return report;
        }
    };
    const drainer drain{&running.server, &elsewhere};
    for (int number = 0; number < 3; ++number) {
        auto& context = *contexts.emplace_back(std::make_unique<asio::io_context>(1));
        drains.push_back(asio::co_spawn(context, drain, asio::use_future));
        threads.emplace_back([&context] { context.run(); });
    }
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    for (auto& context : contexts) { // each has called shutdown() ...
        asio::post(*context, asio::use_future).wait();
    }
    running.on_shard([] {}); // ... and has joined
    for (auto& client : clients) {
        client.close();
    }
    for (auto& thread : threads) {
        thread.join(); // each context ran out of work: its drain is over
    }
    for (auto& future : drains) {
        CHECK(test::report_of(future).drained == 3);
    }
    CHECK(elsewhere); // each was resumed where it had been started
}

TEST_CASE("a drain without time closes the idle in order and names the others", "[drain][network]")
{
    const auto deadline = GENERATE(0ms, -1ms, milliseconds::min());
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    auto drain = running.shutdown(deadline);
    const auto report = test::report_of(drain);
    CHECK(report.stragglers.size() == 1);
    CHECK(report.drained == 0);
    CHECK(errors.wait() == errc::shutdown_timeout);
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(running.server.state() == server_state::stopped);
}

TEST_CASE("an idle connection is not a straggler, even of a drain without time", "[drain][network]")
{
    test::running_server running(polite_handler{});
    running.start();
    test::client client = greeted(running);
    auto drain = running.shutdown(0ms);
    const auto report = test::report_of(drain);
    CHECK(report.stragglers.empty());
    CHECK(report.closed_idle == 1);
    CHECK(client.receive_rest().end == test::stream_end::finished);
    CHECK(running.server.stats().closed_by(close_reason::drained) == 1);
}

TEST_CASE(
    "silent TLS clients are closed when a drain begins, handshakes under way at its deadline",
    "[drain][tls][network]")
{
    auto config = test::local_config();
    config.tls = test::make_tls();
    config.pre_open_timeout = 0ms;
    test::running_server running(&test::echo, config);
    running.start();
    test::client silent(running.port());
    test::client halfway(running.port());
    halfway.send(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)); // a hello begins
    REQUIRE(running.log.wait_for(connection_event_kind::accepted, 2));
    auto drain = running.shutdown(200ms);
    CHECK(silent.receive_rest().end == test::stream_end::finished);
    const auto report = test::report_of(drain);
    CHECK(report.closed_idle == 1);
    CHECK(report.drained == 0);
    CHECK(report.stragglers.size() == 1);
    CHECK(running.server.stats().closed_by(close_reason::drained) == 1);
    CHECK(running.server.stats().closed_by(close_reason::shutdown_timeout) == 1);
    CHECK(running.server.stats().opened == 0);
    CHECK(running.log.errors().empty());
}

TEST_CASE(
    "nobody is accepted while the server drains, and everybody after a new start",
    "[drain][network]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    auto drain = running.shutdown(1h);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    CHECK_THROWS_AS(test::client(running.port()), std::system_error);
    CHECK(running.on_shard([&] {
        try {
            running.server.start();
        } catch (const std::system_error& error) {
            return error.code() == errc::already_running;
        }
        return false;
    }));
    client.close();
    test::report_of(drain);
    CHECK(running.server.state() == server_state::stopped);

    running.on_shard([&] { running.server.start(); });
    CHECK(running.server.state() == server_state::running);
    test::client next = greeted(running); // who is not told that the server drains
    auto again = running.shutdown(300ms);
    CHECK(test::report_of(again).stragglers.size() == 1);
}

TEST_CASE("close() ends a drain at once, and who waits for it", "[drain][network]")
{
    test::error_list errors;
    test::running_server running(obstinate_handler{&errors});
    running.start();
    test::client client = greeted(running);
    auto one = running.shutdown(1h);
    auto two = running.shutdown(1h);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    running.on_shard([] {}); // the second caller's coroutine starts ...
    running.on_shard([] {}); // ... and has joined
    running.server.close();
    const auto report = test::report_of(one);
    REQUIRE(report.stragglers.size() == 1);
    CHECK(report.stragglers.front().remote.port() == client.local_port());
    CHECK(test::report_of(two).stragglers.size() == 1);
    CHECK(errors.wait() == errc::server_closed);
    CHECK(running.server.stats().closed_by(close_reason::server_closed) == 1);
}
