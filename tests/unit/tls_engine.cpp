// detail/tls_engine.hpp: how long one step of it lasts. What TLS does is tested over connections.

#include "tests/support/catch.hpp"
#include "tests/support/tls_client.hpp"
#include <fairlead/detail/tls/engine.hpp>

#include <cstddef>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

using fairlead::detail::tls_engine;

namespace
{
/// The head of a hello of 64 KB, and all but the end of its body, one byte to a record.
std::string endless_hello()
{
    std::string hello("\x01\x00\xff\xff\x03\x03", 6);
    hello.resize(60'000, 'x');
    std::string records;
    for (const char byte : hello) {
        records += std::string("\x16\x03\x01\x00\x01", 5) + byte;
    }
    return records;
}
} // namespace

TEST_CASE("a step of a handshake reads a bounded number of records", "[tls]")
{
    const fairlead::tls_context context(test::make_tls());
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const int size = 1 << 20; // cut by the kernel, and large enough
    ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    fairlead::detail::channel channel(ends[1]);
    fairlead::detail::prefetch before;
    std::error_code error;
    const auto engine = tls_engine::make(context, channel, before, error);
    REQUIRE(engine != nullptr);
    const std::string hello = endless_hello();
    std::size_t sent = 0;
    int full_steps = 0;
    for (int step = 0; step < 10; ++step) {
        const auto n = ::send(ends[0], hello.data() + sent, hello.size() - sent, MSG_DONTWAIT);
        sent += n > 0 ? static_cast<std::size_t>(n) : 0;
        const auto queued = fairlead::detail::native::unread_bytes(ends[1]);
        channel.input_has_come(fairlead::detail::channel::input::perhaps);
        const auto attempt = engine->handshake();
        REQUIRE_FALSE(attempt.error);
        CHECK(attempt.waits_for == fairlead::detail::attempt::condition::readable);
        const auto left = fairlead::detail::native::unread_bytes(ends[1]);
        CHECK(queued - left <= fairlead::detail::longest_handshake_turn);
        full_steps += left != 0 ? 1 : 0;
    }
    CHECK(full_steps == 10);
    ::close(ends[0]);
    ::close(ends[1]);
}
