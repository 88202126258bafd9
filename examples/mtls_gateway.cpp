// Shows: a secure gateway: mutual TLS, where the verified certificate says who the client is, and
//        that decides which backend it gets; ALPN decides which protocol.
// Run:   mtls_gateway ADDRESS CERTIFICATE.pem KEY.pem CLIENT_CA.pem IDENTITY=HOST:PORT...
//        mtls_gateway :7443 gateway.pem gateway.key clients.pem alice=127.0.0.1:8001
// Poke:  curl --cacert gateway.pem --cert alice.pem --key alice.key https://localhost:7443/
//        openssl s_client -connect localhost:7443 -cert alice.pem -key alice.key -alpn whoami/1
//
// An identity is a DNS name or URI of the certificate's alternative names; without any, its common
// name. "http/1.1", or no ALPN at all, is carried to the backend as it is; "whoami/1" is a line of
// text in which the gateway says what it knows.

#include "print_events.hpp"
#include "relay.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using asio::ip::tcp;

/// Which backend an identity gets.
using route_table = std::map<std::string, tcp::endpoint, std::less<>>;

/// The common name in a subject like "CN=alice,O=Example" (RFC 2253). Empty: there is none, there
/// are two, or it has characters that are escaped there: such a name is nobody's.
std::string common_name(std::string_view subject)
{
    std::string found;
    while (!subject.empty()) {
        const auto end = std::min(subject.find_first_of(",+\\"), subject.size());
        if (end < subject.size() && subject[end] == '\\') {
            return {};
        }
        if (subject.starts_with("CN=")) {
            if (!found.empty()) {
                return {};
            }
            found = subject.substr(3, end - 3);
        }
        subject.remove_prefix(std::min(end + 1, subject.size()));
    }
    return found;
}

/// All names that the certificate proves.
std::vector<std::string> identities(const fairlead::tls_peer_certificate& peer)
{
    std::vector<std::string> names = peer.uris;
    names.insert(names.end(), peer.dns_names.begin(), peer.dns_names.end());
    if (names.empty() && peer.emails.empty() && peer.ip_addresses.empty()) {
        names.push_back(common_name(peer.subject));
    }
    return names;
}

route_table::const_iterator find_route(
    const route_table& routes, const fairlead::tls_peer_certificate& peer)
{
    for (const std::string& name : identities(peer)) {
        if (const auto found = routes.find(name); found != routes.end()) {
            return found;
        }
    }
    return routes.end();
}

/// "alice=127.0.0.1:8001". Throws `std::invalid_argument`, or `std::system_error` when there is no
/// such host.
void add_route(route_table& routes, std::string_view text)
{
    const auto equals = text.rfind('=');
    const auto colon = text.rfind(':');
    if (equals == 0 || equals == text.npos || colon == text.npos || colon < equals + 2) {
        throw std::invalid_argument(
            "'" + std::string(text) + "' is no route: IDENTITY=HOST:PORT is expected");
    }
    std::string_view host = text.substr(equals + 1, colon - equals - 1);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
    }
    asio::io_context context;
    tcp::resolver resolver(context);
    const auto found = resolver.resolve(host, text.substr(colon + 1));
    const std::string identity(text.substr(0, equals));
    if (!routes.emplace(identity, found.begin()->endpoint()).second) {
        throw std::invalid_argument("there are two routes for '" + identity + "'");
    }
}

/// A whole HTTP response of the gateway's own, after which it closes.
asio::awaitable<void> refuse(fairlead::connection& conn, std::string_view status)
{
    std::ostringstream text;
    text << "HTTP/1.1 " << status
         << "\r\nContent-Type: text/plain\r\nContent-Length: " << status.size() + 1
         << "\r\nConnection: close\r\n\r\n"
         << status << '\n';
    const std::string response = text.str();
    co_await conn.write(asio::buffer(response));
}

asio::awaitable<void> say_who(
    fairlead::connection& conn, const route_table& routes, route_table::const_iterator route)
{
    std::ostringstream text;
    text << "subject \"" << conn.tls()->peer->subject << "\", identity ";
    if (route != routes.end()) {
        text << '"' << route->first << "\", backend " << route->second << '\n';
    } else {
        text << "unknown, no backend\n";
    }
    const std::string line = text.str();
    co_await conn.write(asio::buffer(line));
}

class gateway
{
public:
    explicit gateway(route_table routes) : routes_(std::move(routes))
    {}

    asio::awaitable<void> operator()(fairlead::connection& conn) const
    {
        // Verified: `require_and_verify` lets nobody else in.
        const auto route = find_route(routes_, conn.tls()->peer.value());
        if (conn.tls()->alpn == "whoami/1") {
            co_await say_who(conn, routes_, route);
            co_return;
        }
        if (route == routes_.end()) {
            co_await refuse(conn, "403 Forbidden");
            co_return;
        }
        example::shared_socket backend;
        try {
            backend = co_await example::connect(route->second, 5s);
        } catch (const std::system_error& failure) {
            std::ostringstream line;
            line << "connection " << conn.id() << ": no backend for " << route->first << " at "
                 << route->second << ": " << failure.what();
            example::print_line(line);
        }
        if (!backend) {
            co_await refuse(conn, "502 Bad Gateway");
            co_return;
        }
        example::relay relay(conn, backend);
        co_await relay.run();
    }

private:
    route_table routes_;
};

int main(int argc, char** argv)
{
    if (argc < 6) {
        std::fprintf(
            stderr, "usage: mtls_gateway ADDRESS CERTIFICATE.pem KEY.pem CLIENT_CA.pem "
                    "IDENTITY=HOST:PORT...\n");
        return 2;
    }
    try {
        route_table routes;
        for (int i = 5; i < argc; ++i) {
            add_route(routes, argv[i]);
        }
        const auto report = fairlead::serve(
            gateway(std::move(routes)),
            {.address = argv[1],
             .drain_timeout = 10s,
             .tls =
                 fairlead::tls_config{
                     .certificate = argv[2],
                     .private_key = argv[3],
                     .client_ca = argv[4],
                     .client_auth = fairlead::client_auth::require_and_verify,
                     .alpn = {"http/1.1", "whoami/1"}}},
            {.hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mtls_gateway: %s\n", error.what());
        return 1;
    }
}
