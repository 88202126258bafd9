// fairlead: what a simulated descriptor refers to, and who wants to know when it changes.

#ifndef FAIRLEAD_TESTING_KERNEL_FILE_HPP
#define FAIRLEAD_TESTING_KERNEL_FILE_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#if !defined(__linux__)
#error "fairlead/testing: the simulated kernel is one of Linux"
#endif

#include <fcntl.h>
#include <memory>
#include <span>
#include <string>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// As a system call answers inside Linux: 0 or more, or an errno, negative.
using answer = long;

/// Is told of a file's wake-ups.
class watcher
{
public:
    /// `key`: which EPOLL events the change may have brought; 0: any. Must not release a file.
    virtual void file_woke(std::uint32_t key) = 0;

protected:
    ~watcher() = default;
};

/// An open file description (open(2)): what descriptors that were duplicated share. It refuses
/// every call that it does not override.
class file : public std::enable_shared_from_this<file>
{
public:
    file() = default;
    file(const file&) = delete;
    file& operator=(const file&) = delete;
    virtual ~file() = default;

    /// For people: "timer", "connection 127.0.0.1:80 ...".
    virtual std::string name() const = 0;

    /// The EPOLL events that hold now. Asking may change what is woken later, as in Linux, where
    /// who has been told that a socket is full is woken when it has room.
    virtual std::uint32_t poll() = 0;

    virtual answer read(std::span<const iovec>, int /* flags */)
    {
        return -EINVAL;
    }

    virtual answer write(std::span<const iovec>, int /* flags */)
    {
        return -EINVAL;
    }

    /// What waits for `read`.
    virtual std::size_t unread() const noexcept
    {
        return 0;
    }

    /// How many bytes `write` would take now.
    virtual std::size_t room() const noexcept
    {
        return 0;
    }

    /// The last descriptor was closed.
    virtual void release()
    {}

    void add_watcher(watcher& one)
    {
        watchers_.push_back(&one);
    }

    void remove_watcher(watcher& one) noexcept
    {
        watchers_.erase(std::remove(watchers_.begin(), watchers_.end(), &one), watchers_.end());
    }

    /// To be called after every change.
    void wake(std::uint32_t key)
    {
        // By place: a watcher may add another one, or leave. NOLINTNEXTLINE(modernize-loop-convert)
        for (std::size_t index = 0; index < watchers_.size(); ++index) {
            watchers_[index]->file_woke(key);
        }
    }

    bool is_nonblocking() const noexcept
    {
        return (flags & O_NONBLOCK) != 0;
    }

    int flags = O_RDWR; // as F_GETFL tells them
    int descriptors = 0;

private:
    std::vector<watcher*> watchers_;
};

using file_ptr = std::shared_ptr<file>;
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_FILE_HPP
