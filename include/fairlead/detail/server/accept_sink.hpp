// fairlead: where an acceptor's clients go.

#ifndef FAIRLEAD_DETAIL_SERVER_ACCEPT_SINK_HPP
#define FAIRLEAD_DETAIL_SERVER_ACCEPT_SINK_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/connection_limit.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What an acceptor hands its clients to. Neither function throws.
class accept_sink
{
public:
    /// A client, with its place in the connection limit.
    virtual void accepted(
        native::descriptor socket, const endpoint& remote, connection_place place) noexcept = 0;
    /// A client for whom there is no place.
    virtual void rejected(native::descriptor socket, const endpoint& remote) noexcept = 0;
    /// Closes an idle connection, or asks for it; false: there is none. Its place becomes free when
    /// its handler has returned.
    virtual bool make_room(eviction cause) noexcept = 0;
    /// `finish` is done: the listening socket is closed.
    virtual void finished() noexcept = 0;

protected:
    ~accept_sink() = default;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ACCEPT_SINK_HPP
