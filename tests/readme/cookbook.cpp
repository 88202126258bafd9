// The cookbook of README.md keeps its promises; CMakeLists.txt beside this file says how its text gets here.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/co_spawn.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

namespace readme
{
using namespace std::chrono_literals;
#include "adder.inc"
#include "broadcaster.inc"
#include "job_server.inc"
#include "shout.inc"
} // namespace readme

TEST_CASE("README's first messages come back", "[readme]")
{
    test::running_server running(&readme::shout);
    running.start();
    test::client client(running.port());
    client.send("one\ntwo\n");
    CHECK(client.receive(8) == "one\ntwo\n");
}

using namespace std::chrono_literals;

TEST_CASE("README's text protocol answers its commands", "[readme]")
{
    test::running_server running(&readme::add_up);
    running.start();
    test::client client(running.port());
    client.send("ADD 40\nADD 2\r\nADD x\nSUM\nLOUDER\nQUIT\nSUM\n");
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == "OK\nOK\nERROR not a number\n42\nERROR unknown command\nBYE\n");
    CHECK(rest.end == test::stream_end::finished);
}

TEST_CASE("README's job server answers, and its job stops when the client leaves", "[readme]")
{
    // The server has the last reference: the pool's threads end before the context that they post to.
    test::running_server running(readme::job_server{std::make_shared<asio::thread_pool>(1)});
    running.start();
    {
        test::client client(running.port());
        client.send("27\n");
        CHECK(client.receive(10) == "111 steps\n");
        client.send("0\n"); // never comes to 1
    }
    // The pool's only thread is free again.
    test::client client(running.port());
    client.send("1\n");
    CHECK(client.receive(8) == "0 steps\n");
}

TEST_CASE("README's broadcaster drops who does not keep up, and says so", "[readme]")
{
    auto config = test::local_config();
    config.linger = 100ms; // so long for what is queued for one who is dropped
    test::running_server running(readme::broadcaster{}, config);
    std::promise<std::string> told;
    std::atomic<bool> dropped = false;
    running.server.on_connection([&](const fairlead::connection_event& event) {
        if (event.kind == fairlead::connection_event_kind::closed && !dropped.exchange(true)) {
            told.set_value(std::string(event.why));
        }
    });
    running.start();
    const test::client slow(running.port());
    test::client quick(running.port());
    const std::string line = std::string(8 << 10, 'x') + '\n';
    // The kernel takes megabytes before anybody is slow.
    const auto limit = std::chrono::steady_clock::now() + test::patience;
    while (!dropped && std::chrono::steady_clock::now() < limit) {
        quick.send(line);
        REQUIRE(quick.receive(line.size()) == line);
    }
    REQUIRE(dropped);
    CHECK(told.get_future().get() == "slow consumer");
    quick.send("still here\n");
    CHECK(quick.receive(11) == "still here\n");
}
