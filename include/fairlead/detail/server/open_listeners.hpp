// fairlead: from an address as it is configured to the listening sockets that it stands for.

#ifndef FAIRLEAD_DETAIL_SERVER_OPEN_LISTENERS_HPP
#define FAIRLEAD_DETAIL_SERVER_OPEN_LISTENERS_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/listener.hpp>
#include <fairlead/detail/server/tcp_listener.hpp>
#include <fairlead/detail/server/unix_listener.hpp>

#include <asio/io_context.hpp>

#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// At least one. Throws `std::system_error`: `errc::invalid_address` when it does not resolve, else
/// the kernel's code. Blocks while it asks the resolver.
inline std::vector<listener> open_listeners(asio::io_context& context, const server_config& config)
{
    const auto parsed = parse_address(config.address);
    if (!parsed.unix_socket) {
        return open_tcp_listeners(context, config);
    }
    std::vector<listener> only;
    only.push_back(listen_on_unix(*parsed.unix_socket, config));
    return only;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_OPEN_LISTENERS_HPP
