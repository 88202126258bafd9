// Ten thousand connections that leave in every way there is. In the end nothing is open, nothing is lost in the books,
// and no descriptor is gone.

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/server.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;

namespace
{
/// Echoes, except what is an order: 't' throws, 'i' throws what is no exception, 'a' aborts, 'c' closes, 'r' returns.
asio::awaitable<void> moody_echo(fairlead::connection& connection)
{
    std::array<char, 1024> buffer;
    while (const auto n = co_await connection.read_some(asio::buffer(buffer))) {
        co_await connection.write(asio::buffer(buffer, n));
        switch (buffer[n - 1]) {
        case 't':
            throw std::runtime_error("as ordered");
        case 'i':
            throw 42;
        case 'a':
            connection.abort();
            break;
        case 'c':
            connection.close();
            break;
        case 'r':
            co_return;
        default:
            break;
        }
    }
}

/// Echo, and the client's FIN first.
void leave_by_fin(test::client& client)
{
    client.send("hello");
    REQUIRE(client.receive(5) == "hello");
}

void leave_by_reset(test::client& client)
{
    leave_by_fin(client);
    client.reset();
}

void leave_by_half_close(test::client& client)
{
    client.send("every byte of it.");
    client.finish();
    const auto rest = client.receive_rest();
    REQUIRE(rest.bytes == "every byte of it.");
    REQUIRE(rest.end == test::stream_end::finished);
}

void leave_without_a_word(test::client& client)
{
    client.close();
}

void leave_by_reset_at_once(test::client& client)
{
    client.reset();
}

/// The echo is under way when the client is gone already.
void leave_without_reading(test::client& client)
{
    client.send("nobody will read the echo");
    client.close();
}

template <char Order>
void be_sent_away(test::client& client)
{
    client.send(std::string(1, Order));
    const auto rest = client.receive_rest();
    REQUIRE(rest.end != test::stream_end::timed_out);
    REQUIRE((Order == 'a' || rest.bytes == std::string(1, Order))); // an abort may lose the echo
}

std::uint64_t sum(const fairlead::server_stats& stats)
{
    return std::accumulate(
        stats.closed_by_reason.begin(), stats.closed_by_reason.end(), std::uint64_t(0));
}

std::uint64_t because(const fairlead::server_stats& stats, close_reason reason)
{
    return stats.closed_by_reason[static_cast<std::size_t>(reason)];
}

/// Every reason and how often it was given.
std::string reasons_of(const fairlead::server_stats& stats)
{
    std::string text;
    for (std::size_t index = 0; index < fairlead::close_reason_count; ++index) {
        if (stats.closed_by_reason[index] != 0) {
            text += std::string(to_string(static_cast<close_reason>(index))) + ": " +
                    std::to_string(stats.closed_by_reason[index]) + "\n";
        }
    }
    return text;
}

/// The books: counters among themselves, and against the events.
void check_books(const fairlead::server_stats& stats, const test::event_log& log)
{
    CHECK(stats.open == 0);
    CHECK(stats.accepted == stats.closed);
    CHECK(sum(stats) == stats.closed);
    CHECK(stats.hook_failures == 0);
    CHECK(stats.errors == log.errors().size());

    struct life
    {
        int accepted = 0;
        int opened = 0;
        int closed = 0;
        bool in_order = true;
    };
    std::map<std::uint64_t, life> lives;
    std::array<std::uint64_t, fairlead::close_reason_count> reasons{};
    std::uint64_t opened = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    for (const auto& event : log.connections()) {
        auto& life = lives[event.id];
        life.in_order = life.in_order && life.closed == 0 &&
                        (event.kind == connection_event_kind::accepted) == (life.accepted == 0);
        life.accepted += event.kind == connection_event_kind::accepted ? 1 : 0;
        life.opened += event.kind == connection_event_kind::opened ? 1 : 0;
        opened += event.kind == connection_event_kind::opened ? 1U : 0U;
        if (event.kind == connection_event_kind::closed) {
            ++life.closed;
            ++reasons[static_cast<std::size_t>(event.reason)];
            bytes_read += event.bytes_read;
            bytes_written += event.bytes_written;
        }
    }
    CHECK(lives.size() == stats.accepted);
    CHECK(opened == stats.opened);
    CHECK(bytes_read == stats.bytes_read);
    CHECK(bytes_written == stats.bytes_written);
    CHECK(reasons == stats.closed_by_reason);
    const auto odd = std::find_if(lives.begin(), lives.end(), [](const auto& entry) {
        const life& each = entry.second;
        return each.accepted != 1 || each.opened > 1 || each.closed != 1 || !each.in_order;
    });
    if (odd != lives.end()) {
        for (const auto& event : log.of(odd->first)) {
            UNSCOPED_INFO(to_string(event.kind) << ' ' << to_string(event.reason));
        }
    }
    CHECK(odd == lives.end()); // each: accepted once and first, closed once and last
}
} // namespace

TEST_CASE(
    "ten thousand connections leave in every possible way, and leave nothing behind", "[churn]")
{
    constexpr std::size_t total = 10'000;
    using departure = void (*)(test::client&);
    constexpr std::array<departure, 11> departures = {
        leave_by_fin,           leave_by_reset,        leave_by_half_close, leave_without_a_word,
        leave_by_reset_at_once, leave_without_reading, be_sent_away<'t'>,   be_sent_away<'i'>,
        be_sent_away<'a'>,      be_sent_away<'c'>,     be_sent_away<'r'>};
    constexpr std::size_t ways = departures.size() + 1; // and silence
    constexpr std::size_t each_way = total / ways;
    static_assert(each_way > 800);

    const auto before = test::open_descriptors();
    {
        auto config = test::local_config();
        config.idle_timeout = 2s;
        config.linger = 200ms;
        test::running_server server(moody_echo, config);
        server.start();
        test::client(server.port()).close(); // whatever is opened once is open now
        REQUIRE(server.log.wait_for(connection_event_kind::closed));
        const auto running = test::open_descriptors();

        std::vector<test::client> silent;
        for (std::size_t i = 0; i < total; ++i) {
            test::client client(server.port());
            if (i % ways == departures.size()) {
                silent.push_back(std::move(client)); // the server ends it, in its own time
            } else {
                departures[i % ways](client);
            }
        }
        std::size_t ended = 0;
        for (auto& client : silent) {
            ended += client.receive_rest().end == test::stream_end::finished ? 1U : 0U;
            client.close();
        }
        CHECK(ended == silent.size());
        REQUIRE(test::wait_until_idle(server.server));
        const auto stats = server.server.stats();
        REQUIRE(server.log.wait_for(
            connection_event_kind::closed, static_cast<std::size_t>(stats.accepted)));
        INFO(reasons_of(stats));
        check_books(stats, server.log);
        CHECK(stats.accepted == total + 1);
        CHECK(because(stats, close_reason::idle_timeout) >= silent.size());
        CHECK(because(stats, close_reason::handler_failed) == 2 * each_way);
        CHECK(because(stats, close_reason::handler_returned) >= 3 * each_way);
        CHECK(because(stats, close_reason::peer_closed) >= 3 * each_way);
        CHECK(because(stats, close_reason::peer_reset) >= each_way);
        CHECK(because(stats, close_reason::transport_error) == 0);
        CHECK(because(stats, close_reason::server_closed) == 0);
        // Only what the handlers threw on their own is an error.
        CHECK(server.log.errors().size() == because(stats, close_reason::handler_failed));
        CHECK(test::open_descriptors() == running);
    }
    CHECK(test::open_descriptors() == before);
}

TEST_CASE(
    "TLS connections leave in every possible way, also before they are connections", "[churn][tls]")
{
    constexpr std::size_t rounds = 60;
    const auto before = test::open_descriptors();
    {
        const test::certificate own{test::certificate_options{}};
        auto config = test::local_config();
        config.pre_open_timeout = 1s;
        config.idle_timeout = 1s;
        config.linger = 200ms;
        config.tls =
            fairlead::tls_config{.certificate = own.certificate_pem, .private_key = own.key_pem};
        test::running_server server(moody_echo, config);
        server.start();
        const auto secured = [&] { return test::tls_client(test::client(server.port())); };
        test::client(server.port()).close();
        REQUIRE(server.log.wait_for(connection_event_kind::closed));
        const auto running = test::open_descriptors();

        std::vector<test::client> silent;
        std::vector<test::tls_client> idle;
        const std::string hello_begins("\x16\x03\x01\x02", 4);
        for (std::size_t round = 0; round < rounds; ++round) {
            test::client(server.port()).close(); // not a word
            test::client(server.port()).reset();
            test::client garbage(server.port()); // not TLS
            garbage.send("GET / HTTP/1.0\r\n\r\n");
            REQUIRE(garbage.receive_rest().end != test::stream_end::timed_out);
            test::client half(server.port()); // in the midst of its hello: FIN, then RST
            half.send(hello_begins);
            half.close();
            test::client torn(server.port());
            torn.send(hello_begins);
            torn.reset();
            silent.emplace_back(server.port()); // until the pre-open timeout
            silent.emplace_back(server.port());
            silent.back().send(hello_begins);

            auto orderly = secured();
            orderly.send("hello");
            REQUIRE(orderly.receive(5) == "hello");
            orderly.finish();
            REQUIRE(orderly.receive_rest().close_notify);
            auto truncated = secured(); // FIN without close_notify
            truncated.tcp().close();
            auto reset = secured();
            reset.send("hello");
            reset.tcp().reset();
            auto failing = secured();
            failing.send("t");
            REQUIRE(failing.receive_rest().bytes == "t");
            idle.push_back(secured()); // until the idle timeout
        }
        std::size_t ended = 0;
        for (auto& client : silent) {
            ended += client.receive_rest().end != test::stream_end::timed_out ? 1U : 0U;
            client.close();
        }
        for (auto& client : idle) {
            ended += client.receive_rest().below.end != test::stream_end::timed_out ? 1U : 0U;
            client.tcp().close();
        }
        CHECK(ended == silent.size() + idle.size());
        silent.clear();
        idle.clear();
        REQUIRE(test::wait_until_idle(server.server));
        const auto stats = server.server.stats();
        REQUIRE(server.log.wait_for(
            connection_event_kind::closed, static_cast<std::size_t>(stats.accepted)));
        INFO(reasons_of(stats));
        check_books(stats, server.log);
        CHECK(stats.accepted == 12 * rounds + 1);
        CHECK(stats.tls_handshakes == stats.opened);
        CHECK(stats.opened == 5 * rounds);
        CHECK(stats.tls_handshakes_failed >= rounds); // the garbage; and those that were cut
        CHECK(because(stats, close_reason::tls_handshake_failed) == stats.tls_handshakes_failed);
        CHECK(because(stats, close_reason::pre_open_timeout) == 2 * rounds);
        CHECK(because(stats, close_reason::idle_timeout) >= rounds);
        CHECK(because(stats, close_reason::handler_failed) == rounds);
        CHECK(test::open_descriptors() == running);
    }
    CHECK(test::open_descriptors() == before);
}
