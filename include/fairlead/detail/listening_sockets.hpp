// fairlead: the listening sockets of a server, one for each address, as if they were one. When to
// accept, and what failures mean, is in acceptor.hpp.

#ifndef FAIRLEAD_DETAIL_LISTENING_SOCKETS_HPP
#define FAIRLEAD_DETAIL_LISTENING_SOCKETS_HPP

#include <fairlead/detail/accept_failure.hpp>
#include <fairlead/detail/listener.hpp>
#include <fairlead/detail/native.hpp>
#include <fairlead/detail/shard.hpp>
#include <fairlead/detail/spare_memory.hpp>

#include <asio/basic_socket_acceptor.hpp>
#include <asio/ip/tcp.hpp>

#include <cstddef>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace fairlead::detail
{
class listening_sockets
{
public:
    explicit listening_sockets(shard& owner) noexcept : shard_(owner)
    {}

    bool is_open() const noexcept
    {
        return !lanes_.empty();
    }

    std::size_t size() const noexcept
    {
        return lanes_.size();
    }

    /// Of the first; stays known when they are closed.
    const asio::ip::tcp::endpoint& local_endpoint() const noexcept
    {
        return local_;
    }

    /// All or none; at least one.
    void assign(std::vector<listener> opened)
    {
        std::vector<std::shared_ptr<lane>> lanes;
        for (listener& each : opened) {
            lanes.push_back(std::make_shared<lane>(shard_.get_executor()));
            lanes.back()->socket.assign(each.local.protocol(), each.socket.get());
            each.socket.release();
        }
        local_ = opened.front().local;
        lanes_ = std::move(lanes);
        next_ = 0;
    }

    void close() noexcept
    {
        for (const auto& each : lanes_) {
            std::error_code ignored;
            each->socket.close(ignored);
        }
        lanes_.clear();
    }

    /// Clients in the kernel's queues, at most `bound` of each.
    std::size_t queued_clients(std::size_t bound) const noexcept
    {
        std::size_t count = 0;
        for (const auto& each : lanes_) {
            count += native::queued_clients(each->socket.native_handle(), bound);
        }
        return count;
    }

    /// As `native::accept`: nobody is waiting when nobody waits at any of them. One that is broken
    /// is told of when nobody waits at the others. After a failure the next is tried first.
    native::descriptor accept(asio::ip::tcp::endpoint& remote, std::error_code& error) noexcept
    {
        std::error_code broken;
        for (std::size_t tried = 0; tried < lanes_.size(); ++tried) {
            auto client = native::accept(lanes_[next_]->socket.native_handle(), remote, error);
            if (client) {
                return client;
            }
            take_turns();
            const auto failure = classify_accept_failure(error.value());
            if (failure == accept_failure::other) {
                broken = error;
            } else if (failure != accept_failure::nobody) {
                return client;
            }
        }
        error = broken ? broken : error;
        return {};
    }

    /// `ready(error)` when somebody waits at one of them; never after they were closed, and perhaps
    /// once for each. Those of an earlier call that has not been answered go on.
    template <typename Ready>
    void wait(Ready ready)
    {
        take_turns();
        for (const auto& each : lanes_) {
            if (each->is_waited_for) {
                continue;
            }
            auto answered = [each, ready,
                             alive = shard_.shared_from_this()](const std::error_code& error) {
                each->is_waited_for = false;
                if (each->socket.is_open()) {
                    ready(error);
                }
            };
            each->socket.async_wait(
                socket_type::wait_read, spared_handler{&each->memory, std::move(answered)});
            each->is_waited_for = true;
        }
    }

private:
    using socket_type = asio::basic_socket_acceptor<asio::ip::tcp, shard::executor_type>;

    struct lane
    {
        explicit lane(const shard::executor_type& executor) : socket(executor)
        {}

        socket_type socket;
        bool is_waited_for = false;
        spare_memory memory;
    };

    /// The next accept begins with the next of them.
    void take_turns() noexcept
    {
        next_ = next_ + 1 < lanes_.size() ? next_ + 1 : 0;
    }

    shard& shard_;
    std::vector<std::shared_ptr<lane>> lanes_;
    std::size_t next_ = 0;
    asio::ip::tcp::endpoint local_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_LISTENING_SOCKETS_HPP
