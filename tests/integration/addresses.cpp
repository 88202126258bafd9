// Where a server listens: every form of an address, what cannot be listened on, and who sees it.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <fstream>
#include <linux/capability.h>
#include <netdb.h>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
/// The exception that `function()` throws; its code is empty when it throws nothing.
template <typename Function>
std::system_error thrown_by(Function function)
{
    try {
        function();
    } catch (const std::system_error& error) {
        return error;
    }
    return std::system_error(std::error_code());
}

bool has_ipv6()
{
    asio::io_context context;
    asio::ip::tcp::socket socket(context);
    std::error_code error;
    socket.open(asio::ip::tcp::v6(), error);
    socket.bind({asio::ip::address_v6::loopback(), 0}, error);
    return !error;
}

/// Echoes "hello" over `address` with Asio's blocking client.
bool echoes(const asio::ip::tcp::endpoint& server)
{
    asio::io_context context;
    asio::ip::tcp::socket socket(context);
    socket.connect(server);
    socket.send(asio::buffer("hello", 5));
    std::string answer(5, '\0');
    std::size_t got = 0;
    while (got < answer.size()) {
        got += socket.receive(asio::buffer(answer.data() + got, answer.size() - got));
    }
    return answer == "hello";
}

/// An address of 127.0.0.0/8 that is this process's own, so that a fixed port on it is free.
std::string own_address()
{
    const auto pid = static_cast<unsigned>(::getpid());
    return "127." + std::to_string(64 + (pid >> 14) % 64) + "." + std::to_string(pid >> 7 & 127) +
           "." + std::to_string(1 + (pid & 127));
}

/// Takes the right to bind low ports from the calling thread alone.
void drop_bind_capability()
{
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {};
    ::syscall(SYS_capget, &header, data);
    data[0].effective &= ~(1U << CAP_NET_BIND_SERVICE);
    ::syscall(SYS_capset, &header, data);
}

int first_unprivileged_port()
{
    std::ifstream file("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    int port = 1024;
    file >> port;
    return port;
}
} // namespace

TEST_CASE("a server listens on each form of an address", "[address]")
{
    const auto address = GENERATE(
        as<std::string>{}, "127.0.0.1:0", "127.3.2.1:0", "localhost:0", "LOCALHOST:0", "[::1]:0",
        ":0");
    CAPTURE(address);
    if (address.front() == '[' && !has_ipv6()) {
        SKIP_TEST("this machine has no IPv6");
    }
    test::running_server running(test::echo, {.address = address});
    running.server.open();
    auto bound = running.server.local_endpoint();
    CHECK(bound.port() != 0);
    if (address == "127.3.2.1:0") {
        CHECK(bound.address() == asio::ip::make_address("127.3.2.1"));
    } else if (address == "[::1]:0") {
        CHECK(bound.address() == asio::ip::address_v6::loopback());
    } else if (address == ":0") {
        CHECK(bound.address().is_unspecified());
        bound.address(asio::ip::address_v4::loopback());
    } else {
        CHECK(bound.address() == asio::ip::address_v4::loopback());
    }
    running.start();
    CHECK(echoes(bound));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().local == bound);
    CHECK(running.log.servers().front().kind == server_event_kind::listening);
}

TEST_CASE("an empty host is reached by IPv4 and IPv6, and IPv4 peers look it", "[address]")
{
    if (!has_ipv6()) {
        SKIP_TEST("this machine has no IPv6");
    }
    test::running_server running(test::echo, {.address = ":0"});
    running.start();
    const asio::ip::tcp::endpoint v4(asio::ip::address_v4::loopback(), running.port());
    const asio::ip::tcp::endpoint v6(asio::ip::address_v6::loopback(), running.port());
    CHECK(echoes(v4));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(echoes(v6));
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));
    const auto closed = running.log.closed();
    CHECK(closed[0].remote.address() == asio::ip::address_v4::loopback());
    CHECK(closed[0].remote.port() != 0);
    CHECK(closed[0].local == v4);
    CHECK(closed[1].remote.address() == asio::ip::address_v6::loopback());
    CHECK(closed[1].local == v6);
}

TEST_CASE("v6_only keeps IPv4 away from an empty host", "[address]")
{
    if (!has_ipv6()) {
        SKIP_TEST("this machine has no IPv6");
    }
    test::running_server running(test::echo, {.address = ":0", .socket = {.v6_only = true}});
    running.start();
    CHECK(echoes({asio::ip::address_v6::loopback(), running.port()}));
    CHECK(thrown_by([&] {
              test::client client(running.port());
          }).code() == std::errc::connection_refused);
}

TEST_CASE("a service may be given by name", "[address]")
{
    const auto* const service = ::getservbyname("http-alt", "tcp");
    if (service == nullptr) {
        SKIP_TEST("this machine has no /etc/services");
    }
    test::running_server running(test::echo, {.address = own_address() + ":http-alt"});
    running.start();
    CHECK(running.port() == ntohs(static_cast<std::uint16_t>(service->s_port)));
    CHECK(echoes(running.server.local_endpoint()));
}

TEST_CASE("a port in use is refused, and the error hook hears of it", "[address]")
{
    test::running_server first(test::echo);
    first.start();
    test::running_server second(
        test::echo, {.address = "127.0.0.1:" + std::to_string(first.port())});
    const bool by_listen = GENERATE(false, true);
    CAPTURE(by_listen);
    std::error_code code;
    std::string what;
    if (by_listen) {
        second.run();
        auto over = asio::co_spawn(second.context, second.server.listen(), asio::use_future);
        REQUIRE(over.wait_for(test::patience) == std::future_status::ready);
        const auto error = thrown_by([&] { over.get(); });
        code = error.code();
        what = error.what();
    } else {
        const auto error = thrown_by([&] { second.server.open(); });
        code = error.code();
        what = error.what();
    }
    CHECK(code == std::errc::address_in_use);
    CHECK(what.find(std::to_string(first.port())) != std::string::npos);
    REQUIRE(second.log.errors().size() == 1);
    const auto heard = second.log.errors().front();
    CHECK(heard.code == std::errc::address_in_use);
    CHECK(heard.what.find(std::to_string(first.port())) != std::string::npos);
    CHECK(heard.connection_id == 0);
    CHECK(heard.remote == fairlead::endpoint());
    CHECK(second.server.state() == server_state::created);
    CHECK(second.server.stats().errors == 1);
    CHECK(second.log.servers().empty());
    second.stop();

    // Nothing is left of the attempt: another address works.
    second.server.set_address("127.0.0.1:0");
    second.context.restart();
    second.start();
    CHECK(echoes(second.server.local_endpoint()));
    CHECK(echoes(first.server.local_endpoint()));
}

TEST_CASE("a port that this user must not bind is refused, and the hook hears of it", "[address]")
{
    if (first_unprivileged_port() <= 80) {
        SKIP_TEST("anybody may bind port 80 here");
    }
    test::running_server running(test::echo, {.address = own_address() + ":80"});
    std::error_code code;
    // Capabilities belong to a thread: root is nobody in particular there.
    std::thread([&] {
        drop_bind_capability();
        code = thrown_by([&] { running.server.open(); }).code();
    }).join();
    CHECK(code == std::errc::permission_denied);
    REQUIRE(running.log.errors().size() == 1);
    CHECK(running.log.errors().front().code == std::errc::permission_denied);
    CHECK(running.server.state() == server_state::created);
}

TEST_CASE("a host or a service that does not resolve is refused", "[address]")
{
    const auto address =
        GENERATE(as<std::string>{}, "no-such-host.invalid:0", "127.0.0.1:no-such-service");
    CAPTURE(address);
    test::running_server running(test::echo, {.address = address});
    const auto error = thrown_by([&] { running.server.start(); });
    CHECK(error.code() == errc::invalid_address);
    CHECK(std::string(error.what()).find(address) != std::string::npos);
    REQUIRE(running.log.errors().size() == 1);
    CHECK(running.log.errors().front().code == errc::invalid_address);
    CHECK(running.log.errors().front().what.find(address) != std::string::npos);
    CHECK(running.server.state() == server_state::created);
}

TEST_CASE("an address that is no address is refused by the constructor", "[address]")
{
    const auto address = GENERATE(
        as<std::string>{}, "", "x", ":99999", "1.2.3.4", "[::1",
        std::string(
            "127.0.0.1:8\0"
            "0",
            13),
        std::string(1000, 'a'));
    CAPTURE(address);
    asio::io_context context;
    using server_type = tcp_server<decltype(&test::echo)>;
    const auto error =
        thrown_by([&] { server_type server(context, &test::echo, {.address = address}); });
    CHECK(error.code() == errc::invalid_address);
    // The message quotes the value: as much as fits, without what would break a line.
    const std::string quoted = address.substr(0, std::min<std::size_t>(address.find('\0'), 20));
    CHECK(std::string(error.what()).find('"' + quoted) != std::string::npos);
    CHECK(std::string(error.what()).find('\0') == std::string::npos);

    server_type good(context, &test::echo, test::local_config());
    CHECK(thrown_by([&] { good.set_address(address); }).code() == errc::invalid_address);
    good.open(); // the address that it had is the one that it has
    CHECK(good.local_endpoint().address() == asio::ip::address_v4::loopback());
}

TEST_CASE("set_address is for the next open(), and the bound address stays known", "[address]")
{
    test::running_server running(test::echo);
    running.server.set_address("127.0.0.2:0");
    running.start();
    const auto first = running.server.local_endpoint();
    CHECK(first.address() == asio::ip::make_address("127.0.0.2"));
    CHECK(echoes(first));
    running.server.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    running.on_shard(
        [&] { running.server.set_address("127.0.0.3:" + std::to_string(first.port())); });
    CHECK(running.on_shard([&] { return running.server.local_endpoint(); }) == first);
    running.on_shard([&] { running.server.start(); });
    const auto second = running.on_shard([&] { return running.server.local_endpoint(); });
    CHECK(second == asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.3"), first.port()));
    CHECK(echoes(second));
    CHECK(
        thrown_by([&] { echoes(first); }).code() == asio::error::connection_refused); // Asio's own
}

TEST_CASE("a port that was just served on can be bound again at once", "[address]")
{
    test::running_server running(test::echo);
    running.start();
    const auto endpoint = running.server.local_endpoint();
    test::client client(endpoint.port());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    running.server.close(); // the server closes first: its side is what lingers in the kernel
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    running.on_shard([&] {
        running.server.set_address("127.0.0.1:" + std::to_string(endpoint.port()));
        running.server.start();
    });
    CHECK(echoes(endpoint));
}
