// For fuzz targets of ring 1: a real server for all inputs, and one client after another, in one
// thread and without a clock to wait for.

#ifndef FAIRLEAD_TESTS_FUZZ_LOOPBACK_HPP
#define FAIRLEAD_TESTS_FUZZ_LOOPBACK_HPP

#include "fuzz.hpp"
#include <fairlead/server.hpp>

#include <asio/awaitable.hpp>
#include <asio/io_context.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <functional>
#include <netinet/in.h>
#include <span>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace fuzz::loopback
{
/// The server, for all inputs; what a connection is served by changes with each.
class server
{
public:
    server()
    {
        server_.start();
    }

    /// One client at a time.
    std::function<asio::awaitable<void>(fairlead::connection&)> handler;
    std::size_t clients = 0; // so far

    std::uint16_t port() const
    {
        return server_.local_endpoint().port();
    }

    void turn()
    {
        context_.poll();
    }

    /// Waits, a moment at most, for something to do.
    void wait()
    {
        context_.run_one_for(std::chrono::milliseconds(1));
    }

    /// All of them.
    bool has_served() const
    {
        return server_.stats().accepted == clients && server_.open_connections() == 0;
    }

private:
    struct relay
    {
        asio::awaitable<void> operator()(fairlead::connection& conn) const
        {
            return owner->handler(conn);
        }

        server* owner;
    };

    asio::io_context context_{1};
    fairlead::tcp_server<relay> server_{context_, relay{this}, {.address = "127.0.0.1:0"}};
};

inline server& the_server()
{
    static server one;
    return one;
}

class client
{
public:
    /// From one address of many: each has ports of its own, and those used last rest a minute.
    client(std::uint16_t port, std::size_t number) : socket_(::socket(AF_INET, SOCK_STREAM, 0))
    {
        sockaddr_in from = address(0x7f000002U + static_cast<std::uint32_t>(number % 1000), 0);
        const int later = 1; // the port is chosen by connect, which knows more
        ::setsockopt(socket_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &later, sizeof later);
        ::bind(socket_, reinterpret_cast<const sockaddr*>(&from), sizeof from);
        const sockaddr_in to = address(INADDR_LOOPBACK, port);
        require(
            ::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0,
            "a client connects");
        ::fcntl(socket_, F_SETFL, O_NONBLOCK);
    }

    client(const client&) = delete;
    client& operator=(const client&) = delete;

    ~client()
    {
        if (!was_reset) {
            ::close(socket_);
        }
    }

    void write(std::span<const std::byte> bytes)
    {
        if (!finishes && !was_reset) {
            const auto room = most - stream.size();
            stream += text_of(bytes.first(std::min(bytes.size(), room)));
            push();
        }
    }

    /// What the kernel did not take before; then the end, if it is time. False: nothing changed.
    bool push()
    {
        const std::size_t before = sent_;
        while (!was_reset && sent_ != stream.size()) {
            const auto bytes =
                ::send(socket_, stream.data() + sent_, stream.size() - sent_, MSG_NOSIGNAL);
            if (bytes <= 0) {
                break;
            }
            sent_ += static_cast<std::size_t>(bytes);
        }
        if (finishes && !was_reset && !has_finished && sent_ == stream.size()) {
            has_finished = ::shutdown(socket_, SHUT_WR) == 0;
        }
        return sent_ != before;
    }

    bool read(std::size_t size)
    {
        std::array<char, 65536> buffer;
        const auto bytes =
            was_reset ? -1 : ::recv(socket_, buffer.data(), std::min(size, buffer.size()), 0);
        if (bytes > 0) {
            received.append(buffer.data(), static_cast<std::size_t>(bytes));
        }
        saw_end = saw_end || bytes == 0;
        return bytes > 0;
    }

    void reset()
    {
        if (!std::exchange(was_reset, true)) {
            const linger now{.l_onoff = 1, .l_linger = 0};
            ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            ::close(socket_);
        }
    }

    std::size_t most = 0; // is sent, of whatever is written
    std::string stream;
    std::string received;
    bool finishes = false;
    bool has_finished = false;
    bool saw_end = false;
    bool was_reset = false;

private:
    static sockaddr_in address(std::uint32_t host, std::uint16_t port)
    {
        sockaddr_in result{};
        result.sin_family = AF_INET;
        result.sin_addr.s_addr = htonl(host);
        result.sin_port = htons(port);
        return result;
    }

    int socket_;
    std::size_t sent_ = 0;
};
/// The rest of the input says what the client does; then it finishes, and all is seen to the end.
inline void play(input& script, server& serving, client& peer)
{
    while (!script.rest().empty()) {
        switch (script.byte() % 8) {
        case 0:
        case 1:
            peer.write(script.take(script.byte()));
            break;
        case 2: {
            const auto bytes = script.take(script.byte());
            for (std::size_t left = 1 + script.byte(); left != 0; --left) {
                peer.write(bytes);
            }
            break;
        }
        case 3:
            peer.read(1 + 16 * script.byte());
            break;
        case 4:
            peer.finishes = true;
            peer.push();
            break;
        case 5:
            if (script.byte() % 4 == 0) {
                peer.reset();
                break;
            }
            [[fallthrough]];
        default:
            serving.turn();
            peer.push();
        }
    }
    peer.finishes = true;
    for (int idle = 0;; ++idle) {
        require(idle < 4000, "every connection ends");
        serving.turn();
        if (const bool wrote = peer.push(); peer.read(peer.most) || wrote) {
            idle = 0;
        } else if (serving.has_served() && (peer.saw_end || peer.was_reset)) {
            break;
        } else {
            serving.wait();
        }
    }
}

} // namespace fuzz::loopback

#endif // FAIRLEAD_TESTS_FUZZ_LOOPBACK_HPP
