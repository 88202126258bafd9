// fairlead: the client that an acceptor has taken and has no place for yet: it waits for that of
// one who is evicted.

#ifndef FAIRLEAD_DETAIL_SERVER_PARKED_CLIENT_HPP
#define FAIRLEAD_DETAIL_SERVER_PARKED_CLIENT_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/accept_sink.hpp>
#include <fairlead/detail/server/connection_limit.hpp>

#include <chrono>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A part of its acceptor.
struct parked_client
{
    using time_point = std::chrono::steady_clock::time_point;

    /// So long it waits until it is rejected.
    static constexpr std::chrono::milliseconds longest{1000};

    void begin(connection_limit& limit, time_point now) noexcept
    {
        account = waiting_client(limit);
        until = now + longest;
    }

    /// A place may be free. If not, one more connection is closed, unless that of another is on its
    /// way. False: there is nobody to be closed, or it has taken too long.
    bool seek(connection_place& place, time_point now, accept_sink& sink) noexcept
    {
        auto [found, cause] = account.seek(now);
        if (!found && (now >= until || (cause && !sink.make_room(std::move(cause))))) {
            return false;
        }
        place = found ? std::move(found) : account.seek(now).first; // who had nothing to finish
        return true;                                                // is gone by now
    }

    void drop() noexcept
    {
        account = {};
        if (socket) {
            native::reset_on_close(socket.get());
            socket.reset();
        }
    }

    waiting_client account;
    native::descriptor socket;
    endpoint remote;
    time_point until;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_PARKED_CLIENT_HPP
