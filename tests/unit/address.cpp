// Reading "host:port", ":port" and "[v6]:port", and what is said about everything else.

#include "tests/support/catch.hpp"
#include <fairlead/detail/config/address.hpp>

#include <cstddef>
#include <iomanip> // std::quoted must not be taken for a function of ours
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

using namespace std::string_literals;
using fairlead::detail::default_max_connections;
using fairlead::detail::is_ipv4_address;
using fairlead::detail::is_ipv6_address;
using fairlead::detail::parse_address;
using fairlead::detail::quote;

TEST_CASE("an address is split into host and service", "[address]")
{
    struct expectation
    {
        std::string text;
        std::string host;
        std::string service;
        bool is_v6_literal;
    };
    const std::vector<expectation> table = {
        {":0", "", "0", false},
        {":7777", "", "7777", false},
        {":65535", "", "65535", false},
        {"0.0.0.0:80", "0.0.0.0", "80", false},
        {"255.255.255.255:1", "255.255.255.255", "1", false},
        {"localhost:http", "localhost", "http", false},
        {"www.example.com.:443", "www.example.com.", "443", false},
        {"my_service-1:3com-tsmux", "my_service-1", "3com-tsmux", false},
        {"1st.example:80", "1st.example", "80", false},
        {"[::1]:80", "::1", "80", true},
        {"[::]:http", "::", "http", true},
        {"[fe80::1%eth0]:80", "fe80::1%eth0", "80", true},
        {"[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", "80", true},
        {std::string(63, 'a') + ":80", std::string(63, 'a'), "80", false},
    };
    for (const expectation& each : table) {
        INFO(each.text);
        const auto parsed = parse_address(each.text);
        REQUIRE(parsed.value);
        CHECK(parsed.problem.empty());
        CHECK(parsed.value->host == each.host);
        CHECK(parsed.value->service == each.service);
        CHECK(parsed.value->is_v6_literal == each.is_v6_literal);
    }
}

TEST_CASE("a malformed address is quoted together with the rule it breaks", "[address]")
{
    const std::string forms = "no port; an address is \"host:port\", \":port\" or \"[v6]:port\"";
    const std::string port = "a port is a number from 0 to 65535";
    const std::string missing = "the port is missing";
    const std::string brackets = "an IPv6 address stands in brackets";
    const std::string v6 = "brackets enclose an IPv6 address";
    const std::string v4 = "an IPv4 address is four numbers from 0 to 255";
    const std::string name = "a host name is labels of 1 to 63";
    const std::vector<std::pair<std::string, std::string>> table = {
        {"", forms},
        {"x", forms},
        {"1.2.3.4", forms},
        {"[::1]", forms},
        {":", missing},
        {"localhost:", missing},
        {"[::1]:", missing},
        {":65536", port},
        {":99999", port},
        {":18446744073709551696", port},
        {":-1", port},
        {":+1", port},
        {":http-", port},
        {":HTTP", port},
        {": 80", port},
        {":80 ", port},
        {":8\0"s, port},
        {"[::1", "the '[' is not closed"},
        {"[::1]80", "after the ']' comes ':'"},
        {"[]:80", v6},
        {"[localhost]:80", v6},
        {"[1.2.3.4]:80", v6},
        {"[::1:80", "the '[' is not closed"},
        {"x[::1]:80", "brackets enclose the whole host"},
        {"a:b:c", brackets},
        {"::1", brackets},
        {"::1:80", brackets},
        {"256.1.1.1:80", v4},
        {"1.2.3:80", v4},
        {"80:80", v4},
        {"local host:80", name},
        {"local\0host:80"s, name},
        {"a..b:80", name},
        {".a:80", name},
        {"a..:80", name},
        {".:80", "a dot alone"},
        {"caf\xc3\xa9:80", name},
        {std::string(64, 'a') + ":80", name},
        {std::string(1000, 'a') + ":80", "a host name has at most 253 bytes"},
    };
    for (const auto& [text, rule] : table) {
        const auto parsed = parse_address(text);
        INFO(quote(text) << " gives " << parsed.problem);
        CHECK_FALSE(parsed.value);
        CHECK(parsed.problem.starts_with(quote(text) + ": "));
        CHECK(parsed.problem.find(rule) != std::string::npos);
    }
}

TEST_CASE("behind unix: comes a path, or @ and an abstract name", "[address][unix]")
{
    using fairlead::endpoint;
    const std::string longest(fairlead::detail::longest_unix_path - 1, 'a');
    const std::vector<std::pair<std::string, endpoint>> table = {
        {"unix:/run/app.sock", endpoint::of_unix("/run/app.sock")},
        {"unix:/a", endpoint::of_unix("/a")},
        {"unix:/with space:80", endpoint::of_unix("/with space:80")},
        {"unix:/" + longest, endpoint::of_unix("/" + longest)},
#if defined(__linux__)
        {"unix:@app", endpoint::of_unix("\0app"s)},
        {"unix:@/a", endpoint::of_unix("\0/a"s)},
        {"unix:@a" + longest, endpoint::of_unix("\0a"s + longest)},
#endif
    };
    for (const auto& [text, expected] : table) {
        INFO(text);
        const auto parsed = parse_address(text);
        CHECK(parsed.problem.empty());
        CHECK_FALSE(parsed.value);
        REQUIRE(parsed.unix_socket);
        CHECK(*parsed.unix_socket == expected);
        CHECK(parsed.unix_socket->to_string() == text);
    }
    CHECK(parse_address("unix.:80").value); // a host may have that name
    CHECK_FALSE(parse_address("unix.:80").unix_socket);
}

TEST_CASE("what is no path of a Unix socket is quoted with the rule it breaks", "[address][unix]")
{
    const std::string absolute = "behind \"unix:\" comes an absolute path";
    const std::string zero = "a Unix socket's path has no zero byte";
    const std::size_t most = fairlead::detail::longest_unix_path;
    const std::string at_most =
        "has at most " + std::to_string(most) + " bytes, this one has " + std::to_string(most + 1);
    const std::vector<std::pair<std::string, std::string>> table = {
        {"unix:", absolute},
        {"unix:80", absolute},
        {"unix:run/app.sock", absolute},
        {"unix:./app.sock", absolute},
        {"unix:/run/app\0.sock"s, zero},
        {"unix:/\0"s, zero},
        {"unix:/run/", "the path is that of a directory"},
        {"unix:/", "the path is that of a directory"},
        {"unix:/" + std::string(most, 'a'), "a Unix socket's path " + at_most},
#if defined(__linux__)
        {"unix:@", "the name behind the '@' is missing"},
        {"unix:@a\0"s, zero},
        {"unix:@" + std::string(most + 1, 'a'), "a Unix socket's name " + at_most},
#endif
    };
    for (const auto& [text, rule] : table) {
        const auto parsed = parse_address(text);
        INFO(quote(text) << " gives " << parsed.problem);
        CHECK_FALSE(parsed.value);
        CHECK_FALSE(parsed.unix_socket);
        CHECK(parsed.problem.starts_with(quote(text) + ": "));
        CHECK(parsed.problem.find(rule) != std::string::npos);
    }
}

TEST_CASE("a host name of 253 bytes is the longest", "[address]")
{
    const std::string label = std::string(61, 'a') + '.';
    const std::string longest = label + label + label + label + "12345";
    REQUIRE(longest.size() == 253);
    CHECK(parse_address(longest + ":80").value);
    CHECK(parse_address(longest + ".:80").value);
    CHECK_FALSE(parse_address(longest + "6:80").value);
}

TEST_CASE("a quoted text is one printable line of bounded length", "[address]")
{
    CHECK(quote("") == "\"\"");
    CHECK(quote("plain ~ text") == "\"plain ~ text\"");
    CHECK(quote("a\0b\n\x7f\xff"s) == R"("a\x00b\x0a\x7f\xff")");
    CHECK(quote("\"\\") == R"("\"\\")");
    CHECK(quote(std::string(64, 'a')) == '"' + std::string(64, 'a') + '"');
    CHECK(quote(std::string(65, 'a')) == '"' + std::string(64, 'a') + "...\" (65 bytes)");
    CHECK(quote(std::string(1000, '\0')).size() < 300);
}

TEST_CASE("IPv4 addresses are four numbers without leading zeros", "[address]")
{
    for (const std::string_view good : {"0.0.0.0", "127.0.0.1", "255.255.255.255", "10.20.30.4"}) {
        INFO(good);
        CHECK(is_ipv4_address(good));
    }
    for (const std::string_view bad :
         {"", ".", "1", "1.2.3", "1.2.3.", "1.2.3.4.", "1.2.3.4.5", "1..2.3", "256.0.0.1",
          "1.2.3.256", "01.2.3.4", "1.2.3.00", "1.2.3.x", "1.2.3.4 ", "1000.1.1.1"}) {
        INFO(bad);
        CHECK_FALSE(is_ipv4_address(bad));
    }
}

TEST_CASE("IPv6 addresses have eight groups, or fewer and one gap", "[address]")
{
    for (const std::string_view good :
         {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "2001:db8::ABCD", "1:2:3:4:5:6:7::",
          "::2:3:4:5:6:7:8", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "fe80::1%eth0", "fe80::1%1"}) {
        INFO(good);
        CHECK(is_ipv6_address(good));
    }
    for (const std::string_view bad :
         {"",
          ":",
          ":::",
          "1",
          "1:",
          ":1",
          "1:2:3:4:5:6:7",
          "1:2:3:4:5:6:7:8:9",
          "1::2::3",
          "1:2:3:4:5:6:7:8::",
          "::1:2:3:4:5:6:7:8",
          "12345::",
          "g::",
          "::1.2.3",
          "1.2.3.4::",
          "1:2:3:4:5:6:7:1.2.3.4",
          "::1%",
          "::1%a b",
          "1.2.3.4",
          ":1:2:3:4:5:6:7",
          "1:2:3:4:5:6:7:"}) {
        INFO(bad);
        CHECK_FALSE(is_ipv6_address(bad));
    }
}

#if __has_include(<sys/resource.h>)
namespace
{
/// Sets the soft limit of descriptors and restores it.
class descriptor_limit
{
public:
    descriptor_limit()
    {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &saved_) == 0);
    }

    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;

    ~descriptor_limit()
    {
        ::setrlimit(RLIMIT_NOFILE, &saved_);
    }

    /// False when the hard limit is lower.
    bool set(::rlim_t soft)
    {
        ::rlimit changed = saved_;
        changed.rlim_cur = soft;
        return ::setrlimit(RLIMIT_NOFILE, &changed) == 0;
    }

private:
    ::rlimit saved_{};
};
} // namespace

// What is checked is checked after the limit is lifted: a sanitizer that looks at an object's type needs
// a descriptor for it.
TEST_CASE("by default half of the descriptors may be connections", "[address][config]")
{
    std::size_t even = 0;
    std::size_t odd = 0;
    {
        descriptor_limit limit;
        REQUIRE(limit.set(200));
        even = default_max_connections();
        REQUIRE(limit.set(201));
        odd = default_max_connections();
    }
    CHECK(even == 100);
    CHECK(odd == 100);
}

TEST_CASE("a process almost without descriptors is not left without a limit", "[address][config]")
{
    bool limited = false;
    std::size_t with_one = 0;
    std::size_t with_none = 0;
    {
        descriptor_limit limit;
        limited = limit.set(1);
        with_one = default_max_connections();
        limited = limit.set(0) && limited;
        with_none = default_max_connections();
    }
    REQUIRE(limited);
    CHECK(with_one == 1);
    CHECK(with_none == 1);
}

TEST_CASE("more descriptors than anybody needs give 100 000 connections", "[address][config]")
{
    descriptor_limit limit;
    if (limit.set(200'002)) {
        CHECK(default_max_connections() == 100'000);
    }
    if (limit.set(RLIM_INFINITY)) {
        CHECK(default_max_connections() == 100'000);
    }
    CHECK(default_max_connections() <= 100'000);
}
#endif
