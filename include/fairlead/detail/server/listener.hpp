// fairlead: a listening socket as the server gets it, wherever it comes from: tcp_listener.hpp,
// unix_listener.hpp, adopted_listener.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_LISTENER_HPP
#define FAIRLEAD_DETAIL_SERVER_LISTENER_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/listen_queue.hpp>
#include <fairlead/detail/server/socket_file.hpp>
#include <fairlead/endpoint.hpp>

#include <string>
#include <sys/socket.h>
#include <system_error>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
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
    endpoint local;
    std::vector<refused_option> refused = {};
    /// Behind the socket, so that it goes first: a file whose server is gone looks stale to others.
    socket_file file = {};
};

/// What listen(2) is told.
inline int longest_queue(const server_config& config) noexcept
{
    return config.backlog == 0 ? SOMAXCONN : config.backlog;
}

/// In words, when the kernel allows a shorter listen queue than the configuration; else empty.
inline std::string why_queue_is_shorter(const server_config& config)
{
    const int longest = native::longest_backlog();
    if (longest == 0 || config.backlog <= longest) {
        return {};
    }
    return "the listen queue: backlog is " + std::to_string(config.backlog) +
           ", the kernel allows " + std::to_string(longest) + " (net.core.somaxconn)";
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_LISTENER_HPP
