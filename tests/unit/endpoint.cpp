#include "support/catch.hpp"
#include <fairlead/endpoint.hpp>

#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

using fairlead::endpoint;
using fairlead::ip_address;
using asio_endpoint = asio::ip::tcp::endpoint;

namespace
{
asio_endpoint at(const char* address, unsigned short port)
{
    return {asio::ip::make_address(address), port};
}
} // namespace

TEST_CASE("an endpoint is made of Asio's, and makes Asio's", "[endpoint]")
{
    const auto address = GENERATE(
        "127.0.0.1", "0.0.0.0", "203.0.113.9", "::", "::1", "2001:db8::7", "::ffff:192.0.2.1");
    const asio_endpoint given = at(address, 8080);
    const endpoint made = given;
    CHECK(made.is_ip());
    CHECK(made.port() == 8080);
    CHECK(made == given);
    CHECK(given == made);
    CHECK(made.address() == given.address());
    const asio_endpoint back = made;
    CHECK(back == given);
    const asio::ip::address back_address = made.address();
    CHECK(back_address == given.address());
    CHECK(made.address().is_v4() == given.address().is_v4());
    CHECK(made.address().is_loopback() == given.address().is_loopback());
    CHECK(made.address().is_unspecified() == given.address().is_unspecified());
    CHECK(made != at(address, 8081));
}

TEST_CASE("an endpoint is written as Asio writes it", "[endpoint]")
{
    std::mt19937 random(7);
    for (int i = 0; i < 5000; ++i) {
        asio::ip::address_v6::bytes_type bytes{};
        for (auto& byte : bytes) { // mostly zeros: runs of them
            byte = static_cast<unsigned char>(random() % 3 == 0 ? random() % 256 : 0);
        }
        const asio::ip::address_v6 v6(bytes);
        if (!v6.is_v4_mapped() && bytes[10] == 0xff) {
            continue;
        }
        const std::string text = ip_address(v6).to_string();
        CHECK(asio::ip::make_address(text) == v6);
        const asio::ip::address_v4 v4(
            asio::ip::address_v4::bytes_type{bytes[0], bytes[1], bytes[2], bytes[3]});
        CHECK(ip_address(v4).to_string() == v4.to_string());
        CHECK(ip_address(v4) == v4);
        CHECK(ip_address(v6) == v6);
    }
}

TEST_CASE("addresses are written by RFC 5952", "[endpoint]")
{
    const auto [given, text] = GENERATE(table<const char*, const char*>({
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:0db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:DB8:0:0:0:0:2:1", "2001:db8::2:1"},
        {"1:0:0:0:0:0:0:0", "1::"},
        {"0:0:0:0:0:0:0:0", "::"},
        {"0:1:0:0:0:0:0:0", "0:1::"},
        {"fe80:0:0:0:0:0:0:1%7", "fe80::1%7"},
    }));
    CHECK(ip_address(asio::ip::make_address(given)).to_string() == text);
}

TEST_CASE("an endpoint says what it is", "[endpoint]")
{
    CHECK(endpoint().to_string() == "none");
    CHECK(endpoint(at("127.0.0.1", 80)).to_string() == "127.0.0.1:80");
    CHECK(endpoint(at("::1", 443)).to_string() == "[::1]:443");
    CHECK(endpoint::of_unix("/run/app.sock").to_string() == "unix:/run/app.sock");
    CHECK(endpoint::of_unix("").to_string() == "unix:");
    CHECK(endpoint::of_unix(std::string_view("\0app", 4)).to_string() == "unix:@app");
    std::ostringstream out;
    out << endpoint(at("::1", 443)) << ' ' << endpoint().address();
    CHECK(out.str() == "[::1]:443 0.0.0.0");
}

TEST_CASE("an endpoint takes another address, or another port", "[endpoint]")
{
    endpoint where = at("127.0.0.1", 80);
    where.address(asio::ip::address_v6::loopback());
    CHECK(where == at("::1", 80));
    where.port(81);
    CHECK(where == at("::1", 81));
    where = endpoint::of_unix("/run/app.sock");
    where.port(82);
    CHECK(where == at("0.0.0.0", 82));
}

TEST_CASE("what is no IP endpoint does not become Asio's", "[endpoint]")
{
    const auto where = GENERATE(as<endpoint>{}, endpoint(), endpoint::of_unix("/run/app.sock"));
    CHECK(where.port() == 0);
    CHECK(where.address().is_unspecified());
    CHECK_THROWS_AS(static_cast<asio_endpoint>(where), std::system_error);
}

TEST_CASE("copying an endpoint cannot fail, and the copies share what they say", "[endpoint]")
{
    STATIC_REQUIRE(std::is_nothrow_copy_constructible_v<endpoint>);
    STATIC_REQUIRE(std::is_nothrow_copy_assignable_v<endpoint>);
    STATIC_REQUIRE(std::is_nothrow_move_assignable_v<endpoint>);
    auto first = endpoint::of_unix("/run/app.sock");
    const endpoint second = first;
    CHECK(second.path().data() == first.path().data());
    first = endpoint();
    CHECK(second.path() == "/run/app.sock");
    CHECK(first.path().empty());
}

TEST_CASE("endpoints are compared, copied and hashed by what they say", "[endpoint]")
{
    const std::vector<endpoint> ordered = {
        endpoint(),   at("10.0.0.1", 1),     at("10.0.0.1", 2),       at("10.0.0.2", 1),
        at("::1", 1), endpoint::of_unix(""), endpoint::of_unix("/a"), endpoint::of_unix("/b"),
    };
    const std::set<endpoint> sorted(ordered.rbegin(), ordered.rend());
    CHECK(std::equal(sorted.begin(), sorted.end(), ordered.begin(), ordered.end()));
    std::unordered_set<endpoint> known(ordered.begin(), ordered.end());
    CHECK(known.size() == ordered.size());
    for (const endpoint& each : ordered) {
        endpoint copy = each;
        CHECK(copy == each);
        CHECK(known.contains(copy));
        const endpoint moved = std::move(copy);
        CHECK(moved == each);
        copy = moved;
        CHECK(copy == each);
        copy = *&copy;
        CHECK(copy == each);
    }
}
