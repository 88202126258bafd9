// The events of one server, made of those of its shards.

#include "support/catch.hpp"
#include <fairlead/detail/server/shard_events.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

using fairlead::errc;
using fairlead::server_event;
using server_kind = fairlead::server_event_kind;

namespace shard_events_test
{
using fairlead::detail::shard_events;
using namespace std::chrono_literals;

/// Events as they are told: "listening draining".
class shards
{
public:
    explicit shards(std::size_t count, std::size_t listeners = 0)
        : events_(count, listeners == 0 ? count : listeners)
    {
        events_.set_hook([this](const server_event& event) {
            told_ += told_.empty() ? "" : " ";
            told_ += to_string(event.kind);
            last_ = event;
            if (hook_throws) {
                throw std::string(to_string(event.kind));
            }
        });
    }

    shards& step(
        std::size_t shard, server_kind what, std::error_code code = {}, const char* text = "")
    {
        const asio::ip::tcp::endpoint local(
            asio::ip::make_address_v4("127.0.0.1"), static_cast<unsigned short>(7000 + shard));
        const auto thrown =
            events_.add(shard, {.kind = what, .local = local, .code = code, .what = text}, now_);
        for (const auto& each : thrown) {
            failures += each ? 1 : 0;
        }
        return *this;
    }

    shards& run()
    {
        events_.begin_run();
        return *this;
    }

    void pass(std::chrono::milliseconds time)
    {
        now_ += time;
    }

    /// What was told since the last question.
    std::string told()
    {
        return std::exchange(told_, {});
    }

    const server_event& last() const
    {
        return *last_;
    }

    shard_events& events()
    {
        return events_;
    }

    bool hook_throws = false;
    int failures = 0;

private:
    shard_events events_;
    shard_events::time_point now_ = shard_events::time_point(1h);
    std::string told_;
    std::optional<server_event> last_;
};
} // namespace shard_events_test

using shard_events_test::shards;

TEST_CASE("a server listens once, when the last of its shards does", "[shard_events]")
{
    shards server(3);
    server.step(0, server_kind::listening).step(1, server_kind::listening);
    CHECK(server.told().empty());
    server.step(0, server_kind::limit_reached, {}, "backlog").step(2, server_kind::listening);
    server.step(2, server_kind::limit_reached, {}, "backlog");
    CHECK(server.told() == "listening limit_reached");
    CHECK(server.events().local_endpoint().port() == 7002);
}

TEST_CASE("one acceptor for several shards is where the server listens", "[shard_events]")
{
    shards server(3, 1);
    server.step(0, server_kind::listening).run();
    CHECK(server.told() == "listening");
    server.step(1, server_kind::draining)
        .step(2, server_kind::draining)
        .step(0, server_kind::draining);
    CHECK(server.told() == "draining");
    CHECK(server.last().local.port() == 7000); // whichever shard was the last
}

TEST_CASE("draining and stopped are told with the last shard, in this order", "[shard_events]")
{
    shards server(2);
    server.run();
    SECTION("each after the other")
    {
        server.step(0, server_kind::draining);
        CHECK(server.told().empty());
        server.step(0, server_kind::stopped).step(1, server_kind::draining);
        CHECK(server.told() == "draining");
        server.step(1, server_kind::stopped);
        CHECK(server.told() == "stopped");
    }
    SECTION("one is closed before it drains")
    {
        server.step(0, server_kind::draining).step(1, server_kind::stopped);
        CHECK(server.told() == "draining");
        server.step(0, server_kind::stopped);
        CHECK(server.told() == "stopped");
    }
    SECTION("closed without a drain")
    {
        server.step(0, server_kind::stopped).step(1, server_kind::stopped);
        CHECK(server.told() == "stopped");
    }
    server.run().step(0, server_kind::draining).step(1, server_kind::draining);
    CHECK(server.told() == "draining");
}

TEST_CASE("what happens to shards that never ran together is not told", "[shard_events]")
{
    shards server(2);
    server.step(0, server_kind::listening)
        .step(1, server_kind::listening)
        .step(0, server_kind::stopped);
    server.step(1, server_kind::stopped);
    CHECK(server.told() == "listening");
}

TEST_CASE("a server pauses with the first shard and resumes with the last", "[shard_events]")
{
    shards server(3);
    server.run();
    server.step(0, server_kind::paused, errc::too_many_connections);
    CHECK(server.told() == "paused");
    server.step(1, server_kind::paused, errc::too_many_connections);
    CHECK(server.told().empty());
    server.step(2, server_kind::paused, errc::out_of_descriptors); // another cause is news
    CHECK(server.told() == "paused");
    CHECK(server.last().code == errc::out_of_descriptors);
    server.step(0, server_kind::resumed).step(2, server_kind::resumed);
    CHECK(server.told().empty());
    server.step(1, server_kind::resumed);
    CHECK(server.told() == "resumed");
}

TEST_CASE("a limit is told once a second, whichever shards meet it", "[shard_events]")
{
    shards server(2);
    server.run();
    server.step(0, server_kind::limit_reached, errc::too_many_connections, "max_connections");
    server.step(1, server_kind::limit_reached, errc::too_many_connections, "max_connections");
    CHECK(server.told() == "limit_reached");
    server.step(1, server_kind::limit_reached, {}, "another");
    CHECK(server.told() == "limit_reached");
    server.pass(std::chrono::milliseconds(1000));
    server.step(1, server_kind::limit_reached, {}, "another");
    CHECK(server.told() == "limit_reached");
}

TEST_CASE("each reload is told when the last shard uses it", "[shard_events]")
{
    shards server(2);
    server.run();
    server.step(0, server_kind::tls_reloaded).step(0, server_kind::tls_reloaded);
    CHECK(server.told().empty());
    server.step(1, server_kind::tls_reloaded);
    CHECK(server.told() == "tls_reloaded");
    server.step(1, server_kind::tls_reloaded);
    CHECK(server.told() == "tls_reloaded");
}

TEST_CASE("the hook may ask where the server listens", "[shard_events]")
{
    shards server(1);
    unsigned short port = 0;
    server.events().set_hook(
        [&](const server_event&) { port = server.events().local_endpoint().port(); });
    server.step(0, server_kind::listening);
    CHECK(port == 7000);
}

TEST_CASE("a hook that throws is told everything all the same", "[shard_events]")
{
    shards server(2);
    server.hook_throws = true;
    server.run();
    SECTION("also when a drain begins and ends with the same step")
    {
        server.step(0, server_kind::draining)
            .step(0, server_kind::stopped)
            .step(1, server_kind::stopped);
        CHECK(server.told() == "draining stopped");
        CHECK(server.failures == 2);
    }
    server.run().step(0, server_kind::stopped).step(1, server_kind::stopped);
    CHECK(server.told() == "stopped");
    server.step(0, server_kind::tls_reloaded).step(1, server_kind::tls_reloaded);
    CHECK(server.told() == "tls_reloaded");
}
