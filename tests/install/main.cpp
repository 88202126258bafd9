// What every consumer project in this folder builds: a server on a free port echoes once, to a client that knows
// nothing of fairlead or Asio, and stops. It exits with 0 only if the echo was exact.

#include <fairlead/fairlead.hpp>

#include <arpa/inet.h>
#include <array>
#include <cstdint>
#include <cstdio>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace
{
asio::awaitable<void> echo(fairlead::connection& conn)
{
    std::array<char, 256> buffer;
    while (std::size_t n = co_await conn.read_some(asio::buffer(buffer)))
        co_await conn.write(asio::buffer(buffer, n));
}

/// Sends `message`, finishes sending, and returns all that comes back; what is missing in it tells the failure.
std::string converse(std::uint16_t port, const std::string& message)
{
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in server{};
    server.sin_family = AF_INET;
    server.sin_port = htons(port);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    std::string reply;
    if (::connect(client, reinterpret_cast<const sockaddr*>(&server), sizeof server) == 0 &&
        ::send(client, message.data(), message.size(), 0) == static_cast<ssize_t>(message.size()) &&
        ::shutdown(client, SHUT_WR) == 0) {
        std::array<char, 256> buffer;
        ssize_t n = 0;
        while ((n = ::recv(client, buffer.data(), buffer.size(), 0)) > 0)
            reply.append(buffer.data(), static_cast<std::size_t>(n));
    }
    ::close(client);
    return reply;
}
} // namespace

int main()
{
    asio::io_context context;
    fairlead::tcp_server server(context, echo, {.address = "127.0.0.1:0"});
    server.start();
    const std::uint16_t port = server.local_endpoint().port();

    std::thread thread([&context] { context.run(); });
    const std::string message = "hello, installed library";
    const std::string reply = converse(port, message);
    server.close();
    thread.join();

    std::printf("sent \"%s\", received \"%s\"\n", message.c_str(), reply.c_str());
    return reply == message ? 0 : 1;
}
