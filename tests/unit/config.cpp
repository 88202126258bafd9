// The defaults of server_config and every rule of check().

#include "tests/support/catch.hpp"
#include <fairlead/config.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace fairlead;

namespace
{
using milliseconds = std::chrono::milliseconds;

server_config with_tls()
{
    server_config config;
    config.tls = tls_config{.certificate = "server.pem", .private_key = "server.key"};
    return config;
}

/// One change to a sound configuration, and the one message it must cause; empty: none.
struct change
{
    std::function<void(server_config&)> apply;
    std::string message;
    errc code = errc::invalid_config;
};

void check_each(const server_config& sound, const std::vector<change>& changes)
{
    REQUIRE(check(sound).empty());
    for (const change& each : changes) {
        server_config config = sound;
        each.apply(config);
        const auto problems = check(config);
        INFO("expected: " << each.message);
        INFO("found: " << (problems.empty() ? "nothing" : problems.front().message));
        REQUIRE(problems.size() == (each.message.empty() ? 0 : 1));
        if (!problems.empty()) {
            CHECK(problems.front().message == each.message);
            CHECK(problems.front().code == each.code);
        }
    }
}

change tls_change(std::function<void(tls_config&)> apply, std::string message)
{
    return {
        [apply](server_config& config) { apply(*config.tls); }, std::move(message),
        errc::invalid_tls_config};
}
} // namespace

TEST_CASE("the defaults are those that the documentation promises", "[config]")
{
    const server_config config;
    CHECK(check(config).empty());
    CHECK(config.address == ":0");
    CHECK(config.backlog == 4096);
    CHECK(config.accepts_per_wakeup == 16);
    CHECK(config.max_connections == detail::default_max_connections());
    CHECK(config.at_limit == limit_policy::pause);
    CHECK(config.max_handshakes == 256);
    CHECK(config.pre_open_timeout == 10s);
    CHECK(config.idle_timeout == 5min);
    CHECK(config.write_timeout == 30s);
    CHECK(config.max_lifetime == 0s);
    CHECK(config.tls_close_timeout == 3s);
    CHECK(config.linger == 3s);
    CHECK(config.drain_timeout == 30s);
    CHECK_FALSE(config.io_events);
    CHECK(config.unix_socket.mode == 0600);
    CHECK(config.unix_socket.owner.empty());
    CHECK(config.unix_socket.group.empty());
    CHECK_FALSE(config.tls);

    const socket_config& socket = config.socket;
    CHECK(socket.no_delay);
    CHECK(socket.keep_alive);
    CHECK(socket.keep_alive_idle == 60s);
    CHECK(socket.keep_alive_interval == 15s);
    CHECK(socket.keep_alive_count == 4);
    CHECK(socket.user_timeout == 30s);
    CHECK(socket.receive_buffer == 0);
    CHECK(socket.send_buffer == 0);
    CHECK(socket.fast_open == 0);
    CHECK(socket.defer_accept == 0s);
    CHECK_FALSE(socket.reuse_port);
    CHECK_FALSE(socket.v6_only);
    CHECK_FALSE(socket.mptcp);

    const tls_config tls;
    CHECK(tls.min_version == tls_version::tls_1_2);
    CHECK(tls.max_version == tls_version::tls_1_3);
    CHECK(tls.client_auth == client_auth::none);
    CHECK(tls.session_tickets);
    CHECK(tls.session_lifetime == 2h);
    CHECK_FALSE(tls.strict_sni);
}

TEST_CASE("a malformed address is a problem of its own code", "[config]")
{
    check_each(
        {}, {{[](auto& config) { config.address = ":99999"; },
              "address is \":99999\": a port is a number from 0 to 65535", errc::invalid_address},
             {[](auto& config) { config.address = "localhost:http"; }, ""}});
}

TEST_CASE("numbers outside their range are refused and its ends are not", "[config]")
{
    check_each(
        {}, {{[](auto& config) { config.backlog = -1; },
              "backlog is -1: it must be from 0 to 2147483647"},
             {[](auto& config) { config.backlog = 0; }, ""},
             {[](auto& config) { config.accepts_per_wakeup = 0; },
              "accepts_per_wakeup is 0: it must be from 1 to 1024"},
             {[](auto& config) { config.accepts_per_wakeup = 1; }, ""},
             {[](auto& config) { config.accepts_per_wakeup = 1024; }, ""},
             {[](auto& config) { config.accepts_per_wakeup = 1025; },
              "accepts_per_wakeup is 1025: it must be from 1 to 1024"},
             {[](auto& config) { config.max_connections = 0; }, ""},
             {[](auto& config) { config.max_handshakes = 0; }, ""}});
}

TEST_CASE("socket options outside what the kernel takes are refused", "[config]")
{
    check_each(
        {}, {{[](auto& config) { config.socket.keep_alive_idle = -1s; },
              "socket.keep_alive_idle is -1 s: it must be from 0 s to 32767 s"},
             {[](auto& config) { config.socket.keep_alive_idle = 32767s; }, ""},
             {[](auto& config) { config.socket.keep_alive_idle = 32768s; },
              "socket.keep_alive_idle is 32768 s: it must be from 0 s to 32767 s"},
             {[](auto& config) { config.socket.keep_alive_interval = 32768s; },
              "socket.keep_alive_interval is 32768 s: it must be from 0 s to 32767 s"},
             {[](auto& config) { config.socket.keep_alive_interval = 0s; }, ""},
             {[](auto& config) { config.socket.keep_alive_count = 128; },
              "socket.keep_alive_count is 128: it must be from 0 to 127"},
             {[](auto& config) { config.socket.keep_alive_count = -1; },
              "socket.keep_alive_count is -1: it must be from 0 to 127"},
             {[](auto& config) { config.socket.keep_alive_count = 127; }, ""},
             {[](auto& config) { config.socket.user_timeout = -1ms; },
              "socket.user_timeout is -1 ms: it must be from 0 ms to 2147483647 ms"},
             {[](auto& config) { config.socket.user_timeout = 2147483647ms; }, ""},
             {[](auto& config) { config.socket.user_timeout = 2147483648ms; },
              "socket.user_timeout is 2147483648 ms: it must be from 0 ms to 2147483647 ms"},
             {[](auto& config) { config.socket.receive_buffer = -1; },
              "socket.receive_buffer is -1: it must be from 0 to 2147483647"},
             {[](auto& config) { config.socket.send_buffer = -1; },
              "socket.send_buffer is -1: it must be from 0 to 2147483647"},
             {[](auto& config) { config.socket.fast_open = -1; },
              "socket.fast_open is -1: it must be from 0 to 2147483647"},
             {[](auto& config) { config.socket.defer_accept = -1s; },
              "socket.defer_accept is -1 s: it must be from 0 s to 32767 s"}});
}

TEST_CASE("a Unix socket's mode is permission bits, and its owner a name", "[config][unix]")
{
    const std::string range =
        ": it must be from 0 to 0777 (read and write for owner, group and others: 0666)";
    check_each(
        {.address = "unix:/run/app.sock"},
        {{[](server_config& config) { config.unix_socket.mode = 0; }, ""},
         {[](server_config& config) { config.unix_socket.mode = 0777; }, ""},
         {[](server_config& config) { config.unix_socket.mode = 01000; },
          "unix_socket.mode is 01000" + range},
         {[](server_config& config) { config.unix_socket.mode = 600; }, // decimal, by mistake
          "unix_socket.mode is 01130" + range},
         {[](server_config& config) { config.unix_socket.mode = -1; },
          "unix_socket.mode is -1" + range},
         {[](server_config& config) { config.unix_socket.owner = "www-data"; }, ""},
         {[](server_config& config) { config.unix_socket.owner = std::string("a\0b", 3); },
          R"(unix_socket.owner is "a\x00b": a name or a number has no zero byte)"},
         {[](server_config& config) { config.unix_socket.group = std::string("\0", 1); },
          R"(unix_socket.group is "\x00": a name or a number has no zero byte)"},
         {[](server_config& config) { config.address = "unix:app.sock"; },
          "address is \"unix:app.sock\": behind \"unix:\" comes an absolute path, or '@' and an "
          "abstract name",
          errc::invalid_address}});
}

TEST_CASE("no duration is negative, and no duration overflows the clock", "[config]")
{
    struct named
    {
        std::string name;
        milliseconds server_config::*member;
        std::string zero;
    };
    const std::vector<named> members = {
        {"pre_open_timeout", &server_config::pre_open_timeout, "0 turns it off"},
        {"idle_timeout", &server_config::idle_timeout, "0 turns it off"},
        {"write_timeout", &server_config::write_timeout, "0 turns it off"},
        {"max_lifetime", &server_config::max_lifetime, "0 turns it off"},
        {"tls_close_timeout", &server_config::tls_close_timeout, "0 does not wait"},
        {"linger", &server_config::linger, "0 does not wait"},
        {"drain_timeout", &server_config::drain_timeout, "0 waits until all are done"},
    };
    const milliseconds century = std::chrono::years(100);
    const std::string too_long = std::to_string(century.count() + 1);
    const std::string longest = std::to_string(milliseconds::max().count());
    const std::string shortest = std::to_string(milliseconds::min().count());
    for (const auto& [name, member, zero] : members) {
        const auto set = [to = member](milliseconds value) {
            return [to, value](server_config& config) { config.*to = value; };
        };
        const std::string negative = " ms: a duration must not be negative (" + zero + ")";
        const std::string exceeds = " ms: a duration must not exceed 100 years (" + zero + ")";
        check_each(
            {}, {{set(0ms), ""},
                 {set(1ms), ""},
                 {set(century), ""},
                 {set(-1ms), name + " is -1" + negative},
                 {set(milliseconds::min()), name + " is " + shortest + negative},
                 {set(century + 1ms), name + " is " + too_long + exceeds},
                 {set(milliseconds::max()), name + " is " + longest + exceeds}});
    }
    // What the limit is for.
    CHECK(std::chrono::steady_clock::now() + century > std::chrono::steady_clock::now());
}

TEST_CASE("a number that is no enumerator is refused", "[config]")
{
    check_each(
        with_tls(),
        {{[](auto& config) { config.at_limit = static_cast<limit_policy>(3); },
          "at_limit is 3: it is none of the enumerators, which are 0 to 2"},
         {[](auto& config) { config.at_limit = limit_policy::evict_idle; }, ""},
         {[](auto& config) { config.at_limit = static_cast<limit_policy>(-1); },
          "at_limit is -1: it is none of the enumerators, which are 0 to 2"},
         tls_change(
             [](auto& tls) { tls.client_auth = static_cast<client_auth>(5); },
             "tls.client_auth is 5: it is none of the enumerators, which are 0 to 4"),
         tls_change(
             [](auto& tls) { tls.min_version = static_cast<tls_version>(2); },
             "tls.min_version is 2: it is none of the enumerators, which are 0 to 1"),
         tls_change(
             [](auto& tls) { tls.max_version = static_cast<tls_version>(-1); },
             "tls.max_version is -1: it is none of the enumerators, which are 0 to 1")});
}

TEST_CASE("TLS needs a certificate and a private key", "[config][tls]")
{
    const std::string required = " is \"\": a path or PEM text is required";
    const std::string zero_byte = " contains a zero byte: neither a path nor PEM text can";
    check_each(
        with_tls(),
        {tls_change([](auto& tls) { tls.certificate = ""; }, "tls.certificate" + required),
         tls_change([](auto& tls) { tls.private_key = ""; }, "tls.private_key" + required),
         tls_change(
             [](auto& tls) { tls.certificate.push_back('\0'); }, "tls.certificate" + zero_byte)});
}

TEST_CASE("TLS versions are a range", "[config][tls]")
{
    check_each(
        with_tls(),
        {tls_change([](auto& tls) { tls.min_version = tls_version::tls_1_3; }, ""),
         tls_change([](auto& tls) { tls.max_version = tls_version::tls_1_2; }, ""),
         tls_change(
             [](auto& tls) {
                 tls.min_version = tls_version::tls_1_3;
                 tls.max_version = tls_version::tls_1_2;
             },
             "tls.min_version is tls_1_3: it must not be above max_version, which is tls_1_2")});
}

TEST_CASE("client certificates are verified against something", "[config][tls]")
{
    const auto set = [](client_auth auth, std::string ca) {
        return [auth, ca](tls_config& tls) {
            tls.client_auth = auth;
            tls.client_ca = ca;
        };
    };
    const std::string needs = " needs the authorities to verify against";
    check_each(
        with_tls(), {tls_change(set(client_auth::request, ""), ""),
                     tls_change(set(client_auth::require, ""), ""),
                     tls_change(set(client_auth::verify_if_given, "ca.pem"), ""),
                     tls_change(set(client_auth::require_and_verify, "ca.pem"), ""),
                     tls_change(
                         set(client_auth::verify_if_given, ""),
                         "tls.client_ca is \"\": client_auth verify_if_given" + needs),
                     tls_change(
                         set(client_auth::require_and_verify, ""),
                         "tls.client_ca is \"\": client_auth require_and_verify" + needs)});
}

TEST_CASE("authorities that nobody would be verified against are a problem", "[config][tls]")
{
    const auto set = [](client_auth auth) {
        return [auth](tls_config& tls) {
            tls.client_auth = auth;
            tls.client_ca = "-----BEGIN CERTIFICATE-----";
        };
    };
    check_each(
        with_tls(),
        {tls_change(set(client_auth::request), ""), tls_change(set(client_auth::require), ""),
         tls_change(
             set(client_auth::none),
             "tls.client_auth is none: client_ca names authorities, and no client would be asked "
             "for a certificate")});
}

TEST_CASE("an ALPN name has 1 to 255 bytes", "[config][tls]")
{
    const auto set = [](std::vector<std::string> names) {
        return [names](tls_config& tls) { tls.alpn = names; };
    };
    const std::string rule = ": a protocol's name has 1 to 255 bytes";
    check_each(
        with_tls(),
        {tls_change(set({"h2", "http/1.1", std::string(255, 'x')}), ""),
         tls_change(set({"h2", ""}), "tls.alpn[1] is \"\"" + rule),
         tls_change(
             set({std::string(256, 'x')}),
             "tls.alpn[0] is \"" + std::string(64, 'x') + "...\" (256 bytes)" + rule),
         tls_change(set(std::vector<std::string>(255, std::string(255, 'x'))), ""),
         tls_change(
             set(std::vector<std::string>(257, std::string(255, 'x'))),
             "tls.alpn is a list of 65792 bytes: it must fit into 65535, with one byte more for "
             "each name")});
}

TEST_CASE("SNI names are host names, wildcards only as a whole first label", "[config][tls]")
{
    const auto set = [](std::string name) {
        return [name](tls_config& tls) { tls.sni = {{name, "c.pem", "k.pem"}}; };
    };
    std::vector<change> changes;
    for (const std::string good : {"www.example.com", "*.example.com", "localhost", "*.a"}) {
        changes.push_back(tls_change(set(good), ""));
    }
    for (const std::string bad :
         {"", "*", "*.", "*.*.example.com", "w*.example.com", "www.*.com", "*example.com",
          "example.com.", "a..b", ".example.com", "ex ample.com"}) {
        changes.push_back(tls_change(
            set(bad), "tls.sni[0].name is \"" + bad +
                          "\": a server name is a host name, or \"*.\" before one"));
    }
    check_each(with_tls(), changes);
}

TEST_CASE("each SNI name has its own certificate and key", "[config][tls]")
{
    const auto set = [](std::vector<tls_server_name> names) {
        return [names](tls_config& tls) { tls.sni = names; };
    };
    check_each(
        with_tls(),
        {tls_change(set({{"a.example", "a.pem", "a.key"}, {"*.example", "b.pem", "b.key"}}), ""),
         tls_change(
             set({{"a.example", "a.pem", "a.key"}, {"b.example", "", "b.key"}}),
             "tls.sni[1].certificate is \"\": a path or PEM text is required"),
         tls_change(
             set({{"a.example", "a.pem", ""}}),
             "tls.sni[0].private_key is \"\": a path or PEM text is required"),
         tls_change(
             set({{"a.example", "a", "a"}, {"b.example", "b", "b"}, {"A.Example", "c", "c"}}),
             "tls.sni[2].name is \"A.Example\": the same name is in tls.sni[0], and case makes no "
             "difference")});
}

TEST_CASE("a session ticket lives up to seven days", "[config][tls]")
{
    const auto set = [](std::chrono::seconds lifetime) {
        return [lifetime](tls_config& tls) { tls.session_lifetime = lifetime; };
    };
    const std::string rule = " s: it must be from 0 s to 604800 s";
    check_each(
        with_tls(), {tls_change(set(0s), ""), tls_change(set(std::chrono::days(7)), ""),
                     tls_change(set(-1s), "tls.session_lifetime is -1" + rule),
                     tls_change(set(604801s), "tls.session_lifetime is 604801" + rule)});
}

TEST_CASE("every problem is found at once, the first one is thrown", "[config]")
{
    server_config config;
    config.address = "x";
    config.backlog = -5;
    config.idle_timeout = -1ms;
    config.socket.keep_alive_count = 1000;
    config.tls.emplace();
    const auto problems = check(config);
    REQUIRE(problems.size() == 6);

    const auto mentions = [&problems](std::string_view member) {
        return std::count_if(problems.begin(), problems.end(), [member](const auto& each) {
            return each.message.starts_with(std::string(member) + " is ");
        });
    };
    for (const std::string_view member :
         {"address", "backlog", "idle_timeout", "socket.keep_alive_count", "tls.certificate",
          "tls.private_key"}) {
        INFO(member);
        CHECK(mentions(member) == 1);
    }

    try {
        throw_first_problem(config);
        FAIL("nothing was thrown");
    } catch (const std::system_error& error) {
        CHECK(error.code() == problems.front().code);
        CHECK(error.code() == errc::invalid_address);
        CHECK(std::string_view(error.what()).find(problems.front().message) == 0);
    }
}

TEST_CASE("a sound configuration throws nothing", "[config]")
{
    CHECK_NOTHROW(throw_first_problem(server_config{}));
    CHECK_NOTHROW(throw_first_problem(with_tls()));
}
