// fairlead: whom a connection tells of its life: a server, or whoever else makes connections.

#ifndef FAIRLEAD_DETAIL_CONNECTION_OWNER_HPP
#define FAIRLEAD_DETAIL_CONNECTION_OWNER_HPP

#include <fairlead/detail/namespace.hpp>

#include <chrono>

namespace FAIRLEAD_NAMESPACE::detail
{
class connection_core;
class handshake_gate;

/// On the connection's thread. Outlives its connections.
class connection_owner
{
public:
    connection_owner() = default;
    connection_owner(const connection_owner&) = delete;
    connection_owner& operator=(const connection_owner&) = delete;

    /// A connection's socket is closed, and it has been told why.
    virtual void connection_closed(connection_core& connection) noexcept = 0;

    /// Its socket is closed, and nothing of the user's runs for it any more.
    virtual void connection_over(connection_core& connection) noexcept = 0;

    /// A handler has got its first bytes.
    virtual void first_bytes_read(connection_core& connection) noexcept = 0;

    /// A client was accepted, or a handler has started, during the drain; what comes first has time
    /// until `late`.
    virtual void awaits_first_request(std::chrono::steady_clock::time_point late) = 0;

    /// Where TLS handshakes wait for their turn.
    virtual handshake_gate& gate() noexcept = 0;

protected:
    ~connection_owner() = default;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_OWNER_HPP
