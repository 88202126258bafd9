// fairlead: a part of a file that is being sent: how far it has come, and what of it is in memory.

#ifndef FAIRLEAD_DETAIL_IO_FILE_SOURCE_HPP
#define FAIRLEAD_DETAIL_IO_FILE_SOURCE_HPP

#include <fairlead/detail/io/send_file.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/buffer_pool.hpp>
#include <fairlead/detail/util/byte_buffer.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <sys/types.h>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Does not own the descriptor.
class file_source
{
public:
    file_source(int fd, std::uint64_t offset, std::size_t size, buffer_pool& memory) noexcept
        : fd_(fd), offset_(offset), size_(size), memory_(memory)
    {}

    file_source(const file_source&) = delete;
    file_source& operator=(const file_source&) = delete;

    ~file_source()
    {
        if (block_.size != 0) {
            memory_.give_back(std::move(block_));
        }
    }

    /// The kernel's numbers have room for such a part.
    static bool can_be(std::uint64_t offset, std::uint64_t size) noexcept
    {
        constexpr auto last = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
        return size <= std::numeric_limits<std::size_t>::max() && offset <= last &&
               size <= last - offset;
    }

    int descriptor() const noexcept
    {
        return fd_;
    }

    /// Where in the file what is not sent begins.
    std::uint64_t position() const noexcept
    {
        return offset_ + sent_;
    }

    std::size_t sent() const noexcept
    {
        return sent_;
    }

    std::size_t left() const noexcept
    {
        return size_ - sent_;
    }

    bool is_over() const noexcept
    {
        return left() == 0 || failure_;
    }

    /// Of the file, not of the socket; `asio::error::eof`: it was shorter.
    const std::error_code& failure() const noexcept
    {
        return failure_;
    }

    /// The kernel has not refused to take it from the file by itself.
    bool may_skip_memory() const noexcept
    {
        return skips_memory_;
    }

    void must_be_read() noexcept
    {
        skips_memory_ = false;
    }

    /// So many more bytes were sent.
    void was_sent(std::size_t bytes) noexcept
    {
        sent_ += bytes;
        read_begin_ += std::min(bytes, read_end_ - read_begin_);
    }

    /// What comes next, in memory; the same until it was sent. Empty: it is over.
    asio::const_buffer piece() noexcept
    {
        if (read_begin_ == read_end_ && !is_over()) {
            read();
        }
        return {block_.bytes.get() + read_begin_, read_end_ - read_begin_};
    }

private:
    /// So long as a record of TLS.
    void read() noexcept
    {
        try {
            if (block_.size == 0) {
                block_ = memory_.take_block();
            }
        } catch (const std::bad_alloc&) {
            failure_ = std::make_error_code(std::errc::not_enough_memory);
            return;
        }
        const auto result =
            native::read_at(fd_, block_.bytes.get(), std::min(left(), block_.size), position());
        read_begin_ = 0;
        read_end_ = result.bytes;
        if (result.bytes == 0) {
            failure_ = result.error         ? std::error_code(result.error)
                       : result.would_block ? asio::error::make_error_code(asio::error::would_block)
                                            : asio::error::make_error_code(asio::error::eof);
        }
    }

    int fd_;
    std::uint64_t offset_;
    std::size_t size_;
    std::size_t sent_ = 0;
    std::size_t read_begin_ = 0; // of what is in memory
    std::size_t read_end_ = 0;
    bool skips_memory_ = native::has_send_file;
    std::error_code failure_;
    buffer_pool& memory_;
    byte_block block_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_FILE_SOURCE_HPP
