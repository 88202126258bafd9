// The branches of native.hpp that only other systems take, compiled here under names of their own: what a system has
// or lacks is a macro, so each system is a set of macros. The kernel below stays Linux.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include <fairlead/config.hpp>

#include <asio/error.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <string>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#if defined(__linux__)
#include <linux/sockios.h>
#endif

namespace test::elsewhere
{
// The numbers are those of Linux' options that can be looked at; the names are the other systems'.
constexpr int keep_idle = TCP_KEEPIDLE;
constexpr int priority = SO_PRIORITY;
constexpr int keep_idle_of_macos = keep_idle;
constexpr int nwrite_of_macos = SO_SNDBUF;
constexpr unsigned long nwrite_of_freebsd = SIOCOUTQ;
constexpr int nosigpipe = priority;
} // namespace test::elsewhere

#undef __linux__
#undef TCP_KEEPIDLE
#undef SIOCOUTQ
#undef FAIRLEAD_DETAIL_IO_NATIVE_HPP
#undef FAIRLEAD_DETAIL_IO_SOCKET_OPTIONS_HPP

#define native native_on_macos
#define SO_NOSIGPIPE ::test::elsewhere::nosigpipe
#define TCP_KEEPALIVE ::test::elsewhere::keep_idle_of_macos
#define SO_NWRITE ::test::elsewhere::nwrite_of_macos
#include <fairlead/detail/io/socket_options.hpp>
#undef native
#undef SO_NOSIGPIPE
#undef TCP_KEEPALIVE
#undef SO_NWRITE
#undef FAIRLEAD_DETAIL_IO_NATIVE_HPP

#define native native_on_freebsd
#define FIONWRITE ::test::elsewhere::nwrite_of_freebsd
#define SO_NOSIGPIPE ::test::elsewhere::nosigpipe
#include <fairlead/detail/io/native.hpp>
#undef native

namespace macos = fairlead::detail::native_on_macos;
namespace freebsd = fairlead::detail::native_on_freebsd;
using fairlead::detail::native_on_macos::descriptor;

namespace test::elsewhere
{
/// A listening socket on a free port; its accept does not wait.
inline descriptor listening_socket(std::uint16_t& port)
{
    descriptor listener(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener.get(), generic, size) == 0);
    REQUIRE(::listen(listener.get(), 16) == 0);
    REQUIRE(::getsockname(listener.get(), generic, &size) == 0);
    ::fcntl(listener.get(), F_SETFL, O_NONBLOCK);
    port = ntohs(address.sin_port);
    return listener;
}

inline int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(::getsockopt(fd, level, name, &value, &size) == 0);
    return value;
}
} // namespace test::elsewhere

using namespace test::elsewhere;

TEST_CASE("where SIGPIPE is an option of the socket, a batch of accepts ends quietly", "[native]")
{
    std::uint16_t port = 0;
    const descriptor listener = listening_socket(port);
    const test::client client(port);
    fairlead::endpoint remote;
    std::error_code error;
    const auto first = macos::accept(listener.get(), remote, error);
    REQUIRE(first);
    CHECK_FALSE(error);
    CHECK(remote.port() == client.local_port());
    CHECK(option(first.get(), SOL_SOCKET, nosigpipe) == 1);
    CHECK((::fcntl(first.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(first.get(), F_GETFD) & FD_CLOEXEC) != 0);

    CHECK_FALSE(macos::accept(listener.get(), remote, error));
    CHECK(
        error ==
        std::errc::resource_unavailable_try_again); // it was EBADF, told and backed off from
    CHECK_FALSE(freebsd::accept(listener.get(), remote, error));
    CHECK(error == std::errc::resource_unavailable_try_again);
}

TEST_CASE("the keep-alive's idle time has another name on macOS", "[native]")
{
    const descriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
    fairlead::socket_config options;
    options.keep_alive_idle = std::chrono::seconds(77);
    int refused = 0;
    macos::tune_connection(
        socket.get(), options, [&](const char*, const std::error_code&) { ++refused; });
    CHECK(refused == 0);
    CHECK(option(socket.get(), IPPROTO_TCP, keep_idle) == 77);
}

TEST_CASE("what the peer has not acknowledged is asked for under each system's name", "[native]")
{
    std::uint16_t port = 0;
    const descriptor listener = listening_socket(port);
    const test::client client(port); // reads nothing
    fairlead::endpoint remote;
    std::error_code error;
    const auto connection = macos::accept(listener.get(), remote, error);
    REQUIRE(connection);
    const std::string bytes(1 << 16, 'x');
    while (!macos::send(connection.get(), bytes.data(), bytes.size()).would_block) {
    }
    CHECK(freebsd::unacknowledged_bytes(connection.get()) > 0);
    CHECK(
        macos::unacknowledged_bytes(connection.get()) ==
        static_cast<std::size_t>(option(connection.get(), SOL_SOCKET, nwrite_of_macos)));
}
