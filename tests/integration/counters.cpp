// Counters are what the events add up to, when several hundred clients leave in every way at once.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;
using kind = connection_event_kind;

namespace
{
/// The first byte says what to do with the connection.
asio::awaitable<void> obey(connection& connection)
{
    std::string buffer(1000, '\0');
    while (const auto n = co_await connection.read_some(asio::buffer(buffer))) {
        switch (buffer[0]) {
        case 'r':
            co_return;
        case 't':
            throw std::runtime_error("as told");
        case 'c':
            connection.close();
            break;
        case 'a':
            connection.abort();
            break;
        case 'd':
            connection.expires_after(20ms);
            break;
        case 'f':
            connection.shutdown_send();
            break;
        case 'w': {
            const std::string answer(50'000, 'w');
            co_await connection.write(asio::buffer(answer));
            break;
        }
        default:
            co_await connection.write(asio::buffer(buffer, n));
        }
    }
}

/// One client's life; what happens to it on the way does not matter here.
void live(std::uint16_t port, std::size_t number)
{
    try {
        test::client client(port);
        const char orders[] = {'r', 't', 'c', 'a', 'd', 'f', 'w', 'e', 'R', 'F', 'n', 'E'};
        const char order = orders[number % sizeof orders];
        switch (order) {
        case 'n': // not a word
            return;
        case 'R':
            client.reset();
            return;
        case 'F':
            client.finish();
            client.receive_rest();
            return;
        case 'E':
            client.send("echo");
            client.reset(); // perhaps before the echo, perhaps after it
            return;
        default:
            client.send(std::string(1 + number % 7, order));
            if (order == 'w' || order == 'e' || order == 'f') {
                client.finish();
            }
            client.receive_rest();
        }
    } catch (const std::system_error&) {
    }
}

struct sums
{
    std::map<kind, std::uint64_t> kinds;
    std::map<close_reason, std::uint64_t> reasons;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::vector<std::string> broken; // promises, in words
};

sums sum_up(const std::vector<connection_event>& events)
{
    sums total;
    struct life
    {
        int accepted = 0, opened = 0, close_read = 0, close_write = 0, closed = 0;
        std::uint64_t bytes_read = 0, bytes_written = 0;
    };
    std::map<std::uint64_t, life> lives;
    for (const auto& event : events) {
        auto& each = lives[event.id];
        const auto expect = [&](bool kept, const char* promise) {
            if (!kept) {
                total.broken.push_back(
                    std::string(promise) + ": " + std::string(to_string(event.kind)) + " of " +
                    std::to_string(event.id));
            }
        };
        ++total.kinds[event.kind];
        expect(each.closed == 0, "closed is last");
        expect((each.accepted == 0) == (event.kind == kind::accepted), "accepted is first, once");
        expect(event.bytes_read >= each.bytes_read, "bytes only grow");
        expect(event.bytes_written >= each.bytes_written, "bytes only grow");
        switch (event.kind) {
        case kind::accepted:
            each.accepted++;
            break;
        case kind::opened:
            expect(each.opened++ == 0, "opened once");
            break;
        case kind::read:
            expect(each.opened == 1 && each.close_read == 0, "read while open");
            expect(event.bytes_read > each.bytes_read, "a read has bytes");
            break;
        case kind::close_read:
            expect(each.close_read++ == 0, "close_read once");
            break;
        case kind::write:
            expect(each.opened == 1 && each.close_write == 0, "write while open");
            expect(event.bytes_written > each.bytes_written, "a write has bytes");
            break;
        case kind::close_write:
            expect(each.close_write++ == 0, "close_write once");
            break;
        case kind::closed:
            each.closed++;
            expect(event.bytes_read == each.bytes_read, "closed knows each byte");
            expect(event.bytes_written == each.bytes_written, "closed knows each byte");
            ++total.reasons[event.reason];
            total.bytes_read += event.bytes_read;
            total.bytes_written += event.bytes_written;
            break;
        }
        each.bytes_read = event.bytes_read;
        each.bytes_written = event.bytes_written;
    }
    for (const auto& [id, each] : lives) {
        if (each.closed != 1) {
            total.broken.push_back("closed once: " + std::to_string(id));
        }
    }
    return total;
}
} // namespace

TEST_CASE("counters are what the events add up to", "[hooks][counters][stress][network]")
{
    const auto policy =
        GENERATE(limit_policy::pause, limit_policy::reject, limit_policy::evict_idle);
    const bool cut_short = GENERATE(false, true);
    CAPTURE(static_cast<int>(policy), cut_short);
    auto config = test::local_config();
    config.io_events = true;
    config.max_connections = 20;
    config.at_limit = policy;
    config.idle_timeout = 200ms;
    config.linger = 50ms;
    test::running_server running(&obey, config);
    running.start();
    const auto port = running.port();
    std::vector<std::thread> crowd;
    for (std::size_t i = 0; i < 4; ++i) {
        crowd.emplace_back([port, i] {
            for (std::size_t j = 0; j < 120; ++j) {
                live(port, i * 7 + j);
            }
        });
    }
    std::vector<test::client> held; // some are there when the end comes
    try {
        for (int i = 0; i < 12; ++i) {
            held.emplace_back(port);
        }
    } catch (const std::system_error&) {
    }
    if (cut_short) {
        REQUIRE(running.log.wait_for(kind::closed, 200));
        running.server.close();
    }
    for (auto& thread : crowd) {
        thread.join();
    }
    REQUIRE(test::wait_until_idle(running.server));
    running.server.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    running.stop();

    const auto total = sum_up(running.log.connections());
    CHECK(total.broken == std::vector<std::string>());
    const auto count = [&](auto key, const auto& map) {
        const auto found = map.find(key);
        return found == map.end() ? 0 : found->second;
    };
    const auto stats = running.server.stats();
    CHECK(stats.accepted == count(kind::accepted, total.kinds));
    CHECK(stats.opened == count(kind::opened, total.kinds));
    CHECK(stats.closed == count(kind::closed, total.kinds));
    CHECK(stats.closed == stats.accepted);
    CHECK(stats.open == 0);
    CHECK(stats.bytes_read == total.bytes_read);
    CHECK(stats.bytes_written == total.bytes_written);
    for (std::size_t i = 0; i < close_reason_count; ++i) {
        const auto reason = static_cast<close_reason>(i);
        CAPTURE(to_string(reason));
        CHECK(stats.closed_by(reason) == count(reason, total.reasons));
    }
    CHECK(
        std::accumulate(
            stats.closed_by_reason.begin(), stats.closed_by_reason.end(), std::uint64_t(0)) ==
        stats.closed);
    CHECK(stats.errors == running.log.errors().size());
    CHECK(stats.hook_failures == 0);
    // A handler may also fail after its connection was ended by something else.
    CHECK(stats.closed_by(close_reason::handler_failed) <= running.log.errors().size());
    if (!cut_short) {
        CHECK(stats.accepted >= 400); // a client that resets early may never be seen
        CHECK(stats.closed_by(close_reason::peer_closed) > 0);
        CHECK(stats.closed_by(close_reason::handler_returned) > 0);
        if (policy == limit_policy::pause) {
            CHECK(stats.closed_by(close_reason::handler_failed) >= 40);
            CHECK(stats.closed_by(close_reason::deadline_exceeded) >= 40);
            CHECK(stats.closed_by(close_reason::peer_reset) > 0);
        }
    }
}
