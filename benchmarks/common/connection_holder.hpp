// A child process that holds idle connections to a server in its parent, so that the client's side
// does not count when the parent measures its memory.

#ifndef FAIRLEAD_BENCHMARKS_COMMON_CONNECTION_HOLDER_HPP
#define FAIRLEAD_BENCHMARKS_COMMON_CONNECTION_HOLDER_HPP

#include "common/loopback.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <sys/types.h>
#include <sys/wait.h>
#include <utility>
#include <vector>

namespace bench
{
/// A blocking connection to a server of this machine.
class blocking_client
{
public:
    explicit blocking_client(std::uint16_t port)
        : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        sockaddr_in server = parse_loopback("127.0.0.1:" + std::to_string(port));
        if (descriptor_ < 0 || ::connect(descriptor_, as_sockaddr(server), sizeof server) != 0)
            throw_errno("connect");
        set_no_delay(descriptor_);
    }

    blocking_client(blocking_client&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1))
    {}

    blocking_client& operator=(blocking_client&&) = delete;

    ~blocking_client()
    {
        if (descriptor_ >= 0)
            ::close(descriptor_);
    }

    void send(const void* data, std::size_t size)
    {
        if (::send(descriptor_, data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size))
            throw_errno("send");
    }

    void receive(void* data, std::size_t size)
    {
        if (::recv(descriptor_, data, size, MSG_WAITALL) != static_cast<ssize_t>(size))
            throw std::runtime_error("the server closed the connection");
    }

private:
    int descriptor_;
};

/// Create it before any thread: it forks.
class connection_holder
{
public:
    connection_holder()
    {
        if (::pipe(orders_) != 0 || ::pipe(answers_) != 0)
            throw_errno("pipe");
        child_ = ::fork();
        if (child_ < 0)
            throw_errno("fork");
        if (child_ != 0) {
            ::close(orders_[0]);
            ::close(answers_[1]);
            return;
        }
        ::close(orders_[1]);
        ::close(answers_[0]);
        ::_exit(serve_orders() ? 0 : 1);
    }

    connection_holder(const connection_holder&) = delete;
    connection_holder& operator=(const connection_holder&) = delete;

    /// Ends the child and with it the connections.
    ~connection_holder()
    {
        release();
    }

    /// Opens the connections, has one byte echoed on each if asked to, and returns when all are idle.
    void hold(std::uint16_t port, std::uint32_t connections, bool with_echo)
    {
        const order wanted{port, with_echo, connections};
        char answer = 0;
        if (::write(orders_[1], &wanted, sizeof wanted) != sizeof wanted ||
            ::read(answers_[0], &answer, 1) != 1)
            throw std::runtime_error("the connections could not be opened");
    }

    void release() noexcept
    {
        if (child_ <= 0)
            return;
        ::close(orders_[1]);
        ::close(answers_[0]);
        ::waitpid(child_, nullptr, 0);
        child_ = -1;
    }

private:
    struct order
    {
        std::uint16_t port;
        bool with_echo;
        std::uint32_t connections;
    };

    bool serve_orders() noexcept
    try {
        order wanted{};
        std::vector<blocking_client> held;
        while (::read(orders_[0], &wanted, sizeof wanted) == sizeof wanted) {
            held.clear();
            for (std::uint32_t i = 0; i < wanted.connections; ++i) {
                char byte = 'x';
                held.emplace_back(wanted.port);
                if (wanted.with_echo) {
                    held.back().send(&byte, 1);
                    held.back().receive(&byte, 1);
                }
            }
            if (::write(answers_[1], "r", 1) != 1)
                return false;
        }
        return true;
    } catch (...) {
        return false;
    }

    int orders_[2] = {-1, -1};
    int answers_[2] = {-1, -1};
    pid_t child_ = -1;
};
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_COMMON_CONNECTION_HOLDER_HPP
