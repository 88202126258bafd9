// fairlead: from "host:port" to a bound, listening descriptor.

#ifndef FAIRLEAD_DETAIL_LISTENER_HPP
#define FAIRLEAD_DETAIL_LISTENER_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/address.hpp>
#include <fairlead/detail/integer_cast.hpp>
#include <fairlead/detail/native.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>

#include <string>
#include <system_error>
#include <vector>

namespace fairlead::detail
{
/// An option that the kernel would not set.
struct refused_option
{
    const char* name;
    std::error_code error;
};

struct listener
{
    native::descriptor socket;
    asio::ip::tcp::endpoint local;
    std::vector<refused_option> refused = {};
};

/// The addresses that `address` stands for, in the order in which they are to be tried. An empty
/// host is every interface: IPv6 that takes IPv4 as well, else IPv4 alone. Of a name with both,
/// IPv4 comes first. Throws `errc::invalid_address` when it does not resolve. Blocks while it asks
/// the resolver.
inline std::vector<asio::ip::tcp::endpoint> resolve(
    asio::io_context& context, const std::string& address)
{
    const auto parsed = parse_address(address);
    if (!parsed.value) {
        throw std::system_error(make_error_code(errc::invalid_address), parsed.problem);
    }
    const std::string& host = parsed.value->host;
    using resolver_type = asio::ip::tcp::resolver;
    const auto flags = resolver_type::passive;
    resolver_type resolver(context);
    std::error_code error;
    const auto found =
        resolver.resolve(host.empty() ? "0.0.0.0" : host, parsed.value->service, flags, error);
    if (error || found.empty()) {
        throw std::system_error(
            make_error_code(errc::invalid_address),
            "address " + detail::quote(address) + " does not resolve: " + error.message());
    }
    std::vector<asio::ip::tcp::endpoint> endpoints;
    for (const bool v4 : {true, false}) {
        for (const auto& entry : found) {
            if (entry.endpoint().address().is_v4() == v4) {
                endpoints.push_back(entry.endpoint());
            }
        }
    }
    if (host.empty()) {
        endpoints.insert(
            endpoints.begin(), {asio::ip::address_v6::any(), endpoints.front().port()});
    }
    return endpoints;
}

/// One socket on one address; empty with an error. Throws when the kernel does not say what the
/// socket is bound to.
inline listener listen_on(
    const asio::ip::tcp::endpoint& endpoint, const server_config& config, bool share_port,
    std::error_code& error)
{
    const int family = endpoint.protocol().family();
    native::descriptor socket;
#if defined(IPPROTO_MPTCP)
    if (config.socket.mptcp) {
        socket.reset(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
    }
#endif
    if (!socket) {
        socket.reset(::socket(family, SOCK_STREAM, IPPROTO_TCP));
    }
    if (!socket) {
        error = native::last_error();
        return {};
    }
    const int fd = socket.get();
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    std::vector<refused_option> refused;
    const auto note = [&](const char* name, std::error_code why) {
        refused.push_back({name, why});
    };
    native::tune_listener(fd, config.socket, note);
    // Accepted sockets inherit these: set once here, they cost no call per connection.
    native::tune_connection(fd, config.socket, note);
    error.clear();
    if (endpoint.address().is_v6()) {
        error = native::set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, config.socket.v6_only ? 1 : 0);
    }
    if (!error && share_port) {
        error = native::share_port(fd);
    }
    const int backlog = config.backlog == 0 ? SOMAXCONN : config.backlog;
    if (!error && (::bind(fd, endpoint.data(), integer_cast<socklen_t>(endpoint.size())) != 0 ||
                   ::listen(fd, backlog) != 0)) {
        error = native::last_error();
    }
    if (error) {
        return {};
    }
    const auto local = native::local_endpoint(fd, error);
    if (error) {
        throw std::system_error(
            error, "cannot listen on " + detail::quote(config.address) + ": getsockname");
    }
    return {std::move(socket), local, std::move(refused)};
}

/// Opens the first address that can be opened. Throws `std::system_error` with the kernel's code
/// for the last one that could not.
inline listener open_listener(asio::io_context& context, const server_config& config)
{
    std::error_code error;
    for (const auto& endpoint : resolve(context, config.address)) {
        listener opened = listen_on(endpoint, config, config.socket.reuse_port, error);
        if (opened.socket) {
            return opened;
        }
        if (error == std::errc::address_in_use || error == std::errc::permission_denied) {
            break; // another address family would only hide it
        }
    }
    throw std::system_error(error, "cannot listen on " + detail::quote(config.address));
}
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_LISTENER_HPP
