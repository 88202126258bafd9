// fairlead: a server's counters: written by its own thread, read by any.

#ifndef FAIRLEAD_DETAIL_SERVER_COUNTERS_HPP
#define FAIRLEAD_DETAIL_SERVER_COUNTERS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/published.hpp>
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace FAIRLEAD_NAMESPACE::detail
{
struct counters
{
    counter<std::uint64_t> accepted;
    counter<std::uint64_t> opened;
    counter<std::uint64_t> closed;
    counter<std::int64_t> open;
    counter<std::int64_t> handlers;
    std::array<counter<std::uint64_t>, close_reason_count> closed_by_reason;
    counter<std::uint64_t> bytes_read;
    counter<std::uint64_t> bytes_written;
    counter<std::uint64_t> tls_handshakes;
    counter<std::uint64_t> tls_handshakes_failed;
    counter<std::uint64_t> tls_resumed;
    counter<std::uint64_t> accept_errors;
    counter<std::uint64_t> pauses;
    counter<std::uint64_t> refused;

    /// Each number is exact; numbers that change together may be seen one step apart.
    server_stats snapshot() const noexcept
    {
        server_stats stats;
        // Read in the order in which a connection meets them backwards, so that no sum exceeds its
        // whole.
        for (std::size_t index = 0; index < close_reason_count; ++index) {
            stats.closed_by_reason[index] = closed_by_reason[index].get();
        }
        stats.closed = closed.get();
        stats.opened = opened.get();
        stats.open = open.get();
        stats.handlers = handlers.get();
        stats.accepted = accepted.get();
        stats.bytes_read = bytes_read.get();
        stats.bytes_written = bytes_written.get();
        stats.tls_handshakes = tls_handshakes.get();
        stats.tls_handshakes_failed = tls_handshakes_failed.get();
        stats.tls_resumed = tls_resumed.get();
        stats.accept_errors = accept_errors.get();
        stats.pauses = pauses.get();
        stats.refused = refused.get();
        return stats;
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_COUNTERS_HPP
