// fairlead: the file of a Unix socket that listens: whose it is, and who removes it.

#ifndef FAIRLEAD_DETAIL_SERVER_SOCKET_FILE_HPP
#define FAIRLEAD_DETAIL_SERVER_SOCKET_FILE_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>

#include <string>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Which file it is, whatever it is called.
struct file_identity
{
    ::dev_t device = 0;
    ::ino_t number = 0;
    bool is_socket = false;

    friend bool operator==(const file_identity&, const file_identity&) = default;
};

/// Of the file at `path`, which may be a symbolic link.
inline file_identity identify(const std::string& path, std::error_code& error) noexcept
{
    struct ::stat found = {};
    if (::lstat(path.c_str(), &found) != 0) {
        error = native::last_error();
        return {};
    }
    error.clear();
    return {found.st_dev, found.st_ino, S_ISSOCK(found.st_mode)};
}

/// Removes the file unless another one has taken its place. The numbers tell: as long as the socket
/// is bound, which it is until the file has been removed, the kernel gives its inode to nobody else.
class socket_file
{
public:
    socket_file() noexcept = default;

    /// The one that has just been bound at `path`.
    socket_file(std::string path, std::error_code& error) noexcept
        : path_(std::move(path)), which_(identify(path_, error))
    {
        if (error) {
            path_.clear();
        }
    }

    socket_file(socket_file&& other) noexcept
        : path_(std::exchange(other.path_, {})), which_(other.which_)
    {}

    socket_file& operator=(socket_file&& other) noexcept
    {
        if (this != &other) {
            remove();
            path_ = std::exchange(other.path_, {});
            which_ = other.which_;
        }
        return *this;
    }

    ~socket_file()
    {
        remove();
    }

    void remove() noexcept
    {
        std::error_code error;
        if (!path_.empty() && identify(path_, error) == which_ && !error) {
            ::unlink(path_.c_str());
        }
        path_.clear();
    }

private:
    std::string path_; // empty: there is none
    file_identity which_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SOCKET_FILE_HPP
