// fairlead: pipe(2) and /dev/null.

#ifndef FAIRLEAD_TESTING_KERNEL_PIPE_HPP
#define FAIRLEAD_TESTING_KERNEL_PIPE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/bytes.hpp>
#include <fairlead/testing/kernel/file.hpp>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// What both ends of a pipe share.
struct pipe_buffer
{
    static constexpr std::size_t capacity = 65536;
    static constexpr std::size_t atomic = 4096; // PIPE_BUF: whole or not at all

    byte_queue bytes;
    std::weak_ptr<file> reader;
    std::weak_ptr<file> writer;
    bool has_reader = true;
    bool has_writer = true;
};

class pipe_reader final : public file
{
public:
    explicit pipe_reader(std::shared_ptr<pipe_buffer> shared) noexcept : pipe_(std::move(shared))
    {
        flags = O_RDONLY;
    }

    std::string name() const override
    {
        return "pipe, to read";
    }

    std::uint32_t poll() override
    {
        return (pipe_->bytes.empty() ? 0U : static_cast<std::uint32_t>(EPOLLIN | EPOLLRDNORM)) |
               (pipe_->has_writer ? 0U : static_cast<std::uint32_t>(EPOLLHUP));
    }

    answer read(std::span<const iovec> into, int /* flags */) override
    {
        if (pipe_->bytes.empty()) {
            return pipe_->has_writer && size_of(into) > 0 ? answer(-EAGAIN) : 0;
        }
        const std::size_t copied = copy_front(pipe_->bytes, into);
        pipe_->bytes.pop(copied);
        if (const auto writer = pipe_->writer.lock()) {
            writer->wake(EPOLLOUT | EPOLLWRNORM);
        }
        return static_cast<answer>(copied);
    }

    answer write(std::span<const iovec>, int /* flags */) override
    {
        return -EBADF;
    }

    std::size_t unread() const noexcept override
    {
        return pipe_->bytes.size();
    }

    void release() override
    {
        pipe_->has_reader = false;
        if (const auto writer = pipe_->writer.lock()) {
            writer->wake(EPOLLERR | EPOLLOUT);
        }
    }

private:
    std::shared_ptr<pipe_buffer> pipe_;
};

class pipe_writer final : public file
{
public:
    explicit pipe_writer(std::shared_ptr<pipe_buffer> shared) noexcept : pipe_(std::move(shared))
    {
        flags = O_WRONLY;
    }

    std::string name() const override
    {
        return "pipe, to write";
    }

    std::uint32_t poll() override
    {
        const bool has_room = pipe_->bytes.size() < pipe_buffer::capacity;
        return (has_room ? static_cast<std::uint32_t>(EPOLLOUT | EPOLLWRNORM) : 0U) |
               (pipe_->has_reader ? 0U : static_cast<std::uint32_t>(EPOLLERR));
    }

    answer read(std::span<const iovec>, int /* flags */) override
    {
        return -EBADF;
    }

    answer write(std::span<const iovec> from, int /* flags */) override
    {
        if (!pipe_->has_reader) {
            std::raise(SIGPIPE);
            return -EPIPE;
        }
        const std::size_t wanted = size_of(from);
        const std::size_t room = pipe_buffer::capacity - pipe_->bytes.size();
        if (wanted > 0 && (room == 0 || (wanted <= pipe_buffer::atomic && room < wanted))) {
            return -EAGAIN;
        }
        const std::size_t pushed = push_front_of(from, pipe_->bytes, room);
        if (const auto reader = pipe_->reader.lock(); reader && pushed > 0) {
            reader->wake(EPOLLIN | EPOLLRDNORM);
        }
        return static_cast<answer>(pushed);
    }

    std::size_t room() const noexcept override
    {
        return pipe_buffer::capacity - pipe_->bytes.size();
    }

    void release() override
    {
        pipe_->has_writer = false;
        if (const auto reader = pipe_->reader.lock()) {
            reader->wake(EPOLLHUP | EPOLLIN);
        }
    }

private:
    std::shared_ptr<pipe_buffer> pipe_;
};

inline std::pair<file_ptr, file_ptr> make_pipe()
{
    auto shared = std::make_shared<pipe_buffer>();
    auto reader = std::make_shared<pipe_reader>(shared);
    auto writer = std::make_shared<pipe_writer>(shared);
    shared->reader = reader;
    shared->writer = writer;
    return {std::move(reader), std::move(writer)};
}

/// /dev/null, which programs open to have a descriptor in reserve.
class null_file final : public file
{
public:
    std::string name() const override
    {
        return "/dev/null";
    }

    std::uint32_t poll() override
    {
        return EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM;
    }

    answer read(std::span<const iovec>, int /* flags */) override
    {
        return 0;
    }

    answer write(std::span<const iovec> from, int /* flags */) override
    {
        return static_cast<answer>(size_of(from));
    }
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_PIPE_HPP
