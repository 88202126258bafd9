// A host name that stands for several addresses: the server listens on each.

#include "support/catch.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/sharded_server.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <dlfcn.h>
#include <netdb.h>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <vector>

#if defined(__GLIBC__)

using namespace std::chrono_literals;
using fairlead::client_distribution;
using fairlead::connection_event_kind;
using fairlead::server_event_kind;
using fairlead::server_state;

namespace test::several_addresses
{
/// Names that no resolver knows: "a127-0-0-1_loopback6.several" is 127.0.0.1 and ::1.
constexpr const char* suffix = ".several";

using resolver = int (*)(const char*, const char*, const addrinfo*, addrinfo**);

inline int resolve_each(
    resolver real, std::string names, const char* service, const addrinfo* hints, addrinfo** found)
{
    addrinfo** end = found;
    *found = nullptr;
    names += '_';
    for (std::size_t at = 0; at < names.size();) {
        const auto next = names.find('_', at);
        std::string address = names.substr(at, next - at);
        if (address == "loopback6") {
            address = "::1";
        } else {
            address.erase(0, 1);
            std::replace(address.begin(), address.end(), '-', '.');
        }
        if (const int code = real(address.c_str(), service, hints, end)) {
            return code;
        }
        while (*end != nullptr) {
            end = &(*end)->ai_next;
        }
        at = next + 1;
    }
    return 0;
}

/// Echoes over `address`.
inline bool echoes_at(const char* address, std::uint16_t port)
{
    test::client client(port, address);
    client.send("hello");
    return client.receive(5) == "hello";
}

/// Its listening socket is none any more.
inline bool breaks_listener_at(const char* address)
{
    for (int fd = 3; fd < 256; ++fd) {
        int listens = 0;
        socklen_t size = sizeof listens;
        asio::ip::tcp::endpoint local;
        auto length = static_cast<socklen_t>(local.capacity());
        if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0 &&
            ::getsockname(fd, local.data(), &length) == 0 &&
            local.address() == asio::ip::make_address(address)) {
            return ::shutdown(fd, SHUT_RD) == 0;
        }
    }
    return false;
}

inline fairlead::server_config listening_on(const std::string& address)
{
    return {.address = address};
}
} // namespace test::several_addresses

/// In front of the C library's.
extern "C" int getaddrinfo(
    const char* node, const char* service, const addrinfo* hints, addrinfo** found)
{
    using namespace test::several_addresses;
    static const auto real = reinterpret_cast<resolver>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    const std::string name = node != nullptr ? node : "";
    const auto at = name.find(suffix);
    return at == std::string::npos ? real(node, service, hints, found)
                                   : resolve_each(real, name.substr(0, at), service, hints, found);
}

using namespace test::several_addresses;

TEST_CASE("a server listens on every address that a name has", "[address]")
{
    test::running_server running(test::echo, listening_on("a127-0-0-1_a127-0-0-2.several:0"));
    running.start();
    CHECK(running.server.local_endpoint().address().to_string() == "127.0.0.1");
    REQUIRE(running.port() != 0);
    CHECK(echoes_at("127.0.0.1", running.port()));
    CHECK(echoes_at("127.0.0.2", running.port()));
    CHECK_THROWS(echoes_at("127.0.0.3", running.port()));
    CHECK(running.log.count(server_event_kind::listening) == 1);
    REQUIRE(running.log.wait_for(connection_event_kind::accepted, 2));
    CHECK(running.log.connections().front().local.address().to_string() == "127.0.0.1");
    std::size_t of_second = 0;
    for (const auto& event : running.log.connections()) {
        of_second += event.kind == connection_event_kind::accepted &&
                             event.local.address().to_string() == "127.0.0.2"
                         ? 1U
                         : 0U;
    }
    CHECK(of_second == 1);
}

TEST_CASE("one address of a name that is taken refuses the start, and is named", "[address]")
{
    test::running_server first(test::echo, listening_on("127.0.0.2:0"));
    first.start();
    const std::string port = std::to_string(first.port());
    test::running_server second(test::echo, listening_on("a127-0-0-1_a127-0-0-2.several:" + port));
    try {
        second.server.open();
        FAIL("it is open");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::address_in_use);
        CHECK(std::string(error.what()).find("(127.0.0.2)") != std::string::npos);
    }
    CHECK_THROWS(test::client(first.port())); // nothing is left of the attempt
    CHECK(second.server.state() == server_state::created);
}

TEST_CASE("an address that this machine does not have refuses the start", "[address]")
{
    test::running_server running(test::echo, listening_on("a127-0-0-1_a192-0-2-1.several:0"));
    try {
        running.server.open();
        FAIL("it is open");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::address_not_available);
        CHECK(std::string(error.what()).find("(192.0.2.1)") != std::string::npos);
    }
}

TEST_CASE("a name with an IPv6 address works with and without IPv6", "[address]")
{
    test::running_server running(test::echo, listening_on("a127-0-0-1_loopback6.several:0"));
    running.start();
    CHECK(echoes_at("127.0.0.1", running.port()));
}

TEST_CASE("every shard listens on every address of a name", "[address][shards]")
{
    const auto distribution =
        GENERATE(client_distribution::automatic, client_distribution::round_robin);
    fairlead::sharded_server server(
        test::echo, listening_on("a127-0-0-1_a127-0-0-2.several:0"),
        {.threads = 3, .distribution = distribution});
    for (int run = 0; run < 2; ++run) {
        server.start();
        const auto port = server.local_endpoint().port();
        for (int i = 0; i < 10; ++i) {
            CHECK(echoes_at("127.0.0.1", port));
            CHECK(echoes_at("127.0.0.2", port));
        }
        server.shutdown(10s);
        CHECK_THROWS(echoes_at("127.0.0.2", port));
    }
}

TEST_CASE("the addresses of a name share the limit, and a pause", "[address][limit]")
{
    auto settings = listening_on("a127-0-0-1_a127-0-0-2.several:0");
    settings.max_connections = 1;
    test::running_server running(test::echo, settings);
    running.start();
    std::vector<test::client> clients;
    for (int i = 0; i < 20; ++i) {
        clients.emplace_back(running.port(), i % 2 == 0 ? "127.0.0.1" : "127.0.0.2");
        clients.back().send("x");
    }
    std::size_t served = 0;
    while (served < clients.size()) { // whoever is served leaves
        for (auto& client : clients) {
            char reply = 0;
            if (client.fd() >= 0 && ::recv(client.fd(), &reply, 1, MSG_DONTWAIT) == 1) {
                ++served;
                client.close();
            }
        }
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 20));
    CHECK(running.server.stats().accepted == 20);
}

TEST_CASE("a listening socket that is broken does not silence the others", "[address]")
{
    test::running_server running(test::echo, listening_on("a127-0-0-1_a127-0-0-2.several:0"));
    running.start();
    const bool is_first = GENERATE(true, false);
    CAPTURE(is_first);
    const char* const works = is_first ? "127.0.0.2" : "127.0.0.1";
    REQUIRE(breaks_listener_at(is_first ? "127.0.0.1" : "127.0.0.2"));
    REQUIRE(running.log.wait_for(server_event_kind::paused));
    CHECK(running.log.errors().front().code == std::errc::invalid_argument);
    for (int i = 0; i < 5; ++i) {
        CHECK(echoes_at(works, running.port()));
    }
}

TEST_CASE("a drain serves who is queued at any address of a name", "[address][drain]")
{
    test::running_server running(test::echo, listening_on("a127-0-0-1_a127-0-0-2.several:0"));
    running.server.start(); // and nothing runs it yet
    std::vector<test::client> clients;
    for (int i = 0; i < 100; ++i) {
        clients.emplace_back(running.port(), i % 2 == 0 ? "127.0.0.1" : "127.0.0.2");
        clients.back().send("x");
        clients.back().finish();
    }
    auto draining = running.shutdown(60s);
    running.run();
    for (auto& client : clients) {
        CHECK(client.receive_rest().bytes == "x");
    }
    CHECK(test::report_of(draining).stragglers.empty());
}

#endif
