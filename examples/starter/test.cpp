// One conversation with the handler, on a free port, and a drain. A second server needs no second process: a
// tcp_server lives in any io_context.

#include "shout.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

namespace
{
void check(bool holds, const char* what)
{
    if (!holds) {
        std::cerr << "FAILED: " << what << '\n';
        std::exit(1);
    }
}

/// All that comes back for `input`, until the server closes.
std::string conversation(const asio::ip::tcp::endpoint& server, const std::string& input)
{
    asio::io_context context;
    asio::ip::tcp::socket client(context);
    client.connect(server);
    asio::write(client, asio::buffer(input));
    client.shutdown(asio::ip::tcp::socket::shutdown_send);
    std::string answer;
    std::error_code end;
    asio::read(client, asio::dynamic_buffer(answer), end);
    return answer;
}
} // namespace

int main()
{
    try {
        asio::io_context context(1);
        fairlead::tcp_server server(context, shout, {.address = "127.0.0.1:0"});
        server.start();
        const auto endpoint = server.local_endpoint();
        std::thread thread([&] { context.run(); });

        const std::string answer = conversation(endpoint, "hello\nworld\n");
        const std::string too_long = conversation(endpoint, std::string(2000, 'x') + "\n");
        server.close();
        thread.join();

        check(answer == "HELLO\nWORLD\n", "each line is answered in capitals");
        check(too_long.empty(), "a line that is too long is not");
    } catch (const std::exception& error) {
        std::cerr << "FAILED: " << error.what() << '\n';
        return 1;
    }
}
