// fairlead: asks the kernel who is at the other end of a Unix socket.

#ifndef FAIRLEAD_DETAIL_IO_CREDENTIALS_HPP
#define FAIRLEAD_DETAIL_IO_CREDENTIALS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/peer_credentials.hpp>

#include <optional>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

namespace FAIRLEAD_NAMESPACE::detail::native
{
/// `SO_PEERCRED` of Linux (unix(7)), getpeereid(3) of FreeBSD and macOS; empty elsewhere.
inline std::optional<peer_credentials> credentials_of_peer([[maybe_unused]] int fd) noexcept
{
#if defined(__linux__)
    ::ucred peer = {};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        return peer_credentials{.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
    }
#elif defined(__APPLE__) || defined(__FreeBSD__)
    peer_credentials peer{.pid = 0, .uid = 0, .gid = 0};
    if (::getpeereid(fd, &peer.uid, &peer.gid) == 0) {
        return peer;
    }
#endif
    return std::nullopt;
}
} // namespace FAIRLEAD_NAMESPACE::detail::native

#endif // FAIRLEAD_DETAIL_IO_CREDENTIALS_HPP
