// fairlead: running_server, a handle on a server of several shards that does not name its handler:
// for what looks at the server from beside it, such as an admin port or a statistics thread.

#ifndef FAIRLEAD_RUNNING_SERVER_HPP
#define FAIRLEAD_RUNNING_SERVER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/event.hpp>
#include <fairlead/sharded_server.hpp>

#include <asio/ip/tcp.hpp>

#include <chrono>
#include <cstdint>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// What `serve_config::on_start` is given. It refers to the server, and is valid as long as that
/// is: until `serve` returns.
///
/// Threads: every member may be called from any thread, hooks and handlers included; none of them
/// blocks.
class running_server
{
public:
    /// For programs that have a `sharded_server` of their own.
    template <connection_handler Handler>
    explicit running_server(sharded_server<Handler>& server) noexcept : group_(*server.group_)
    {}

    running_server(const running_server&) = delete;
    running_server& operator=(const running_server&) = delete;

    /// Of the shard that is furthest from being stopped.
    server_state state() const noexcept
    {
        return group_.state();
    }

    /// The sum over the shards.
    server_stats stats() const noexcept
    {
        return group_.stats();
    }

    /// The live connections of every shard; see `tcp_server::connections`.
    std::vector<connection_info> connections() const
    {
        return group_.connections();
    }

    /// Closes one connection in order, of whichever shard. False: there is none of this id. Returns
    /// before it is done.
    bool close_connection(std::uint64_t id)
    {
        return group_.close_connection(id);
    }

    /// Begins a drain, as `tcp_server::shutdown`, and returns; `serve` returns its report. Negative
    /// or zero: everything is closed at once.
    void shutdown(std::chrono::milliseconds deadline)
    {
        group_.begin_drain(deadline);
    }

    /// Closes every connection now, without waiting; `serve` returns when it is done.
    void close()
    {
        group_.close();
    }

    /// Where it listens: the port that port 0 became.
    endpoint local_endpoint() const
    {
        return group_.local_endpoint();
    }

private:
    detail::shard_group& group_;
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_RUNNING_SERVER_HPP
