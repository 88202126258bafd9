// What it is: an echo over fairlead with everything at its default (timeouts, limits, counters,
// events), one shard, to be compared with the raw and the plain Asio server.
// How to run it: fairlead_echo [127.0.0.1:7777] [--tls CERTIFICATE KEY] [--readable | --framed]
// With --readable the handler waits in readable() before each read, as one that holds no buffer
// while idle; with --framed it echoes frames of 64 bytes.

#include "common/server_arguments.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/io_context.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <string>

namespace
{
asio::awaitable<void> echo(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    while (const std::size_t n = co_await conn.read_some(asio::buffer(buffer)))
        co_await conn.write(asio::buffer(buffer, n));
}

asio::awaitable<void> readable_echo(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
        if (n == 0)
            break;
        co_await conn.write(asio::buffer(buffer, n));
    }
}

asio::awaitable<void> framed_echo(fairlead::connection& conn)
{
    fairlead::framed frames(conn, fairlead::codec::fixed{.size = 64});
    for (bool more = co_await frames.fill(); more; more = co_await frames.fill()) {
        while (const auto frame = frames.take())
            frames.queue(*frame);
    }
}
} // namespace

int main(int count, char** values)
try {
    const auto arguments = bench::parse_server_arguments(count, values);
    fairlead::server_config config;
    config.address = arguments.address;
    if (arguments.tls()) {
        config.tls.emplace();
        config.tls->certificate = arguments.certificate;
        config.tls->private_key = arguments.private_key;
    }

    const auto handler = arguments.framed ? framed_echo : arguments.readable ? readable_echo : echo;
    asio::io_context context(1);
    fairlead::tcp_server server(context, handler, config);
    server.start();
    const auto bound = server.local_endpoint();
    bench::announce(bound.address().to_string() + ":" + std::to_string(bound.port()));
    context.run();
    return 0;
} catch (const std::exception& problem) {
    std::fprintf(stderr, "fairlead_echo: %s\n", problem.what());
    return 2;
}
