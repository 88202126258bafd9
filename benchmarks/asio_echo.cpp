// What it is: the echo server that one writes with Asio's documentation open and an hour to spare.
// One coroutine per connection, exceptions, no timeout, no limit, no drain. What fairlead adds must
// not cost much against it.
// How to run it: asio_echo [127.0.0.1:7777] [--tls CERTIFICATE KEY]

#include "common/loopback.hpp"
#include "common/server_arguments.hpp"

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ssl/context.hpp>
#include <asio/ssl/stream.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace
{
using asio::ip::tcp;

template <typename Stream>
asio::awaitable<void> echo_loop(Stream& stream)
{
    std::array<char, 4096> buffer;
    for (;;) {
        const std::size_t n =
            co_await stream.async_read_some(asio::buffer(buffer), asio::use_awaitable);
        co_await asio::async_write(stream, asio::buffer(buffer.data(), n), asio::use_awaitable);
    }
}

asio::awaitable<void> serve_plain(tcp::socket socket)
{
    try {
        co_await echo_loop(socket);
    } catch (const std::exception&) {
        // The end of the stream arrives here, too.
    }
}

asio::awaitable<void> serve_tls(tcp::socket socket, asio::ssl::context& context)
{
    try {
        asio::ssl::stream<tcp::socket> stream(std::move(socket), context);
        co_await stream.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
        co_await echo_loop(stream);
    } catch (const std::exception&) {
        // The end of the stream arrives here, too.
    }
}

asio::awaitable<void> accept_loop(tcp::acceptor& acceptor, asio::ssl::context* context)
{
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        socket.set_option(tcp::no_delay(true));
        const auto executor = socket.get_executor();
        if (context != nullptr)
            asio::co_spawn(executor, serve_tls(std::move(socket), *context), asio::detached);
        else
            asio::co_spawn(executor, serve_plain(std::move(socket)), asio::detached);
    }
}
} // namespace

int main(int count, char** values)
try {
    const auto arguments = bench::parse_server_arguments(count, values);
    const auto address = bench::parse_loopback(arguments.address);

    asio::ssl::context tls(asio::ssl::context::tls_server);
    if (arguments.tls()) {
        tls.use_certificate_chain_file(arguments.certificate);
        tls.use_private_key_file(arguments.private_key, asio::ssl::context::pem);
    }

    asio::io_context context(1);
    const tcp::endpoint endpoint(
        asio::ip::address_v4(ntohl(address.sin_addr.s_addr)), ntohs(address.sin_port));
    tcp::acceptor acceptor(context, endpoint);
    acceptor.listen(4096);
    const auto bound = acceptor.local_endpoint();
    bench::announce(bound.address().to_string() + ":" + std::to_string(bound.port()));
    asio::co_spawn(
        context, accept_loop(acceptor, arguments.tls() ? &tls : nullptr), asio::detached);
    context.run();
    return 0;
} catch (const std::exception& problem) {
    std::fprintf(stderr, "asio_echo: %s\n", problem.what());
    return 2;
}
