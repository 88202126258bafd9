// What it is: the least that an echo server on one core can cost, edge-triggered epoll without any
// library. It is the 1.00 that the other servers are measured against.
// How to run it: raw_epoll_echo [127.0.0.1:7777]

#include "common/epoll_loop.hpp"
#include "common/loopback.hpp"
#include "common/server_arguments.hpp"

#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <vector>

namespace
{
/// Shared by all sessions: what was read is sent, or copied to `unsent_`, before the next read.
std::array<char, 65536> buffer;

class session
{
public:
    static constexpr std::uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

    explicit session(int descriptor) : descriptor_(descriptor)
    {}

    session(const session&) = delete;
    session& operator=(const session&) = delete;

    ~session()
    {
        ::close(descriptor_);
    }

    bool on_ready(int, std::uint32_t events)
    {
        if (!unsent_.empty() && !flush())
            return false;
        if (!unsent_.empty() || (events & ~std::uint32_t{EPOLLOUT}) == 0)
            return true;
        for (;;) {
            const auto n = ::recv(descriptor_, buffer.data(), buffer.size(), 0);
            if (n <= 0)
                return n < 0 && errno == EAGAIN;
            const auto got = static_cast<std::size_t>(n);
            unsent_.clear();
            if (!send_all(buffer.data(), got))
                return false;
            if (!unsent_.empty())
                return true;
            // A short read has emptied the socket (epoll(7)): no need to be told EAGAIN.
            if (got < buffer.size() && (events & EPOLLRDHUP) == 0)
                return true;
        }
    }

private:
    /// Sends what the socket takes and keeps the rest; false: the connection is broken.
    bool send_all(const char* data, std::size_t size)
    {
        const auto n = ::send(descriptor_, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return false;
        const auto taken = n < 0 ? std::size_t{0} : static_cast<std::size_t>(n);
        if (taken < size)
            unsent_.assign(data + taken, data + size);
        return true;
    }

    bool flush()
    {
        const auto pending = std::move(unsent_);
        unsent_.clear();
        return send_all(pending.data(), pending.size());
    }

    int descriptor_;
    std::vector<char> unsent_{};
};
} // namespace

int main(int count, char** values)
try {
    const auto arguments = bench::parse_server_arguments(count, values);
    if (arguments.tls())
        throw std::invalid_argument("no TLS here, see raw_tls_echo");
    auto address = bench::parse_loopback(arguments.address);
    const int listener = bench::listen_on(address);
    bench::announce(bench::to_string(address));
    bench::run_epoll_loop(listener, session::interest, [](int descriptor) {
        return std::make_unique<session>(descriptor);
    });
} catch (const std::exception& problem) {
    std::fprintf(stderr, "raw_epoll_echo: %s\n", problem.what());
    return 2;
}
