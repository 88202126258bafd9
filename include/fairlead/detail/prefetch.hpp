// fairlead: the few bytes that a connection may hold of its own input. Waiting for input needs a
// buffer; this one lies inside the connection, so that an idle connection holds no other.

#ifndef FAIRLEAD_DETAIL_PREFETCH_HPP
#define FAIRLEAD_DETAIL_PREFETCH_HPP

#include <fairlead/detail/native.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>

namespace fairlead::detail
{
/// The first buffer of a sequence that is not empty; an empty one when there is none.
template <typename Buffer, typename Buffers>
Buffer first_buffer(const Buffers& buffers) noexcept
{
    const auto end = asio::buffer_sequence_end(buffers);
    for (auto it = asio::buffer_sequence_begin(buffers); it != end; ++it) {
        const Buffer buffer(*it);
        if (buffer.size() != 0) {
            return buffer;
        }
    }
    return Buffer();
}

/// Input that was read to see whether there is any, before somebody asked for it.
class prefetch
{
public:
    /// How many bytes it holds at most.
    static constexpr std::size_t most = 80;

    /// Where to read to, behind what is there; `filled` says how much came.
    asio::mutable_buffer space() noexcept
    {
        if (begin_ != 0) {
            std::memmove(bytes_.data(), bytes_.data() + begin_, size());
            end_ = static_cast<std::uint16_t>(size());
            begin_ = 0;
        }
        return asio::buffer(bytes_) + end_;
    }

    void filled(std::size_t size) noexcept
    {
        end_ = static_cast<std::uint16_t>(end_ + size);
    }

    std::span<const std::byte> bytes() const noexcept
    {
        return {bytes_.data() + begin_, size()};
    }

    std::size_t size() const noexcept
    {
        return static_cast<std::size_t>(end_ - begin_);
    }

    /// Nothing to hand out: neither bytes nor an error that was met behind them.
    bool empty() const noexcept
    {
        return begin_ == end_ && error_ == 0;
    }

    /// Hands out bytes as `recv` would.
    std::size_t copy_out(void* data, std::size_t capacity) noexcept
    {
        const std::size_t taken = std::min(size(), capacity);
        std::memcpy(data, bytes_.data() + begin_, taken);
        begin_ = static_cast<std::uint16_t>(begin_ + taken);
        return taken;
    }

    /// Hands out bytes, and when there may be more in the socket, those as well, so that a message
    /// that is larger than this buffer still arrives in one read.
    template <typename Buffers>
    native::io_result take(const Buffers& buffers, int socket) noexcept
    {
        if (size() == 0) {
            return {.error = {std::exchange(error_, 0), asio::error::get_system_category()}};
        }
        const bool was_full = end_ == bytes_.size();
        std::size_t taken =
            asio::buffer_copy(buffers, asio::buffer(bytes_.data() + begin_, size()));
        begin_ = static_cast<std::uint16_t>(begin_ + taken);
        if (size() != 0 || !was_full) {
            return {.bytes = taken};
        }
        std::size_t skipped = taken;
        const auto end = asio::buffer_sequence_end(buffers);
        for (auto it = asio::buffer_sequence_begin(buffers); it != end; ++it) {
            asio::mutable_buffer rest(*it);
            const std::size_t used = std::min(skipped, rest.size());
            skipped -= used;
            rest += used;
            if (rest.size() == 0) {
                continue;
            }
            const auto more = native::receive(socket, rest.data(), rest.size());
            taken += more.bytes;
            error_ = more.error.value(); // the kernel tells it once: keep it for the next read
            if (more.bytes < rest.size()) {
                break;
            }
        }
        return {.bytes = taken};
    }

private:
    int error_ = 0;
    std::uint16_t begin_ = 0;
    std::uint16_t end_ = 0;
    std::array<std::byte, most> bytes_; // not initialised: `end_` says what is valid
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_PREFETCH_HPP
