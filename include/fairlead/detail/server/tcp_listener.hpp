// fairlead: from "host:port" to bound, listening descriptors.

#ifndef FAIRLEAD_DETAIL_SERVER_TCP_LISTENER_HPP
#define FAIRLEAD_DETAIL_SERVER_TCP_LISTENER_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/io/socket_options.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/listener.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <system_error>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The addresses that `address` stands for, each once. An empty host is every interface: IPv6 that
/// takes IPv4 as well, and IPv4 alone for machines without. Of a name with both, IPv4 comes first.
/// Throws `errc::invalid_address` when it does not resolve. Blocks while it asks the resolver.
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
            const auto endpoint = entry.endpoint();
            if (endpoint.address().is_v4() == v4 &&
                std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end()) {
                endpoints.push_back(endpoint);
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
    std::error_code& error, bool is_one_of_several = false)
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
    native::set_flags(fd);
    std::vector<refused_option> refused;
    const auto note = [&](const char* name, std::error_code why) {
        refused.push_back({name, why});
    };
    native::tune_listener(fd, config.socket, note);
    // Accepted sockets inherit these: set once here, they cost no call per connection.
    native::tune_connection(fd, config.socket, note);
    error.clear();
    if (endpoint.address().is_v6()) {
        error = native::set_option(
            fd, IPPROTO_IPV6, IPV6_V6ONLY, config.socket.v6_only || is_one_of_several ? 1 : 0);
    }
    if (!error && share_port) {
        error = native::share_port(fd);
    }
    if (!error && (::bind(fd, endpoint.data(), integer_cast<socklen_t>(endpoint.size())) != 0 ||
                   ::listen(fd, longest_queue(config)) != 0)) {
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
    return {.socket = std::move(socket), .local = local, .refused = std::move(refused)};
}

/// The kernel does not have the address's family, or has it switched off.
inline bool is_family_missing(
    const asio::ip::tcp::endpoint& endpoint, const std::error_code& error) noexcept
{
    return error == std::errc::address_family_not_supported ||
           (error == std::errc::address_not_available && endpoint.address().is_v6() &&
            endpoint.address().is_loopback());
}

[[noreturn]] inline void throw_cannot_listen(
    const std::error_code& error, const server_config& config,
    const asio::ip::tcp::endpoint& endpoint)
{
    std::string what = "cannot listen on " + detail::quote(config.address);
    if (parse_address(config.address).value->host != endpoint.address().to_string()) {
        what += " (" + endpoint.address().to_string() + ")";
    }
    throw std::system_error(error, what);
}

/// A socket on each of `endpoints`, those excepted whose family the machine does not have. Where
/// they leave the port open, the others get that of the first. Throws `std::system_error` with the
/// kernel's code for one that cannot be opened, which it names; nothing is open then.
inline std::vector<listener> listen_on_each(
    const std::vector<asio::ip::tcp::endpoint>& endpoints, const server_config& config,
    bool share_port)
{
    constexpr int attempts_at_a_free_port = 8;
    for (int attempt = 1;; ++attempt) {
        std::vector<listener> opened;
        std::error_code error;
        std::size_t skipped = 0;
        for (auto endpoint : endpoints) {
            const bool is_free_port = endpoint.port() == 0 && !opened.empty();
            if (is_free_port) {
                endpoint.port(opened.front().local.port());
            }
            listener made = listen_on(endpoint, config, share_port, error, endpoints.size() > 1);
            if (made.socket) {
                opened.push_back(std::move(made));
            } else if (is_family_missing(endpoint, error) && ++skipped < endpoints.size()) {
                continue;
            } else if (
                is_free_port && error == std::errc::address_in_use &&
                attempt < attempts_at_a_free_port) {
                opened.clear();
                break;
            } else {
                throw_cannot_listen(error, config, endpoint);
            }
        }
        if (!opened.empty()) {
            return opened;
        }
    }
}

/// Opens every address that the configuration's stands for; of an empty host the one socket that
/// takes both families, where there are both. Throws `std::system_error` as `listen_on_each`, and
/// `errc::invalid_address` when it does not resolve.
inline std::vector<listener> open_tcp_listeners(
    asio::io_context& context, const server_config& config)
{
    auto endpoints = resolve(context, config.address);
    const bool is_every_interface = parse_address(config.address).value->host.empty();
    if (is_every_interface) {
        std::error_code error;
        std::vector<listener> dual;
        dual.push_back(listen_on(endpoints.front(), config, config.socket.reuse_port, error));
        if (dual.front().socket) {
            return dual;
        }
        // Another address family would only hide these.
        if (error == std::errc::address_in_use || error == std::errc::permission_denied) {
            throw_cannot_listen(error, config, endpoints.front());
        }
        endpoints.erase(endpoints.begin());
    }
    return listen_on_each(endpoints, config, config.socket.reuse_port);
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_TCP_LISTENER_HPP
