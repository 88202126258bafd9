// fairlead: several shards that listen on one port, and nobody else on it.

#ifndef FAIRLEAD_DETAIL_SERVER_SHARED_PORT_HPP
#define FAIRLEAD_DETAIL_SERVER_SHARED_PORT_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>
#include <fairlead/detail/server/listener.hpp>
#include <fairlead/detail/server/tcp_listener.hpp>

#include <cstddef>
#include <system_error>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Opens `core_at(0)` ... `core_at(count - 1)` on the address of the first one's configuration; all
/// or none.
///
/// `SO_REUSEPORT` lets any process of the same user join, and take a share of the clients without a
/// word. So the address is bound alone first: when that fails, somebody has it. (With
/// `socket_config::reuse_port` sharing is what the user wants, and the look is left out.)
template <typename CoreAt>
void open_shared_port(std::size_t count, CoreAt core_at)
{
    constexpr int attempts_at_a_free_port = 8;
    server_core& first = core_at(0);
    for (int attempt = 1;; ++attempt) {
        const auto close_all = [&] {
            for (std::size_t index = 0; index < count; ++index) {
                if (core_at(index).is_listening()) {
                    core_at(index).close_everything();
                }
            }
        };
        try {
            std::vector<asio::ip::tcp::endpoint> endpoints;
            const auto share = [&] { return listen_on_each(endpoints, first.home.config, true); };
            first.open([&] {
                for (const auto& each : open_tcp_listeners(first.home.context, first.home.config)) {
                    endpoints.push_back(each.local);
                }
                return share();
            });
            for (std::size_t index = 1; index < count; ++index) {
                core_at(index).open(share);
            }
            return;
        } catch (const std::system_error& error) {
            close_all();
            // Between the look and the sharing somebody may take a port that was free.
            if (error.code() != std::errc::address_in_use || attempt == attempts_at_a_free_port ||
                resolve(first.home.context, first.home.config.address).front().port() != 0) {
                throw;
            }
        } catch (...) { // out of memory
            close_all();
            throw;
        }
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SHARED_PORT_HPP
