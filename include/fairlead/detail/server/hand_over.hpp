// fairlead: clients on their way from the acceptor of one shard to another shard, which must not
// stop before they have come. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_HAND_OVER_HPP
#define FAIRLEAD_DETAIL_SERVER_HAND_OVER_HPP

#include <fairlead/detail/namespace.hpp>

#include <atomic>
#include <cstddef>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Counts what was announced and has not arrived. Closed, it takes no announcements; it is closed
/// at first. `announce` is for any thread, the others are for the receiver's.
class hand_over
{
public:
    void open() noexcept
    {
        on_their_way_.fetch_and(~closed);
    }

    /// False: it is closed. Otherwise `arrived` must follow.
    bool announce() noexcept
    {
        std::size_t before = on_their_way_.load();
        while ((before & closed) == 0) {
            if (on_their_way_.compare_exchange_weak(before, before + 1)) {
                return true;
            }
        }
        return false;
    }

    void arrived() noexcept
    {
        on_their_way_.fetch_sub(1);
    }

    /// False: somebody is on their way, and it stays open.
    bool close_when_none() noexcept
    {
        std::size_t none = 0;
        return on_their_way_.compare_exchange_strong(none, closed) || (none & closed) != 0;
    }

    void close() noexcept
    {
        on_their_way_.fetch_or(closed);
    }

private:
    static constexpr std::size_t closed = ~(~std::size_t(0) >> 1); // the highest bit

    std::atomic<std::size_t> on_their_way_ = closed;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_HAND_OVER_HPP
