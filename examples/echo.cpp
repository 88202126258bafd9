// Shows: the smallest server: a handler, an address, and everything else by default.
// Run:   echo [ADDRESS]            (127.0.0.1:7777 unless told otherwise; ":7777" is every interface)
// Poke:  nc 127.0.0.1 7777         then Ctrl-C here, and see it drain

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>

using namespace std::chrono_literals;

asio::awaitable<void> echo(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    // A drain ends the wait in readable(), and never cuts an echo.
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
        co_await conn.write(asio::buffer(buffer, n));
    }
}

int main(int argc, char** argv)
{
    try {
        const auto report = fairlead::serve(
            echo, {.address = argc > 1 ? argv[1] : "127.0.0.1:7777", .idle_timeout = 5min},
            {.hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "echo: %s\n", error.what());
        return 1;
    }
}
