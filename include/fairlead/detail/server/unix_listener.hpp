// fairlead: from the path of a Unix socket, or an abstract name, to a bound, listening descriptor.

#ifndef FAIRLEAD_DETAIL_SERVER_UNIX_LISTENER_HPP
#define FAIRLEAD_DETAIL_SERVER_UNIX_LISTENER_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/io/socket_address.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/listener.hpp>
#include <fairlead/detail/server/socket_file.hpp>
#include <fairlead/detail/server/socket_permissions.hpp>

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Of two servers that start at one moment on one stale file, or on none, the second must not take
/// what the first has bound, and does not listen on yet, for another stale one. A lock of the
/// directory keeps them apart, without a file of its own. It is advice: who holds it for long, or a
/// directory that cannot be locked, does not keep anybody from starting.
class directory_lock
{
public:
    explicit directory_lock(const std::string& path) noexcept
    {
        constexpr int attempts = 200;
        try {
            const std::string directory = path.substr(0, path.rfind('/') + 1); // empty: none
            held_.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        } catch (...) { // no memory
        }
        for (int attempt = 0; held_ && ::flock(held_.get(), LOCK_EX | LOCK_NB) != 0; ++attempt) {
            if ((errno != EWOULDBLOCK && errno != EINTR) || attempt == attempts) {
                return;
            }
            ::poll(nullptr, 0, 5); // milliseconds
        }
    }

private:
    native::descriptor held_; // closing it gives the lock back
};

/// What connect(2) says to somebody who would be a client: nothing, or EAGAIN (the queue is full),
/// or another protocol than ours, where somebody listens; ECONNREFUSED where nobody does.
inline std::error_code try_to_connect(const endpoint& where) noexcept
{
    const native::descriptor client(::socket(AF_UNIX, SOCK_STREAM, 0));
    if (!client) {
        return native::last_error();
    }
    native::set_flags(client.get());
    const socket_address target(where);
    return ::connect(client.get(), target.data(), target.size()) != 0 ? native::last_error()
                                                                      : std::error_code();
}

/// Removes a socket's file on which nobody listens. What cannot be told to be that stays, and `why`
/// and the error say what it is.
inline std::error_code remove_stale(
    const endpoint& where, const std::string& path, std::string& why)
{
    const auto in_use = std::make_error_code(std::errc::address_in_use);
    std::error_code error;
    const file_identity before = identify(path, error);
    if (error == std::errc::no_such_file_or_directory) {
        return {};
    }
    if (error) {
        why = "what is there cannot be looked at";
        return error;
    }
    if (!before.is_socket) {
        why = "a file that is no socket is there";
        return in_use;
    }
    const std::error_code answer = try_to_connect(where);
    if (answer == std::errc::no_such_file_or_directory) {
        return {};
    }
    if (answer != std::errc::connection_refused) {
        const bool is_known = !answer || answer == std::errc::resource_unavailable_try_again ||
                              answer == std::errc::wrong_protocol_type;
        why = is_known ? std::string("somebody listens there")
                       : "whether somebody listens there cannot be told: " + answer.message();
        return in_use;
    }
    if (!(identify(path, error) == before) || error) {
        why = "somebody else is replacing what is there";
        return in_use;
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        error = native::last_error();
        why = "a file that nobody listens on is there, and cannot be removed";
    }
    return error;
}

/// Binds `socket`, in the place of a stale file if there is one.
inline std::error_code bind_unix(int socket, const endpoint& where, std::string& why)
{
    const socket_address address(where);
    const auto bind = [&] {
        return ::bind(socket, address.data(), address.size()) != 0 ? native::last_error()
                                                                   : std::error_code();
    };
    std::error_code error = bind();
    const bool has_file = !where.path().starts_with('\0');
    if (error == std::errc::address_in_use && has_file) {
        error = remove_stale(where, std::string(where.path()), why);
        return error ? error : bind();
    }
    return error;
}

/// Throws `std::system_error` with the kernel's code, and says why; nothing is left then.
inline listener listen_on_unix(const endpoint& where, const server_config& config)
{
    const auto refuse = [&config](const std::error_code& error, const std::string& why) {
        throw std::system_error(
            error,
            "cannot listen on " + detail::quote(config.address) + (why.empty() ? "" : ": " + why));
    };
    const bool has_file = !where.path().starts_with('\0');
    const std::string path(where.path());
    std::string bound = path; // nothing may fail between the binding and who removes the file
    std::optional<socket_permissions> permissions;
    if (has_file) {
        permissions.emplace(config.unix_socket);
    }
    // Also while a file is removed because of what comes later: others would take it for stale.
    const directory_lock lock(has_file ? path : std::string());
    listener made{.socket = native::descriptor(::socket(AF_UNIX, SOCK_STREAM, 0)), .local = where};
    if (!made.socket) {
        refuse(native::last_error(), {});
    }
    native::set_flags(made.socket.get());
    if (permissions) {
        permissions->prepare(made.socket.get());
    }
    std::string why;
    if (const std::error_code error = bind_unix(made.socket.get(), where, why)) {
        refuse(error, why);
    }
    if (has_file) {
        std::error_code error;
        made.file = socket_file(std::move(bound), error);
        if (error) {
            refuse(error, "its file is gone");
        }
        permissions->give_to(path);
    }
    if (::listen(made.socket.get(), longest_queue(config)) != 0) {
        refuse(native::last_error(), {});
    }
    return made;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_UNIX_LISTENER_HPP
