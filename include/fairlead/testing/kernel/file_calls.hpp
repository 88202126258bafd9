// fairlead: the system calls on any descriptor, as a simulated kernel answers them: 0 or more, or
// an errno, negative. The arguments are those of the C library's functions.

#ifndef FAIRLEAD_TESTING_KERNEL_FILE_CALLS_HPP
#define FAIRLEAD_TESTING_KERNEL_FILE_CALLS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/pipe.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <span>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated::calls
{
inline std::span<const iovec> parts_of(const iovec* parts, int count) noexcept
{
    return {parts, static_cast<std::size_t>(std::max(count, 0))};
}

/// Of a socket, pipe, timer or event counter, as `which` names the call.
inline answer read_from(kernel& in, call which, int fd, std::span<const iovec> parts, int flags = 0)
{
    const file_ptr from = in.table.find(fd);
    const bool may_wait = from && !from->is_nonblocking() && (flags & MSG_DONTWAIT) == 0;
    return in.run_blocking(which, fd, static_cast<long>(size_of(parts)), may_wait, [&] {
        return from ? from->read(parts, flags) : -EBADF;
    });
}

inline answer write_to(kernel& in, call which, int fd, std::span<const iovec> parts, int flags = 0)
{
    const file_ptr to = in.table.find(fd);
    const bool may_wait = to && !to->is_nonblocking() && (flags & MSG_DONTWAIT) == 0;
    if (!may_wait) {
        return in.run(which, fd, static_cast<long>(size_of(parts)), [&] {
            return to ? to->write(parts, flags) : -EBADF;
        });
    }
    // Who may wait writes all of it.
    byte_queue rest;
    push_front_of(parts, rest, size_of(parts));
    answer written = 0;
    do {
        const auto bytes = rest.front(rest.size());
        const iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
        const answer some = in.run_blocking(which, fd, static_cast<long>(bytes.size()), true, [&] {
            return to->write({&part, 1}, flags);
        });
        if (some < 0) {
            return written > 0 ? written : some;
        }
        written += some;
        rest.pop(static_cast<std::size_t>(some));
    } while (!rest.empty());
    return written;
}

inline answer read(kernel& in, int fd, void* into, std::size_t size)
{
    const iovec part = {into, size};
    return read_from(in, call::read, fd, {&part, 1});
}

inline answer readv(kernel& in, int fd, const iovec* parts, int count)
{
    return read_from(in, call::readv, fd, parts_of(parts, count));
}

inline answer write(kernel& in, int fd, const void* from, std::size_t size)
{
    const iovec part = {const_cast<void*>(from), size};
    return write_to(in, call::write, fd, {&part, 1});
}

inline answer writev(kernel& in, int fd, const iovec* parts, int count)
{
    return write_to(in, call::writev, fd, parts_of(parts, count));
}

inline answer close(kernel& in, int fd)
{
    const answer result = in.run(call::close, fd, 0, [&] { return in.table.close(fd); });
    if (result != -EBADF) { // a close that fails has closed all the same (close(2))
        in.table.close(fd);
    }
    return result;
}

inline answer dup(kernel& in, int fd)
{
    return in.run(call::dup, fd, 0, [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        return one ? in.open_descriptor(one, false) : -EBADF;
    });
}

inline answer fcntl(kernel& in, int fd, int what, void* argument)
{
    const auto number = static_cast<int>(reinterpret_cast<std::intptr_t>(argument));
    return in.run(call::fcntl, fd, what, [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        if (!one) {
            return -EBADF;
        }
        switch (what) {
        case F_GETFL:
            return one->flags;
        case F_SETFL:
            one->flags = (one->flags & O_ACCMODE) | (number & ~O_ACCMODE);
            return 0;
        case F_GETFD:
            return in.table.closes_on_exec(fd) ? FD_CLOEXEC : 0;
        case F_SETFD:
            in.table.set_close_on_exec(fd, (number & FD_CLOEXEC) != 0);
            return 0;
        case F_DUPFD:
        case F_DUPFD_CLOEXEC:
            return in.open_descriptor(one, what == F_DUPFD_CLOEXEC);
        default:
            return -EINVAL;
        }
    });
}

inline answer ioctl(kernel& in, int fd, unsigned long what, void* argument)
{
    return in.run(call::ioctl, fd, static_cast<long>(what), [&]() -> answer {
        const file_ptr one = in.table.find(fd);
        if (!one) {
            return -EBADF;
        }
        int& number = *static_cast<int*>(argument);
        const auto* const socket = dynamic_cast<const tcp_socket*>(one.get());
        switch (what) {
        case FIONBIO:
            one->flags = (one->flags & ~O_NONBLOCK) | (number != 0 ? O_NONBLOCK : 0);
            return 0;
        case FIONREAD:
            if (socket != nullptr && socket->state() == tcp_socket::phase::listening) {
                return -EINVAL;
            }
            number = static_cast<int>(one->unread());
            return 0;
        case TIOCOUTQ: // SIOCOUTQ
            if (socket == nullptr) {
                return -ENOTTY;
            }
            number = static_cast<int>(socket->unacknowledged());
            return socket->state() == tcp_socket::phase::listening ? -EINVAL : 0;
        default:
            return -ENOTTY;
        }
    });
}

inline answer pipe_as(kernel& in, call which, int ends[2], int flags)
{
    return in.run(which, -1, flags, [&]() -> answer {
        const auto [reader, writer] = make_pipe();
        const bool closes_on_exec = (flags & O_CLOEXEC) != 0;
        reader->flags |= flags & O_NONBLOCK;
        writer->flags |= flags & O_NONBLOCK;
        const answer first = in.open_descriptor(reader, closes_on_exec);
        if (first < 0) {
            return first;
        }
        const answer second = in.open_descriptor(writer, closes_on_exec);
        if (second < 0) {
            in.table.close(static_cast<int>(first));
            return second;
        }
        ends[0] = static_cast<int>(first);
        ends[1] = static_cast<int>(second);
        return 0;
    });
}

inline answer pipe2(kernel& in, int ends[2], int flags)
{
    return (flags & ~(O_CLOEXEC | O_NONBLOCK)) != 0 ? -EINVAL
                                                    : pipe_as(in, call::pipe2, ends, flags);
}

inline answer open_null(kernel& in, int flags)
{
    return in.run(call::open, -1, flags, [&] {
        auto opened = std::make_shared<null_file>();
        opened->flags = flags & ~O_CLOEXEC;
        return in.open_descriptor(opened, (flags & O_CLOEXEC) != 0);
    });
}

/// Between two simulated descriptors, one of which should be a pipe; moves what is there and fits.
inline answer splice(
    kernel& in, int from, off64_t*, int to, off64_t*, std::size_t size, unsigned flags)
{
    const file_ptr source = in.table.find(from);
    const file_ptr target = in.table.find(to);
    const auto is_pipe = [](const file_ptr& one) {
        return dynamic_cast<pipe_reader*>(one.get()) != nullptr ||
               dynamic_cast<pipe_writer*>(one.get()) != nullptr;
    };
    const bool may_wait = source && target && !source->is_nonblocking() &&
                          !target->is_nonblocking() && (flags & SPLICE_F_NONBLOCK) == 0;
    return in.run_blocking(call::splice, from, static_cast<long>(size), may_wait, [&]() -> answer {
        if (!source || !target) {
            return -EBADF;
        }
        if (!is_pipe(source) && !is_pipe(target)) {
            return -EINVAL;
        }
        std::vector<char> moved(
            std::min({size, std::max<std::size_t>(source->unread(), 1), target->room()}));
        if (moved.empty()) {
            static_cast<void>(target->poll()); // is woken when there is room
            return -EAGAIN;
        }
        iovec part = {moved.data(), moved.size()};
        const answer got = source->read({&part, 1}, MSG_DONTWAIT);
        if (got <= 0) {
            return got;
        }
        part.iov_len = static_cast<std::size_t>(got);
        return target->write({&part, 1}, MSG_DONTWAIT | MSG_NOSIGNAL);
    });
}

/// From a file of the real kernel's to a simulated descriptor.
inline answer sendfile(kernel& in, int to, int from, off_t* at, std::size_t size)
{
    const file_ptr target = in.table.find(to);
    const bool may_wait = target && !target->is_nonblocking();
    return in.run_blocking(call::sendfile, to, static_cast<long>(size), may_wait, [&]() -> answer {
        if (!target) {
            return -EBADF;
        }
        std::vector<char> read(std::min(size, std::size_t(1) << 20));
        const ssize_t got = at != nullptr ? ::pread(from, read.data(), read.size(), *at)
                                          : ::read(from, read.data(), read.size());
        if (got <= 0) {
            return got == 0 ? 0 : -errno;
        }
        const iovec part = {read.data(), static_cast<std::size_t>(got)};
        const answer sent = target->write({&part, 1}, MSG_DONTWAIT);
        const off_t moved = static_cast<off_t>(std::max<answer>(sent, 0));
        if (at != nullptr) {
            *at += moved;
        } else {
            ::lseek(from, moved - got, SEEK_CUR);
        }
        return sent;
    });
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated::calls

#endif // FAIRLEAD_TESTING_KERNEL_FILE_CALLS_HPP
