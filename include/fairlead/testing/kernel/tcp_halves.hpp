// fairlead: what a simulated TCP socket keeps of each direction of its stream.

#ifndef FAIRLEAD_TESTING_KERNEL_TCP_HALVES_HPP
#define FAIRLEAD_TESTING_KERNEL_TCP_HALVES_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/bytes.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// From write(2) to the acknowledgement.
struct send_half
{
    byte_queue waiting;
    std::size_t in_flight = 0;
    std::size_t window = 0; // what the peer's buffer still takes
    std::size_t capacity = 0;
    bool is_shut = false; // a FIN is to follow the last byte
    bool fin_sent = false;
    bool fin_acknowledged = false;
    bool wants_space = false;            // who writes has been told to wait
    std::optional<instant> stands_since; // nothing was acknowledged since, and something should be

    std::size_t queued() const noexcept
    {
        return waiting.size() + in_flight;
    }

    std::size_t room() const noexcept
    {
        return capacity - std::min(capacity, queued());
    }

    /// Linux calls a socket writable when a third of its buffer is free.
    bool is_writable() const noexcept
    {
        return room() > 0 && room() >= queued() / 2;
    }

    bool is_all_acknowledged() const noexcept
    {
        return queued() == 0 && (!fin_sent || fin_acknowledged);
    }

    void drop() noexcept
    {
        waiting.clear();
        in_flight = 0;
        stands_since.reset();
    }
};

/// From the arrival to read(2).
struct receive_half
{
    byte_queue arrived;
    std::size_t capacity = 0;
    std::size_t to_announce = 0; // was read, and the peer does not know yet
    bool is_shut = false;        // by shutdown(2), a close, or the end of the connection
    bool fin_arrived = false;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_TCP_HALVES_HPP
