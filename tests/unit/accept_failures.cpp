// What each error of accept(2) means to the acceptor. The acceptor at work: integration/accepting.cpp and fault/.

#include "support/catch.hpp"
#include <fairlead/detail/server/accept_failure.hpp>

#include <array>
#include <cerrno>

using fairlead::detail::accept_failure;
using fairlead::detail::classify_accept_failure;

TEST_CASE("an empty queue is no failure", "[accept]")
{
    CHECK(classify_accept_failure(EAGAIN) == accept_failure::nobody);
    CHECK(classify_accept_failure(EWOULDBLOCK) == accept_failure::nobody);
}

TEST_CASE("a client that is gone, or its network, does not stop the next one", "[accept]")
{
    // accept(2): "already-pending network errors on the new socket [...] should be treated like EAGAIN by retrying";
    // EPERM comes from firewall rules, ECONNRESET from kernels other than Linux.
    const std::array errors{ECONNABORTED, ECONNRESET,  EPROTO,    EPERM,
                            ENETDOWN,     ENETUNREACH, EHOSTDOWN, EHOSTUNREACH,
                            ENOPROTOOPT,  EOPNOTSUPP,  ETIMEDOUT};
    for (const int error : errors) {
        INFO("errno " << error);
        CHECK(classify_accept_failure(error) == accept_failure::next);
    }
#if defined(ENONET)
    CHECK(classify_accept_failure(ENONET) == accept_failure::next);
#endif
}

TEST_CASE("missing descriptors and memory are told from everything else", "[accept]")
{
    for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
        INFO("errno " << error);
        CHECK(classify_accept_failure(error) == accept_failure::exhausted);
    }
}

TEST_CASE("an error that nobody expects backs off and goes on", "[accept]")
{
    for (const int error : {EBADF, EINVAL, ENOTSOCK, EFAULT, ENOSYS, EACCES, EIO, 0, -1, 100'000}) {
        INFO("errno " << error);
        CHECK(classify_accept_failure(error) == accept_failure::other);
    }
}
