// fairlead: the calls to the kernel that send what is in a file.

#ifndef FAIRLEAD_DETAIL_IO_SEND_FILE_HPP
#define FAIRLEAD_DETAIL_IO_SEND_FILE_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <sys/types.h>
#include <unistd.h>
#if defined(__linux__)
#include <csignal>
#include <ctime>
#include <sys/sendfile.h>
#endif

namespace FAIRLEAD_NAMESPACE::detail::native
{
/// Reads from a place in a file. Blocks until the disk has it. No bytes and no error: the file ends
/// there.
inline io_result read_at(int fd, void* data, std::size_t size, std::uint64_t offset) noexcept
{
    return moved_by([=] { return ::pread(fd, data, size, integer_cast<off_t>(offset)); });
}

#if defined(__linux__)
/// While it lives, a call that has no `MSG_NOSIGNAL` raises no SIGPIPE in this thread.
class no_sigpipe
{
public:
    no_sigpipe() noexcept
    {
        ::sigemptyset(&sigpipe_);
        ::sigaddset(&sigpipe_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
    }

    no_sigpipe(const no_sigpipe&) = delete;
    no_sigpipe& operator=(const no_sigpipe&) = delete;

    ~no_sigpipe()
    {
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

    /// Takes the one that was raised. Where the program itself holds it back, it stays.
    void take() noexcept
    {
        if (::sigismember(&before_, SIGPIPE) == 0) {
            const ::timespec now = {};
            ::sigtimedwait(&sigpipe_, nullptr, &now);
        }
    }

private:
    ::sigset_t sigpipe_;
    ::sigset_t before_;
};

/// Sends from a place in a file what the socket takes, without a way through our memory (sendfile(2)).
/// Blocks for the disk, and not for the socket. No bytes and no error: the file ends there. An error
/// may be that of either side.
inline io_result send_file(int socket, int fd, std::uint64_t offset, std::size_t size) noexcept
{
    no_sigpipe guard;
    const io_result result = moved_by([=] {
        auto from = integer_cast<off_t>(offset);
        return ::sendfile(socket, fd, &from, size);
    });
    if (result.error && errno == EPIPE) {
        guard.take();
    }
    return result;
}

inline constexpr bool has_send_file = true;
#else
inline constexpr bool has_send_file = false;

inline io_result send_file(int, int, std::uint64_t, std::size_t) noexcept
{
    return {};
}
#endif
} // namespace FAIRLEAD_NAMESPACE::detail::native

#endif // FAIRLEAD_DETAIL_IO_SEND_FILE_HPP
