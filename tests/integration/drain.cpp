#include "support/catch.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

// No request that the server has read is lost, whatever moment the drain begins at. The drain's account, its deadline
// and its callers are in drain_report.cpp.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::server_event_kind;

namespace test::draining
{
/// A request is a number; its reply repeats it again and again.
using request = std::uint64_t;
constexpr std::size_t reply_repeats = 100;

inline std::string bytes_of(request number)
{
    return {reinterpret_cast<const char*>(&number), sizeof number};
}

inline std::string reply_to(request number)
{
    std::string reply;
    for (std::size_t index = 0; index < reply_repeats; ++index) {
        reply += bytes_of(number);
    }
    return reply;
}

/// How many requests of each client (by its port) the server has read.
class tally
{
public:
    void add(const fairlead::connection& connection)
    {
        const std::lock_guard lock(mutex_);
        ++counts_[connection.remote_endpoint().port()];
    }

    std::size_t of(std::uint16_t port)
    {
        const std::lock_guard lock(mutex_);
        return counts_[port];
    }

private:
    std::mutex mutex_;
    std::map<std::uint16_t, std::size_t> counts_;
};

/// Waits for a request without a buffer, reads it, answers it, and so on.
struct request_handler
{
    tally* read;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        request number = 0;
        while (co_await connection.readable()) {
            if (co_await connection.read(asio::buffer(&number, sizeof number)) == 0) {
                co_return;
            }
            read->add(connection);
            const std::string reply = reply_to(number);
            co_await connection.write(asio::buffer(reply));
        }
    }
};

/// Sends requests in bursts until the server says that it is enough.
class pipelining_client
{
public:
    static constexpr request burst = 32;

    pipelining_client(std::uint16_t server, bool tls) : plain_(server), port(plain_.local_port())
    {
        if (tls) {
            tls_ = std::make_unique<tls_client>(std::move(plain_));
        }
    }

    void run()
    {
        while (!ended) {
            std::string requests;
            for (request index = 0; index < burst; ++index) {
                requests += bytes_of(sent++);
            }
            // What cannot be sent any more is no failure: the server has said farewell already.
            [[maybe_unused]] const bool taken =
                tls_ ? tls_->try_send(requests) : plain_.try_send(requests);
            receive(burst * reply_repeats * sizeof(request));
            ++bursts;
        }
    }

    /// The replies were those to the first requests, in order, and none was cut.
    std::optional<std::size_t> whole_replies() const
    {
        constexpr std::size_t size = reply_repeats * sizeof(request);
        for (request number = 0; number * size < got.size(); ++number) {
            if (got.compare(number * size, size, reply_to(number)) != 0) {
                return {};
            }
        }
        return got.size() / size;
    }

private:
    client plain_;
    std::unique_ptr<tls_client> tls_;

public:
    const std::uint16_t port;
    std::string got;
    request sent = 0;
    std::atomic<int> bursts = 0;
    bool ended = false;
    bool said_goodbye = true; // under TLS
    stream_end end = stream_end::finished;

private:
    void receive(std::size_t size)
    {
        char buffer[4096];
        while (size != 0) {
            const std::size_t wanted = std::min(size, sizeof buffer);
            const auto n = tls_ ? SSL_read(tls_->ssl(), buffer, static_cast<int>(wanted))
                                : static_cast<int>(::recv(plain_.fd(), buffer, wanted, 0));
            if (n <= 0) {
                ended = true;
                said_goodbye = !tls_ || SSL_get_error(tls_->ssl(), n) == SSL_ERROR_ZERO_RETURN;
                auto& tcp = tls_ ? tls_->tcp() : plain_;
                end = n < 0 && !tls_ ? stream_end::reset : tcp.receive_rest().end;
                tcp.close();
                return;
            }
            got.append(buffer, static_cast<std::size_t>(n));
            size -= static_cast<std::size_t>(n);
        }
    }
};

inline fairlead::server_config config(bool tls)
{
    auto config = test::local_config();
    if (tls) {
        config.tls = test::make_tls();
    }
    return config;
}

/// Answers its first request when it is told to, and then the others.
struct gated_handler
{
    tally* read;
    std::atomic<asio::steady_timer*>* gate;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        request number = 0;
        co_await connection.read(asio::buffer(&number, sizeof number));
        asio::steady_timer timer(connection.get_executor(), 1h);
        *gate = &timer;
        std::error_code cancelled;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        read->add(connection);
        const std::string reply = reply_to(number);
        co_await connection.write(asio::buffer(reply));
        const request_handler others{read};
        co_await others(connection);
    }
};

template <typename Condition>
bool wait_until(Condition condition)
{
    const auto limit = std::chrono::steady_clock::now() + test::patience;
    while (!condition() && std::chrono::steady_clock::now() < limit) {
        std::this_thread::yield();
    }
    return condition();
}
} // namespace test::draining

using namespace test::draining;

TEST_CASE("every request that was read before or during a drain is answered in full", "[drain]")
{
    const bool tls = GENERATE(false, true);
    INFO((tls ? "TLS" : "plain TCP"));
    constexpr std::size_t count = 12;
    tally read;
    test::running_server running(request_handler{&read}, config(tls));
    running.start();
    std::vector<std::unique_ptr<pipelining_client>> clients;
    std::vector<std::thread> threads;
    for (std::size_t number = 0; number < count; ++number) {
        clients.push_back(std::make_unique<pipelining_client>(running.port(), tls));
        threads.emplace_back([&client = *clients.back()] { client.run(); });
    }
    const bool busy = wait_until([&] {
        return std::all_of(
            clients.begin(), clients.end(), [](const auto& each) { return each->bursts >= 3; });
    });
    auto draining = running.shutdown(busy ? 5s : 0s);
    for (auto& thread : threads) {
        thread.join();
    }
    REQUIRE(busy);
    const auto report = test::report_of(draining);
    CHECK(report.stragglers.empty());
    CHECK(report.drained + report.closed_idle == count);
    for (const auto& client : clients) {
        CHECK(client->end == test::stream_end::finished); // FIN and no reset
        CHECK(client->said_goodbye);
        const auto replies = client->whole_replies();
        REQUIRE(replies);
        CHECK(*replies == read.of(client->port));
        CHECK(*replies <= client->sent);
    }
    CHECK(running.server.state() == fairlead::server_state::stopped);
    CHECK(running.server.open_connections() == 0);
    for (const auto& end : running.log.closed()) {
        CHECK(end.reason == close_reason::drained);
    }
    CHECK(running.log.errors().empty());
}

TEST_CASE(
    "requests that had arrived before the drain are answered after it began", "[drain][network]")
{
    const bool tls = GENERATE(false, true);
    INFO((tls ? "TLS" : "plain TCP"));
    tally read;
    std::atomic<asio::steady_timer*> gate = nullptr;
    test::running_server running(gated_handler{&read, &gate}, config(tls));
    running.start();

    std::string requests;
    std::string replies;
    for (request number = 0; number < 5; ++number) {
        requests += bytes_of(number);
        replies += reply_to(number);
    }
    test::client plain(running.port());
    std::unique_ptr<test::tls_client> secure;
    if (tls) {
        secure = std::make_unique<test::tls_client>(std::move(plain));
        secure->send(requests);
    } else {
        plain.send(requests);
    }
    REQUIRE(wait_until([&] { return gate.load() != nullptr; }));
    auto draining = running.shutdown(5s);
    REQUIRE(running.log.wait_for(server_event_kind::draining));
    running.on_shard([&] { gate.load()->cancel(); });

    if (tls) {
        const auto rest = secure->receive_rest();
        CHECK((rest.bytes == replies));
        CHECK(rest.close_notify);
        CHECK(rest.below.end == test::stream_end::finished);
        secure->tcp().close();
    } else {
        const auto rest = plain.receive_rest();
        CHECK((rest.bytes == replies));
        CHECK(rest.end == test::stream_end::finished);
        plain.close();
    }
    const auto report = test::report_of(draining);
    CHECK(report.drained == 1);
    CHECK(report.closed_idle == 0);
    CHECK(report.stragglers.empty());
}

namespace test::draining
{
/// Begins a drain in the turn of the loop in which it begins an operation, which takes at once what has come behind
/// the first request.
struct crossed_handler
{
    std::string how;
    tally* read;
    const std::function<void()>* begin_drain;
    const std::atomic<int>* socket;
    std::size_t expected;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        request number = 0;
        co_await connection.read(asio::buffer(&number, sizeof number));
        co_await answer(connection, number);
        asio::steady_timer timer(connection.get_executor());
        std::array<char, 512> rest{};
        std::error_code none;
        while (::recv(*socket, rest.data(), rest.size(), MSG_PEEK | MSG_DONTWAIT) <
               static_cast<ssize_t>(expected)) {
            timer.expires_after(1ms);
            co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, none));
        }
        (*begin_drain)();
#if defined(__linux__) && !defined(FAIRLEAD_ASIO_REACTOR)
        // What is there would be taken, told and answered before anything that was posted.
        co_await asio::post(connection.get_executor(), asio::use_awaitable);
#endif
        if (how == "read_some") {
            const std::size_t n =
                co_await connection.read_some(asio::buffer(rest, 2 * sizeof number));
            for (std::size_t at = 0; at + sizeof number <= n; at += sizeof number) {
                std::memcpy(&number, rest.data() + at, sizeof number);
                co_await answer(connection, number);
            }
        } else if (how == "peek") {
            co_await connection.peek(1);
        }
        const request_handler others{read};
        co_await others(connection);
    }

    asio::awaitable<void> answer(fairlead::connection& connection, request number) const
    {
        read->add(connection);
        const std::string reply = reply_to(number);
        co_await connection.write(asio::buffer(reply));
    }
};
} // namespace test::draining

TEST_CASE(
    "what an operation had taken when the drain began is answered, with what is behind it",
    "[drain]")
{
    const std::string how = GENERATE(as<std::string>{}, "readable", "read_some", "peek");
    const request count = GENERATE(as<request>{}, 3, 6, 20); // less and more than a wait holds
    CAPTURE(how, count);
    tally read;
    std::atomic<int> socket = -1;
    std::future<fairlead::drain_report> draining;
    std::function<void()> begin_drain;
    test::running_server running(
        crossed_handler{how, &read, &begin_drain, &socket, (count - 1) * sizeof(request)},
        config(false));
    begin_drain = [&] { draining = running.shutdown(5s); };
    running.server.on_socket(
        [&](asio::ip::tcp::socket& accepted) { socket = accepted.native_handle(); });
    running.start();
    test::client client(running.port());
    std::string requests;
    std::string replies;
    for (request number = 0; number < count; ++number) {
        requests += bytes_of(number);
        replies += reply_to(number);
    }
    client.send(requests);
    const auto rest = client.receive_rest();
    CHECK((rest.bytes == replies));
    CHECK(rest.end == test::stream_end::finished);
    client.close();
    const auto report = test::report_of(draining);
    CHECK(report.drained == 1);
    CHECK(report.closed_idle == 0);
    CHECK(report.stragglers.empty());
}

TEST_CASE("a message that is half there when the drain begins may be finished", "[drain][network]")
{
    const bool waits_in_read = GENERATE(false, true);
    INFO("in read_some " << waits_in_read);
    tally read;
    auto settings = config(false);
    const auto converse = [&](auto& running) {
        test::client client(running.port());
        REQUIRE(running.log.wait_for(connection_event_kind::opened));
        const std::string request = bytes_of(7);
        client.send(request.substr(0, 3));
        REQUIRE(wait_until([&] { return running.server.stats().bytes_read == 3; }));
        auto draining = running.shutdown(9s);
        REQUIRE(running.log.wait_for(server_event_kind::draining));
        client.send(request.substr(3));
        const auto rest = client.receive_rest();
        CHECK(rest.end == test::stream_end::finished);
        client.close();
        const auto report = test::report_of(draining);
        CHECK(report.drained == 1);
        CHECK(report.closed_idle == 0);
        CHECK(report.stragglers.empty());
        return rest.bytes;
    };
    if (waits_in_read) {
        struct one_byte_at_a_time
        {
            asio::awaitable<void> operator()(fairlead::connection& connection) const
            {
                std::string request;
                char byte = 0;
                while (request.size() < 8) {
                    const auto n = co_await connection.read_some(asio::buffer(&byte, 1));
                    request.append(&byte, n);
                }
                co_await connection.write(asio::buffer(request));
            }
        };
        test::running_server running(one_byte_at_a_time{}, settings);
        running.start();
        CHECK(converse(running) == bytes_of(7));
    } else {
        test::running_server running(request_handler{&read}, settings);
        running.start();
        CHECK((converse(running) == reply_to(7)));
    }
}

TEST_CASE(
    "a reply still on its way to a slow client survives the client's next request",
    "[drain][network]")
{
    // The handler is done with the first request and waits for the next; its reply is in the kernel's buffer. The
    // client sends more after the server has gone home, and only then reads.
    static constexpr std::size_t size = 400 * 1024;
    struct large_reply
    {
        asio::awaitable<void> operator()(fairlead::connection& connection) const
        {
            const std::string reply(size, 'r');
            char request = 0;
            while (co_await connection.readable()) {
                co_await connection.read_some(asio::buffer(&request, 1));
                co_await connection.write(asio::buffer(reply));
            }
        }
    };
    auto settings = config(false);
    settings.socket.send_buffer = 1 << 20;
    test::running_server running(large_reply{}, settings);
    running.start();
    test::client client(running.port(), "127.0.0.1", 8192);
    client.send("1");
    REQUIRE(wait_until([&] { return running.server.stats().bytes_written == size; }));
    auto draining = running.shutdown(9s);
    REQUIRE(running.log.wait_for(connection_event_kind::close_write));
    std::this_thread::sleep_for(500ms); // a slow client
    client.try_send("2");
    const auto rest = client.receive_rest();
    CHECK(rest.bytes.size() == size);
    CHECK(rest.end == test::stream_end::finished);
    client.close();
    CHECK(test::report_of(draining).stragglers.empty());
}
