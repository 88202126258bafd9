// fairlead: the process at the other end of a Unix socket. `connection::peer_credentials()` tells.

#ifndef FAIRLEAD_PEER_CREDENTIALS_HPP
#define FAIRLEAD_PEER_CREDENTIALS_HPP

#include <fairlead/detail/namespace.hpp>

#include <sys/types.h>

namespace FAIRLEAD_NAMESPACE
{
/// As the kernel noted them when the process connected: who has passed the descriptor on since, or
/// has changed its user, is still who it was then. Names of users and groups: getpwuid_r(3),
/// getgrgid_r(3).
struct peer_credentials
{
    /// 0 where the system does not tell (only Linux does), and of a process that this one cannot see
    /// (in a PID namespace of its own). A number may have become another process's meanwhile.
    ::pid_t pid;
    /// The effective user.
    ::uid_t uid;
    /// The effective group.
    ::gid_t gid;

    friend bool operator==(const peer_credentials&, const peer_credentials&) = default;
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_PEER_CREDENTIALS_HPP
