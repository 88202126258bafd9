// What it is: what fairlead takes from the heap, independent of the machine's speed: allocations
// per echo, per connection, and the user memory of a connection that waits. Exits with 1 when a
// bound is broken.
// How to run it: allocations [--connections 4096] [--trace]
// With --trace it prints the call stacks of the allocations it counted (pipe them through c++filt).

#include "common/allocation_counter.hpp"
#include "common/connection_holder.hpp"
#include "common/loopback.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{
using handler_function = asio::awaitable<void> (*)(fairlead::connection&);
using echo_server = fairlead::tcp_server<handler_function>;

/// The bounds of the first release. An echo and a connection are counted after a warm-up.
constexpr double most_per_echo = 0;
constexpr double most_per_connection = 8;
constexpr double most_bytes_idle = 1536;

struct settings
{
    std::uint32_t connections = 4096;
    bool trace = false;
};

asio::awaitable<void> echo(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    while (const std::size_t n = co_await conn.read_some(asio::buffer(buffer)))
        co_await conn.write(asio::buffer(buffer, n));
}

asio::awaitable<void> echo_once(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
    co_await conn.write(asio::buffer(buffer, n));
}

/// Holds no buffer while it waits: that of `echo_once` lives as long as there is something to echo.
asio::awaitable<void> bufferless_echo(fairlead::connection& conn)
{
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable())
        co_await echo_once(conn);
}

asio::awaitable<void> readable_echo(fairlead::connection& conn)
{
    std::array<char, 64> buffer;
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
        co_await conn.write(asio::buffer(buffer, n));
    }
}

/// What the driving thread has in its hands while the main thread runs the server.
struct stage
{
    asio::io_context& context;
    echo_server& server;
    std::uint16_t port;

    /// Waits until the server has so many connections open and has nothing left to do for now.
    void settle(std::int64_t connections) const
    {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (server.open_connections() != connections) {
            if (std::chrono::steady_clock::now() > deadline)
                throw std::runtime_error(
                    std::to_string(server.open_connections()) + " connections are open, expected " +
                    std::to_string(connections));
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        for (int round = 0; round < 3; ++round) {
            std::promise<void> reached;
            asio::post(context, [&] { reached.set_value(); });
            reached.get_future().wait();
        }
    }
};

/// Runs a server on this thread, whose allocations count, and `drive` on another one, whose do not.
void with_server(handler_function handler, const std::function<void(const stage&)>& drive)
{
    asio::io_context context(1);
    fairlead::server_config config;
    config.address = "127.0.0.1:0";
    echo_server server(context, handler, config);
    server.start();

    std::exception_ptr problem;
    std::thread driver([&] {
        try {
            drive({context, server, server.local_endpoint().port()});
        } catch (...) {
            problem = std::current_exception();
        }
        server.close();
    });
    bench::count_this_thread(true);
    context.run();
    bench::count_this_thread(false);
    driver.join();
    if (problem)
        std::rethrow_exception(problem);
}

std::uint64_t counted(const settings& chosen, const char* what, const std::function<void()>& work)
{
    if (chosen.trace)
        bench::trace_allocations(true);
    const auto before = bench::allocations();
    work();
    const auto made = bench::allocations() - before;
    if (chosen.trace) {
        bench::trace_allocations(false);
        std::printf("-- %s --\n", what);
        bench::print_traces();
    }
    return made;
}

/// Several connections take turns, so that a cache for one operation only would show.
double allocations_per_echo(handler_function handler, const settings& chosen)
{
    constexpr int rounds = 1000;
    constexpr std::size_t clients = 16;
    double result = 0;
    with_server(handler, [&](const stage& at) {
        std::vector<bench::blocking_client> connections;
        for (std::size_t i = 0; i < clients; ++i)
            connections.emplace_back(at.port);
        std::array<char, 64> message{};
        const auto turn = [&] {
            for (auto& connection : connections)
                connection.send(message.data(), message.size());
            for (auto& connection : connections)
                connection.receive(message.data(), message.size());
        };
        at.settle(clients);
        for (int i = 0; i < rounds / 10; ++i)
            turn();
        const auto made = counted(chosen, "echo", [&] {
            for (int i = 0; i < rounds; ++i)
                turn();
        });
        result = static_cast<double>(made) / (rounds * static_cast<double>(clients));
    });
    return result;
}

double allocations_per_connection(const settings& chosen)
{
    constexpr int connections = 1000;
    double result = 0;
    with_server(&echo, [&](const stage& at) {
        const auto live = [&] {
            std::array<char, 64> message{};
            bench::blocking_client connection(at.port);
            connection.send(message.data(), message.size());
            connection.receive(message.data(), message.size());
        };
        at.settle(0);
        for (int i = 0; i < connections / 10; ++i)
            live();
        const auto made = counted(chosen, "connection", [&] {
            for (int i = 0; i < connections; ++i)
                live();
            at.settle(0);
        });
        result = static_cast<double>(made) / connections;
    });
    return result;
}

/// Memory that this process shares with nobody, in bytes; 0 when the kernel does not say.
std::int64_t private_memory()
{
    std::ifstream rollup("/proc/self/smaps_rollup");
    std::int64_t sum = 0;
    for (std::string word; rollup >> word;) {
        std::int64_t kibibytes = 0;
        if ((word == "Private_Clean:" || word == "Private_Dirty:") && rollup >> kibibytes)
            sum += kibibytes * 1024;
    }
    return sum;
}

struct idle_cost
{
    double heap = 0;
    double resident = 0;
    double allocations = 0;
};

idle_cost cost_of_idle_connection(
    bench::connection_holder& holder, const settings& chosen, bool after_echo)
{
    idle_cost result;
    with_server(&bufferless_echo, [&](const stage& at) {
        {
            char byte = 'x';
            bench::blocking_client warm_up(at.port);
            warm_up.send(&byte, 1);
            warm_up.receive(&byte, 1);
        }
        at.settle(0);
        const auto heap = bench::live_heap_bytes();
        const auto resident = private_memory();
        const auto made = counted(chosen, "connection that stays", [&] {
            holder.hold(at.port, chosen.connections, after_echo);
            at.settle(chosen.connections);
        });
        const auto per_connection = [&](auto value) {
            return static_cast<double>(value) / chosen.connections;
        };
        result.heap = per_connection(bench::live_heap_bytes() - heap);
        result.resident = per_connection(private_memory() - resident);
        result.allocations = per_connection(made);
        holder.hold(at.port, 0, false);
        at.settle(0);
    });
    return result;
}

/// Prints one line; false when the bound is broken.
bool report(const char* what, double value, double bound)
{
    // One allocation of the measurement itself in a thousand connections is not one of each
    // connection.
    const bool kept = bound == 0 ? value == 0 : value <= bound + 0.01;
    std::printf("%-58s %10.4f  (at most %g)%s\n", what, value, bound, kept ? "" : "  BROKEN");
    return kept;
}

settings parse(int count, char** values)
{
    settings chosen;
    for (int i = 1; i < count; ++i) {
        const std::string_view option = values[i];
        if (option == "--trace")
            chosen.trace = true;
        else if (option == "--connections" && i + 1 < count)
            chosen.connections = static_cast<std::uint32_t>(std::stoul(values[++i]));
        else
            throw std::invalid_argument("unknown or incomplete option " + std::string(option));
    }
    // Both ends are in processes with the same limit; some descriptors have other uses.
    const auto limit = bench::raise_descriptor_limit();
    if (chosen.connections == 0 || chosen.connections + 100 > limit / 2)
        throw std::invalid_argument("--connections: 1 to half of the descriptor limit");
    return chosen;
}
} // namespace

int main(int count, char** values)
try {
    if (!bench::allocations_are_counted) {
        std::printf("skipped: malloc is a sanitizer's or not glibc's here\n");
        return 77;
    }
    // A server that hangs must not hang its measurement.
    ::alarm(120);
    const auto chosen = parse(count, values);
    bench::connection_holder holder;

    // Memory first: a used heap would hide what connections need.
    const auto idle = cost_of_idle_connection(holder, chosen, false);
    const auto idle_again = cost_of_idle_connection(holder, chosen, true);
    const auto per_echo = allocations_per_echo(&echo, chosen);
    const auto per_readable_echo = allocations_per_echo(&readable_echo, chosen);
    const auto per_connection = allocations_per_connection(chosen);

    bool kept = true;
    kept &= report("allocations per echo", per_echo, most_per_echo);
    kept &= report("allocations per echo after readable()", per_readable_echo, most_per_echo);
    kept &= report(
        "allocations per connection (connect, echo, close)", per_connection, most_per_connection);
    kept &= report("allocations per connection that stays", idle.allocations, most_per_connection);
    kept &= report("heap bytes per idle connection, malloc's included", idle.heap, most_bytes_idle);
    kept &= report("private memory per idle connection, bytes", idle.resident, most_bytes_idle);
    std::printf(
        "after one echo on each: %.1f allocations, %.0f heap bytes, %.0f bytes of private memory\n",
        idle_again.allocations, idle_again.heap, idle_again.resident);
    return kept ? 0 : 1;
} catch (const std::exception& problem) {
    std::fprintf(stderr, "allocations: %s\n", problem.what());
    return 2;
}
