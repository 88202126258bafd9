// fairlead: what is known of a connection: who, since when, how much, and why it ended; and how its
// server's hooks are told. No operations: those are in connection_core.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP
#define FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP

#include <fairlead/detail/ending.hpp>
#include <fairlead/detail/native.hpp>
#include <fairlead/detail/registry.hpp>
#include <fairlead/detail/shard.hpp>
#include <fairlead/tls.hpp>

#include <asio/ip/tcp.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <system_error>
#include <utility>

namespace fairlead::detail
{
class connection_record : public registry_entry
{
public:
    using clock = shard::clock;
    using time_point = shard::time_point;

    connection_record(shard& owner, const asio::ip::tcp::endpoint& remote_endpoint)
        : server(owner), remote(native::unmapped(remote_endpoint)), accepted_at(clock::now())
    {
        server.connection_made();
    }

    connection_record(const connection_record&) = delete;
    connection_record& operator=(const connection_record&) = delete;

    /// After everything else of the connection: the server may go with its last one.
    ~connection_record()
    {
        server.connection_gone();
    }

    shard::executor_type get_executor() const noexcept
    {
        return server.get_executor();
    }

    const ending& end() const noexcept
    {
        return ending_;
    }

    connection_event event(connection_event_kind kind) const
    {
        return {
            .kind = kind,
            .id = id(),
            .local = local,
            .remote = remote,
            .reason = ending_.reason(),
            .bytes_read = bytes_read,
            .bytes_written = bytes_written,
            .age = clock::now() - accepted_at,
            .code = ending_.cause()};
    }

    void emit(connection_event_kind kind) noexcept
    {
        if (server.hooks.callbacks.on_connection) {
            server.hooks.emit(event(kind));
        }
    }

    void emit_io(connection_event_kind kind) noexcept
    {
        if (server.config.io_events) {
            emit(kind);
        }
    }

    std::error_code report(const std::exception_ptr& failure) noexcept
    {
        return server.hooks.report(
            failure, errc::handler_failed, "an exception left the handler", id(), remote);
    }

    shard& server;
    asio::ip::tcp::endpoint local;
    asio::ip::tcp::endpoint remote;
    const time_point accepted_at;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::unique_ptr<tls_info> tls;

protected:
    ending ending_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP
