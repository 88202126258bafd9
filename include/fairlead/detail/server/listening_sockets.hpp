// fairlead: the listening sockets of a server, one for each address, as if they were one: which are
// tried, and how many are still to be taken from each. When to accept, and what a lack of
// descriptors means, is in acceptor.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_LISTENING_SOCKETS_HPP
#define FAIRLEAD_DETAIL_SERVER_LISTENING_SOCKETS_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/accept_failure.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/server/listen_queue.hpp>
#include <fairlead/detail/server/listener.hpp>
#include <fairlead/detail/server/retry_pause.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/basic_socket_acceptor.hpp>
#include <asio/generic/stream_protocol.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <sys/socket.h>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One that is broken rests for growing times, while the others are served.
class listening_sockets
{
public:
    using time_point = environment::time_point;

    /// One of them has broken, or works again.
    struct news
    {
        endpoint local;
        std::error_code error; // empty: it works
    };

    explicit listening_sockets(environment& home) noexcept : home_(home)
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
    const endpoint& local_endpoint() const noexcept
    {
        return local_;
    }

    /// All or none; at least one.
    void assign(std::vector<listener> opened)
    {
        std::vector<std::shared_ptr<lane>> lanes;
        for (listener& each : opened) {
            lanes.push_back(std::make_shared<lane>(home_.get_executor(), each.local));
            lane& made = *lanes.back();
            made.socket.assign(protocol_of(each.local), each.socket.get());
            each.socket.release();
            made.file = std::move(each.file);
        }
        local_ = opened.front().local;
        lanes_ = std::move(lanes);
        next_ = 0;
    }

    void close() noexcept
    {
        for (const auto& each : lanes_) {
            each->close();
        }
        lanes_.clear();
    }

    /// Only who is in the kernel's queues now is taken, at most `bound` of each.
    void begin_to_finish(std::size_t bound) noexcept
    {
        for (const auto& each : lanes_) {
            each->left = native::queued_clients(each->socket.native_handle(), bound);
        }
    }

    /// Of those nobody is left.
    bool is_finished() const noexcept
    {
        return std::all_of(
            lanes_.begin(), lanes_.end(), [](const auto& each) { return each->is_finished(); });
    }

    /// As `native::accept`: nobody is waiting when nobody waits at any of them. One that fails in
    /// another way than by want of descriptors, or of this client, is left to rest. After a failure
    /// the next is tried first.
    native::descriptor accept(endpoint& remote, std::error_code& error) noexcept
    {
        error = nobody_waits();
        for (std::size_t tried = 0; tried < lanes_.size() && is_nobody(error) && !news_; ++tried) {
            lane& one = *lanes_[next_];
            if (!one.is_tried()) {
                take_turns();
                continue;
            }
            auto client = native::accept(one.socket.native_handle(), remote, error);
            if ((client || is_nobody(error)) && one.pause.is_on()) {
                one.pause.end();
                news_ = {one.local, {}};
            }
            if (client) {
                one.one_less_is_left();
                return client;
            }
            failed(one, error);
        }
        return {};
    }

    /// What `accept` would say if there were a descriptor to give. Empty: somebody waits.
    std::error_code look() noexcept
    {
        std::error_code error = nobody_waits();
        for (std::size_t tried = 0; tried < lanes_.size() && is_nobody(error); ++tried) {
            lane& one = *lanes_[next_];
            if (!one.is_tried()) {
                take_turns();
                continue;
            }
            error = native::look_for_client(one.socket.native_handle());
            if (error) {
                failed(one, error);
            }
        }
        return error;
    }

    /// What the last attempt has brought to light; once.
    std::optional<news> take_news() noexcept
    {
        return std::exchange(news_, std::nullopt);
    }

    /// When the first that rests is to be tried again; `max()`: none rests.
    time_point next_attempt() const noexcept
    {
        auto first = time_point::max();
        for (const auto& each : lanes_) {
            if (each->is_resting()) {
                first = std::min(first, each->rests_until);
            }
        }
        return first;
    }

    /// `ready(error)` when somebody waits at one of them that is tried; never after they were
    /// closed, and perhaps once for each. Those of an earlier call that has not been answered go on.
    template <typename Ready>
    void wait(Ready ready)
    {
        take_turns();
        for (const auto& each : lanes_) {
            if (each->is_waited_for || !each->is_tried()) {
                continue;
            }
            auto answered = [each, ready, alive = home_.keep()](const std::error_code& error) {
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
    using protocol_type = asio::generic::stream_protocol;
    using socket_type = asio::basic_socket_acceptor<protocol_type, environment::executor_type>;

    static protocol_type protocol_of(const endpoint& local) noexcept
    {
        const int ip = local.address().is_v6() ? AF_INET6 : AF_INET;
        return {local.is_unix() ? AF_UNIX : ip, 0};
    }

    struct lane
    {
        lane(const environment::executor_type& executor, const endpoint& bound)
            : socket(executor), local(bound)
        {}

        bool is_finished() const noexcept
        {
            return left == std::size_t(0);
        }

        bool is_resting() const noexcept
        {
            return pause.is_on() && environment::clock::now() < rests_until;
        }

        bool is_tried() const noexcept
        {
            return !is_finished() && !is_resting();
        }

        void one_less_is_left() noexcept
        {
            left = left && *left != 0 ? *left - 1 : left;
        }

        /// Nobody in its queue is waited for any longer.
        void finish() noexcept
        {
            left = left ? 0 : left;
        }

        /// It has failed: once more after the longest pause, and who is left is left behind.
        void rest() noexcept
        {
            if (pause.is_longest()) {
                finish();
            }
            rests_until = environment::clock::now() + pause.grow();
        }

        /// The file first, so that nobody finds one on which nobody listens.
        void close() noexcept
        {
            file.remove();
            std::error_code ignored;
            socket.close(ignored);
        }

        socket_type socket;
        socket_file file; // of a Unix socket with a path
        endpoint local;
        bool is_waited_for = false;
        spare_memory memory;
        std::optional<std::size_t> left; // to be taken; empty: without end
        retry_pause pause;               // on: it is broken
        time_point rests_until = {};
    };

    static std::error_code nobody_waits() noexcept
    {
        return {EAGAIN, std::system_category()};
    }

    static bool is_nobody(const std::error_code& error) noexcept
    {
        return error && classify_accept_failure(error.value()) == accept_failure::nobody;
    }

    void failed(lane& one, const std::error_code& error) noexcept
    {
        take_turns();
        switch (classify_accept_failure(error.value())) {
        case accept_failure::nobody:
            one.finish();
            break;
        case accept_failure::next:
            one.one_less_is_left();
            break;
        case accept_failure::exhausted:
            break;
        case accept_failure::other:
            if (!one.pause.is_on()) {
                news_ = {one.local, error};
            }
            one.rest();
            break;
        }
    }

    /// The next accept begins with the next of them.
    void take_turns() noexcept
    {
        next_ = next_ + 1 < lanes_.size() ? next_ + 1 : 0;
    }

    environment& home_;
    std::vector<std::shared_ptr<lane>> lanes_;
    std::size_t next_ = 0;
    std::optional<news> news_;
    endpoint local_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_LISTENING_SOCKETS_HPP
