// What runs on the shards' threads, and only there; and what becomes of an exception that nobody waits for.

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/client.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/serve.hpp>

#include <asio/co_spawn.hpp>
#include <asio/post.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace shards_threads_test
{
asio::awaitable<void> fail(char how)
{
    if (how == 's') {
        throw std::system_error(std::make_error_code(std::errc::io_error), "a file");
    }
    if (how == 'm') {
        throw std::bad_alloc();
    }
    if (how == 'i') {
        throw 42;
    }
    co_return;
}

/// Echoes; for each of "smi" with a coroutine of nobody's that fails.
asio::awaitable<void> careless(fairlead::connection& connection)
{
    std::array<char, 1> order{};
    for (std::size_t n = co_await connection.read_some(asio::buffer(order)); n != 0;
         n = co_await connection.read_some(asio::buffer(order))) {
        asio::co_spawn(
            connection.get_executor(), fail(order[0]), [](const std::exception_ptr& failure) {
                if (failure) {
                    std::rethrow_exception(failure);
                }
            });
        co_await connection.write(asio::buffer(order));
    }
}

/// Which threads something ran on.
class thread_log
{
public:
    void note()
    {
        const std::lock_guard lock(mutex_);
        threads_.insert(std::this_thread::get_id());
    }

    /// Threads that have ended are forgotten: the next may have the same name.
    void forget()
    {
        const std::lock_guard lock(mutex_);
        threads_.clear();
    }

    std::set<std::thread::id> threads() const
    {
        const std::lock_guard lock(mutex_);
        return threads_;
    }

private:
    mutable std::mutex mutex_;
    std::set<std::thread::id> threads_;
};

/// Goes on for ever, one turn of the shard's queue after the other, whatever becomes of its connection.
struct restless
{
    thread_log* log;
    std::atomic<int>* begun;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        const auto executor = connection.get_executor();
        ++*begun;
        for (;;) {
            log->note();
            co_await asio::post(executor, asio::use_awaitable);
        }
    }
};
} // namespace shards_threads_test

TEST_CASE(
    "an exception that nobody waits for is reported, and its shard goes on", "[shards][errors]")
{
    test::event_log log; // outlives the server, which reports its end
    fairlead::sharded_server server(
        shards_threads_test::careless, test::local_config(), {.threads = 1});
    log.attach(server);
    server.start();
    test::client witness(server.local_endpoint().port());
    test::client client(server.local_endpoint().port());
    const std::string orders = "smis";
    for (std::size_t count = 1; count <= orders.size(); ++count) {
        client.send(orders.substr(count - 1, 1));
        CHECK(client.receive(1) == orders.substr(count - 1, 1));
        REQUIRE(log.wait_for_errors(count));
        witness.send("w");
        CHECK(witness.receive(1) == "w");
    }
    const auto errors = log.errors();
    for (const auto& error : errors) {
        CHECK(error.code == fairlead::errc::unhandled_exception);
        CHECK(error.connection_id == 0);
    }
    CHECK(errors[0].what.find("a file") != std::string::npos);
    CHECK(server.stats().errors == 4);
    test::client next(server.local_endpoint().port());
    next.send("n");
    CHECK(next.receive(1) == "n");
    CHECK(server.shutdown(0ms).stragglers.size() == 3);
}

TEST_CASE("serve reports an exception that nobody waits for, and goes on", "[serve][errors]")
{
    auto child = test::child_process::fork([](const test::reporter& report) {
        fairlead::serve_config options{.shards = {.threads = 2}};
        options.hooks.on_error = [report](const fairlead::error_event& event) {
            report.say("error " + std::string(event.what));
        };
        options.on_start = [report](fairlead::running_server& server) {
            report.say("port " + std::to_string(server.local_endpoint().port()));
        };
        fairlead::serve(shards_threads_test::careless, test::local_config(), options);
    });
    test::client client(static_cast<std::uint16_t>(std::stoi(child.expect("port "))));
    client.send("s");
    CHECK(client.receive(1) == "s");
    CHECK(child.expect("error ").find("a file") != std::string::npos);
    client.send("x");
    CHECK(client.receive(1) == "x");
    child.signal(SIGTERM);
    client.close();
    CHECK(child.wait() == 0);
}

TEST_CASE("an error hook that throws does not end the shard either", "[shards][errors]")
{
    fairlead::sharded_server server(
        shards_threads_test::careless, test::local_config(), {.threads = 1});
    server.on_error([](const fairlead::error_event&) { throw std::bad_alloc(); });
    server.start();
    test::client client(server.local_endpoint().port());
    client.send("m");
    CHECK(client.receive(1) == "m");
    for (int turn = 0; turn < 1000 && server.stats().errors == 0;
         ++turn) { // it comes behind the answer
        client.send("x");
        REQUIRE(client.receive(1) == "x");
    }
    CHECK(server.stats().errors == 1);
    client.send("x");
    CHECK(client.receive(1) == "x");
}

TEST_CASE(
    "close and join return beside a handler that posts itself for ever, which runs on its shard "
    "alone",
    "[shards][lifecycle][threads]")
{
    shards_threads_test::thread_log log;
    std::atomic<int> begun = 0;
    fairlead::sharded_server server(
        shards_threads_test::restless{&log, &begun}, test::local_config(), {.threads = 1});
    const auto here = std::this_thread::get_id();
    for (int round = 1; round <= 3; ++round) { // those of earlier rounds go on
        server.start();
        test::client client(server.local_endpoint().port());
        REQUIRE(test::eventually([&] { return begun == round; }));
        std::thread::id caller;
        auto stopping = std::async(std::launch::async, [&] {
            caller = std::this_thread::get_id();
            log.forget();
            server.close();
            server.join();
        });
        REQUIRE(stopping.wait_for(test::patience) == std::future_status::ready);
        stopping.get();
        CHECK(log.threads().size() == 1);
        CHECK(log.threads().count(caller) == 0);
        CHECK(server.state() == fairlead::server_state::stopped);
        CHECK(server.connections().empty());
        CHECK(server.stats().handlers == round);
        server.close();
        server.join();
        server.shutdown(1h);
        CHECK(log.threads().count(here) == 0);
    }
}

TEST_CASE("a server is destroyed beside a handler that posts itself for ever", "[shards][threads]")
{
    shards_threads_test::thread_log log;
    std::atomic<int> begun = 0;
    const int threads = GENERATE(1, 2);
    {
        fairlead::sharded_server server(
            shards_threads_test::restless{&log, &begun}, test::local_config(),
            {.threads = static_cast<std::size_t>(threads)});
        server.start();
        test::client client(server.local_endpoint().port());
        REQUIRE(test::eventually([&] { return begun == 1 && !log.threads().empty(); }));
    }
    CHECK(log.threads().count(std::this_thread::get_id()) == 0);
    CHECK(log.threads().size() == 1);
}

TEST_CASE(
    "what was asked of a run that is over is void in the next", "[shards][lifecycle][threads]")
{
    fairlead::sharded_server server(&test::echo, test::local_config(), {.threads = 2});
    for (int round = 0; round < 50; ++round) {
        server.start();
        std::vector<std::future<void>> calls; // some of them come when the run is over
        calls.push_back(std::async(std::launch::async, [&] { server.close(); }));
        calls.push_back(std::async(std::launch::async, [&] { server.shutdown(0ms); }));
        calls.push_back(std::async(std::launch::async, [&] { server.close(); }));
        for (auto& call : calls) {
            call.get();
        }
        server.join();
        REQUIRE(server.state() == fairlead::server_state::stopped);
        server.start();
        test::client client(server.local_endpoint().port());
        client.send("x");
        REQUIRE(client.receive(1) == "x");
        REQUIRE(server.is_running());
        server.shutdown(0ms);
    }
}

TEST_CASE(
    "a client that one shard hands to another as the server stops is let go",
    "[shards][lifecycle][threads]")
{
    for (int round = 0; round < 20; ++round) {
        auto config = test::local_config();
        config.max_connections = 3;
        fairlead::sharded_server server(
            &test::echo, config,
            {.threads = 2, .distribution = fairlead::client_distribution::round_robin});
        server.start();
        std::vector<test::client> clients;
        for (int i = 0; i < 3; ++i) {
            clients.emplace_back(server.local_endpoint().port());
        }
        server.close();
        server.join();
        for (auto& client : clients) {
            CHECK(client.receive_rest().end != test::stream_end::timed_out);
        }
        server.start(); // and none of them holds a place
        for (int i = 0; i < 3; ++i) {
            clients.emplace_back(server.local_endpoint().port());
            clients.back().send("x");
            CHECK(clients.back().receive(1) == "x");
        }
    }
}
