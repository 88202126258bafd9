// Peers that have gone are noticed, also when there was no descriptor to watch them with.

#include "support/catch.hpp"
#include <fairlead/detail/io/hang_up_watch.hpp>

#include <asio/io_context.hpp>

#include <array>
#include <chrono>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

using namespace std::chrono_literals;
using fairlead::detail::hang_up_hook;
using fairlead::detail::hang_up_watch;

namespace test::hang_ups
{
struct watched : hang_up_hook
{
    watched()
    {
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0);
    }

    ~watched()
    {
        ::close(ends[0]);
        leave();
    }

    void leave()
    {
        if (ends[1] != -1) {
            ::close(std::exchange(ends[1], -1));
        }
    }

    int native_handle() const
    {
        return ends[0];
    }

    void peer_has_gone()
    {
        ++told;
    }

    std::array<int, 2> ends{};
    int told = 0;
};

/// While it lives, the process gets no descriptor.
class no_descriptors
{
public:
    no_descriptors()
    {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const rlimit none{.rlim_cur = 0, .rlim_max = before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &none);
    }

    ~no_descriptors()
    {
        ::setrlimit(RLIMIT_NOFILE, &before_);
    }

private:
    rlimit before_{};
};
} // namespace test::hang_ups

using namespace test::hang_ups;

TEST_CASE("a peer that goes is told of once, and nobody after remove()", "[hang_ups]")
{
    asio::io_context context(1);
    hang_up_watch<watched> watch(context);
    watched first;
    watched second;
    REQUIRE(watch.add(first.native_handle(), first));
    REQUIRE(watch.add(second.native_handle(), second));
    first.leave();
    context.run_one_for(5s);
    CHECK(first.told == 1);
    watch.remove(second.native_handle(), second);
    second.leave();
    CHECK(context.run_for(5s) != 0); // out of work
    CHECK(context.stopped());
    CHECK(first.told == 1);
    CHECK(second.told == 0);
}

TEST_CASE("what could not be watched for want of a descriptor is watched later", "[hang_ups]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    asio::io_context context(1);
    hang_up_watch<watched> watch(context);
    watched first;
    watched second;
    watched third;
    {
        const no_descriptors shortage;
        REQUIRE(watch.add(first.native_handle(), first));
        REQUIRE(watch.add(second.native_handle(), second));
        context.run_for(250ms); // tries again, in vain
    }
    first.leave();
    const bool by_another = GENERATE(false, true);
    CAPTURE(by_another);
    if (by_another) { // whose own comes at the right time
        REQUIRE(watch.add(third.native_handle(), third));
        context.run_one_for(50ms);
        CHECK(first.told == 1);
        watch.remove(third.native_handle(), third);
    }
    const auto limit = std::chrono::steady_clock::now() + 5s;
    while (first.told == 0 && std::chrono::steady_clock::now() < limit) {
        context.run_one_for(100ms);
    }
    CHECK(first.told == 1);
    CHECK(second.told == 0);
    second.leave();
    context.run_for(5s);
    CHECK(second.told == 1);
    CHECK(context.stopped());
}

TEST_CASE("what was never watched is removed, and keeps nothing running", "[hang_ups]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    asio::io_context context(1);
    hang_up_watch<watched> watch(context);
    watched one;
    const no_descriptors shortage;
    REQUIRE(watch.add(one.native_handle(), one));
    watch.remove(one.native_handle(), one);
    context.run_for(5s);
    CHECK(context.stopped());
}

TEST_CASE("a descriptor that was taken early serves when there are no more", "[hang_ups]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    asio::io_context context(1);
    hang_up_watch<watched> watch(context);
    watched one;
    watch.open();
    const no_descriptors shortage;
    REQUIRE(watch.add(one.native_handle(), one));
    one.leave();
    context.run_one_for(5s);
    CHECK(one.told == 1);
}
