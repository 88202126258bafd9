// fairlead: a listening socket that somebody else has made: a parent process, or systemd.

#ifndef FAIRLEAD_DETAIL_SERVER_ADOPTED_LISTENER_HPP
#define FAIRLEAD_DETAIL_SERVER_ADOPTED_LISTENER_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/io/socket_address.hpp>
#include <fairlead/detail/io/socket_options.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/listener.hpp>

#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Takes over a stream socket that listens, TCP or Unix. Throws `std::system_error` with a message
/// that names the descriptor and the rule; it is still the caller's then, and unchanged.
inline listener adopt(int fd, const server_config& config)
{
    const auto refuse = [fd](const std::error_code& error, const std::string& what) {
        throw std::system_error(
            error, "adopt_listener(" + std::to_string(fd) + "): " + what +
                       "; a TCP or Unix stream socket that listens can be adopted");
    };
    const auto option = [fd](int name, std::error_code& error) {
        int value = 0;
        socklen_t size = sizeof value;
        error = ::getsockopt(fd, SOL_SOCKET, name, &value, &size) != 0 ? native::last_error()
                                                                       : std::error_code();
        return value;
    };
    const auto invalid = std::make_error_code(std::errc::invalid_argument);
    std::error_code error;
    const int type = option(SO_TYPE, error);
    if (error) {
        refuse(
            error,
            error == std::errc::not_a_socket ? "it is no socket" : "it is no open descriptor");
    }
    if (type != SOCK_STREAM) {
        refuse(invalid, type == SOCK_DGRAM ? "it is a datagram socket" : "it is no stream socket");
    }
    socket_address bound;
    if (::getsockname(fd, bound.data(), &bound.size()) != 0) {
        refuse(native::last_error(), "its address is unknown");
    }
    if (bound.family() != AF_INET && bound.family() != AF_INET6 && bound.family() != AF_UNIX) {
        refuse(
            std::make_error_code(std::errc::address_family_not_supported),
            "its address family is " + std::to_string(bound.family()));
    }
    const int listens = option(SO_ACCEPTCONN, error);
    if (error || listens == 0) {
        refuse(error ? error : invalid, "it does not listen");
    }
    listener made{.socket = {}, .local = bound.to_endpoint()};
    if (made.local.is_ip()) {
        const auto note = [&](const char* name, std::error_code why) {
            made.refused.push_back({name, why});
        };
        native::tune_listener(fd, config.socket, note);
        native::tune_connection(fd, config.socket, note);
    }
    native::set_flags(fd);
    made.socket.reset(fd);
    return made;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ADOPTED_LISTENER_HPP
