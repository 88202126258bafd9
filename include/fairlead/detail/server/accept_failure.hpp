// fairlead: what accept(2)'s failures mean for who calls it. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_ACCEPT_FAILURE_HPP
#define FAIRLEAD_DETAIL_SERVER_ACCEPT_FAILURE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <cerrno>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What accept(2)'s failures mean (accept(2), section ERRORS).
enum class accept_failure
{
    /// Nobody is waiting.
    nobody,
    /// That client is gone, or its network is; the next one may be fine.
    next,
    /// No descriptor or no memory: it will pass, but not at once.
    exhausted,
    /// Something else: try again later, and say so.
    other,
};

inline accept_failure classify_accept_failure(int error) noexcept
{
    switch (error) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return accept_failure::nobody;
    case ECONNABORTED:
    case ECONNRESET:
    case EPROTO:
    case EPERM: // a firewall rule
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ETIMEDOUT:
#if defined(ENONET)
    case ENONET:
#endif
        return accept_failure::next;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return accept_failure::exhausted;
    default:
        return accept_failure::other;
    }
}

/// As users hear of it.
inline std::error_code told_accept_failure(const std::error_code& error) noexcept
{
    switch (error.value()) {
    case EMFILE:
    case ENFILE:
        return errc::out_of_descriptors;
    case ENOBUFS:
    case ENOMEM:
        return errc::out_of_memory;
    default:
        return error;
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ACCEPT_FAILURE_HPP
