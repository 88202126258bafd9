// Endpoints as the kernel has them, and back.

#include "tests/support/catch.hpp"
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/io/native.hpp>

#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>

#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>

using fairlead::endpoint;
using fairlead::ip_address;
using fairlead::detail::socket_address;
using fairlead::detail::native::unmapped;

namespace test::socket_addresses
{
inline endpoint ip(const char* address, std::uint16_t port)
{
    return {ip_address(asio::ip::make_address(address)), port};
}

/// As the kernel would have written it.
inline socket_address written(const void* bytes, std::size_t size)
{
    socket_address address;
    std::memcpy(address.data(), bytes, size);
    address.size() = static_cast<socklen_t>(size);
    return address;
}
} // namespace test::socket_addresses

using namespace test::socket_addresses;

TEST_CASE("an endpoint goes to the kernel and comes back", "[address][unix]")
{
    const auto where = GENERATE(
        ip("127.0.0.1", 80), ip("0.0.0.0", 0), ip("::1", 65535), ip("fe80::1%7", 1),
        ip("::ffff:192.0.2.1", 8080), endpoint::of_unix("/run/app.sock"),
        endpoint::of_unix(std::string("\0app\0x", 6)),
        endpoint::of_unix(std::string(fairlead::detail::longest_unix_path, 'a')));
    const socket_address address(where);
    CHECK(address.to_endpoint() == where);
    if (where.is_ip()) { // as Asio has it
        const asio::ip::tcp::endpoint same = where;
        REQUIRE(address.size() == same.size());
        CHECK(std::memcmp(address.data(), same.data(), same.size()) == 0);
    }
}

TEST_CASE(
    "a Unix socket's address from the kernel has a path, an abstract name or none",
    "[address][unix]")
{
    sockaddr_un bytes = {};
    bytes.sun_family = AF_UNIX;
    constexpr std::size_t begins = offsetof(sockaddr_un, sun_path);
    CHECK(written(&bytes, begins).to_endpoint() == endpoint::of_unix(""));
    CHECK(written(&bytes, sizeof bytes).to_endpoint() == endpoint::of_unix("")); // FreeBSD, macOS
    std::memcpy(bytes.sun_path, "/a", 2);
    CHECK(written(&bytes, begins + 3).to_endpoint() == endpoint::of_unix("/a"));
    CHECK(written(&bytes, sizeof bytes).to_endpoint() == endpoint::of_unix("/a"));
    std::memset(bytes.sun_path, 'a', sizeof bytes.sun_path); // Linux allows it without its zero
    const std::string whole(sizeof bytes.sun_path, 'a');
    CHECK(written(&bytes, sizeof bytes).to_endpoint() == endpoint::of_unix(whole));
}

TEST_CASE("an address of a family that is none of ours is no endpoint", "[address]")
{
    sockaddr bytes = {};
    bytes.sa_family = AF_APPLETALK;
    CHECK(written(&bytes, sizeof bytes).to_endpoint() == endpoint());
    CHECK(written(&bytes, 0).to_endpoint() == endpoint());
    CHECK(socket_address(ip("127.0.0.1", 1)).family() == AF_INET);
}

TEST_CASE("an IPv4 client of a socket of both families looks like one", "[address]")
{
    CHECK(unmapped(ip("::ffff:192.0.2.1", 80)) == ip("192.0.2.1", 80));
    for (const auto& same :
         {ip("192.0.2.1", 80), ip("::1", 80), ip("::fffe:c000:201", 1), ip("::", 0),
          endpoint::of_unix("/a"), endpoint()}) {
        CHECK(unmapped(same) == same);
    }
}
