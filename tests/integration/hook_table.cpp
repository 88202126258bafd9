// What hooks do to connections while the server walks over them: every hook x every way of ending
// x the connection itself or another x every walk.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <asio/co_spawn.hpp>

#include <exception>
#include <functional>
#include <map>
#include <string>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::hook_table
{
/// Connections whose handlers are waiting, by id: what hooks get hold of.
struct waiting_handlers
{
    std::map<std::uint64_t, connection*> open;

    asio::awaitable<void> serve(connection& conn)
    {
        open.emplace(conn.id(), &conn);
        const entry here{this, conn.id()};
        char byte = 0;
        std::error_code error;
        co_await conn.read_some(asio::buffer(&byte, 1), error);
        throw std::runtime_error("for on_error");
    }

    struct entry
    {
        waiting_handlers* all;
        std::uint64_t id;

        entry(waiting_handlers* of, std::uint64_t number) : all(of), id(number)
        {}

        entry(const entry&) = delete;
        entry& operator=(const entry&) = delete;

        ~entry()
        {
            all->open.erase(id);
        }
    };
};

struct handler
{
    waiting_handlers* all;

    asio::awaitable<void> operator()(connection& conn) const
    {
        return all->serve(conn);
    }
};

struct ignore
{
    void operator()(const std::exception_ptr&, const drain_report&) const
    {}
};
} // namespace test::hook_table

using namespace test::hook_table;

TEST_CASE("hooks may end any connection while the server walks over them", "[hooks][table]")
{
    const auto hook =
        GENERATE(as<std::string>{}, "on_connection", "on_error", "on_server", "on_socket");
    const auto action = GENERATE(
        as<std::string>{}, "abort", "close", "close_connection", "shutdown", "close server",
        "connections");
    const auto target = GENERATE(as<std::string>{}, "itself", "neighbours");
    const auto walk = GENERATE(as<std::string>{}, "close", "evict", "drain", "deadline", "idle");
    const auto linger = GENERATE(0ms, 100ms);
    CAPTURE(hook, action, target, walk, linger.count());

    waiting_handlers all;
    auto config = test::local_config();
    config.linger = linger;
    if (walk == "evict") {
        config.max_connections = 6;
        config.at_limit = limit_policy::evict_idle;
    }
    if (walk == "idle") {
        config.idle_timeout = 30ms;
    }
    asio::io_context context(1);
    tcp_server server(context, handler{&all}, config);
    std::map<std::uint64_t, int> closed;
    bool is_armed = false;
    int depth = 0;
    const auto act = [&](std::uint64_t self) {
        if (!is_armed || depth > 3) {
            return;
        }
        ++depth;
        std::vector<std::uint64_t> ids;
        for (const auto& [id, conn] : all.open) {
            if (target == "itself" ? id == self : id != self) {
                ids.push_back(id);
            }
        }
        for (const std::uint64_t id : ids) {
            const auto found = all.open.find(id);
            if (action == "close_connection") {
                server.close_connection(id);
            } else if (found != all.open.end() && action == "abort") {
                found->second->abort();
            } else if (found != all.open.end() && action == "close") {
                found->second->close();
            }
        }
        if (action == "shutdown") {
            asio::co_spawn(context, server.shutdown(1s), ignore());
        } else if (action == "close server") {
            server.close();
        } else if (action == "connections") {
            (void)server.connections();
        }
        --depth;
    };
    server.on_connection([&](const connection_event& event) {
        if (event.kind == connection_event_kind::closed) {
            ++closed[event.id];
        }
        if (hook == "on_connection") {
            act(event.id);
        }
    });
    server.on_error([&](const error_event& event) {
        if (hook == "on_error") {
            act(event.connection_id);
        }
    });
    server.on_server([&](const server_event&) {
        if (hook == "on_server") {
            act(0);
        }
    });
    server.on_socket([&](asio::ip::tcp::socket&) {
        if (hook == "on_socket") {
            act(0);
        }
    });
    server.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 6; ++i) {
        clients.emplace_back(server.local_endpoint().port());
    }
    const auto run_until = [&](auto condition) {
        const auto limit = std::chrono::steady_clock::now() + test::patience;
        while (!condition() && std::chrono::steady_clock::now() < limit) {
            context.run_one_for(10ms);
            context.restart();
        }
        return condition();
    };
    REQUIRE(run_until([&] { return all.open.size() == 6; }));
    is_armed = true;
    if (walk == "close") {
        server.close();
    } else if (walk == "evict") {
        for (int i = 0; i < 3; ++i) {
            clients.emplace_back(server.local_endpoint().port());
        }
        REQUIRE(run_until([&] { return !closed.empty(); }));
        server.close();
    } else if (walk == "drain") {
        for (auto& client : clients) {
            client.finish();
        }
        asio::co_spawn(context, server.shutdown(5s), ignore());
    } else if (walk == "deadline") {
        asio::co_spawn(context, server.shutdown(0ms), ignore());
    } else {
        REQUIRE(run_until([&] { return !closed.empty(); }));
        server.close();
    }
    CHECK(run_until([&] { return server.state() == server_state::stopped && all.open.empty(); }));
    CHECK(closed.size() == server.stats().accepted);
    for (const auto& [id, times] : closed) {
        CHECK(times == 1);
    }
    CHECK(server.stats().open == 0);
    CHECK(server.stats().handlers == 0);
}
