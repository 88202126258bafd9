// fairlead: who may connect to a Unix socket: mode, owner and group of its file.

#ifndef FAIRLEAD_DETAIL_SERVER_SOCKET_PERMISSIONS_HPP
#define FAIRLEAD_DETAIL_SERVER_SOCKET_PERMISSIONS_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <type_traits>
#include <unistd.h>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The number that `text` is, or that `look_up(name, entry, buffer, size, found)` has for it, by
/// `number_of(entry)`. Empty: -1, which changes nothing. Throws `errc::invalid_config` when there is
/// no such name.
template <typename Entry, typename LookUp, typename NumberOf>
auto account_number(
    std::string_view member, const std::string& text, LookUp look_up, NumberOf number_of)
{
    using number_type = std::decay_t<decltype(number_of(Entry()))>;
    number_type number = static_cast<number_type>(-1);
    if (text.empty()) {
        return number;
    }
    const auto refuse = [&](const std::string& why) {
        throw std::system_error(
            make_error_code(errc::invalid_config),
            std::string(member) + " is " + detail::quote(text) + ": " + why);
    };
    if (std::all_of(text.begin(), text.end(), is_digit)) {
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
        if (parsed.ec != std::errc() || number == static_cast<number_type>(-1)) {
            refuse("the number is too large");
        }
        return number;
    }
    constexpr std::size_t longest = std::size_t(16) << 20;
    Entry entry = {};
    Entry* found = nullptr;
    int error = ERANGE; // the room is too small, which only an attempt tells
    for (std::size_t size = 4096; error == ERANGE && size <= longest; size *= 4) {
        std::vector<char> room(size);
        error = look_up(text.c_str(), &entry, room.data(), room.size(), &found);
    }
    if (found == nullptr) {
        const bool is_unknown = error == 0 || error == ENOENT || error == ESRCH;
        refuse(is_unknown ? "there is no such name" : std::system_category().message(error));
    }
    return number_of(entry);
}

/// Names looked up, which may take its time.
class socket_permissions
{
public:
    /// Throws `std::system_error` with `errc::invalid_config`.
    explicit socket_permissions(const unix_socket_config& config)
        : mode_(static_cast<::mode_t>(config.mode)),
          owner_(account_number<::passwd>(
              "unix_socket.owner", config.owner, &::getpwnam_r,
              [](const ::passwd& entry) { return entry.pw_uid; })),
          group_(account_number<::group>(
              "unix_socket.group", config.group, &::getgrnam_r,
              [](const ::group& entry) { return entry.gr_gid; }))
    {}

    /// Linux makes the file with the mode of its socket, less the umask; elsewhere this does nothing.
    void prepare(int socket) const noexcept
    {
        if (mode_ != 0) {
            static_cast<void>(::fchmod(socket, mode_));
        }
    }

    /// To a file that was bound and does not listen yet: until then nobody can connect, so whatever
    /// the umask has made of it for a moment does not count. (The umask itself is the whole
    /// process's, and not ours to change.) Throws `std::system_error`.
    void give_to(const std::string& path) const
    {
        // Neither follows a link that somebody has put in its place. The first may need /proc, which
        // a container may lack, and is left out where the mode is right.
        if (mode_ != 0 && mode_of(path) != mode_ &&
            ::fchmodat(AT_FDCWD, path.c_str(), mode_, AT_SYMLINK_NOFOLLOW) != 0) {
            refuse(native::last_error(), "cannot set the mode of ", path);
        }
        // Second: it may be somebody else's then, whose mode we must not set.
        const bool is_as_made =
            owner_ == static_cast<::uid_t>(-1) && group_ == static_cast<::gid_t>(-1);
        if (!is_as_made && ::lchown(path.c_str(), owner_, group_) != 0) {
            refuse(native::last_error(), "cannot set the owner and group of ", path);
        }
    }

private:
    static ::mode_t mode_of(const std::string& path) noexcept
    {
        struct ::stat found = {};
        ::lstat(path.c_str(), &found);
        return found.st_mode & static_cast<::mode_t>(07777);
    }

    [[noreturn]] static void refuse(
        const std::error_code& error, std::string what, const std::string& path)
    {
        throw std::system_error(error, what + detail::quote(path));
    }

    ::mode_t mode_;
    ::uid_t owner_;
    ::gid_t group_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SOCKET_PERMISSIONS_HPP
