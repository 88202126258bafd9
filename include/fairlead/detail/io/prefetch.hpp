// fairlead: the few bytes that a connection may hold of its own input, for those who look at them
// before they are read.

#ifndef FAIRLEAD_DETAIL_IO_PREFETCH_HPP
#define FAIRLEAD_DETAIL_IO_PREFETCH_HPP

#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Input that was read to be looked at, before somebody asked for it. Has memory only when that was
/// done.
class prefetch
{
public:
    /// How many bytes it holds at most.
    static constexpr std::size_t most = 80;

    /// Before `space` is asked for. Throws `std::bad_alloc`.
    void reserve()
    {
        if (!bytes_) {
            bytes_ = std::make_unique<std::array<std::byte, most>>();
        }
    }

    /// Where to read to, behind what is there; `filled` says how much came.
    asio::mutable_buffer space() noexcept
    {
        if (begin_ != 0) {
            std::memmove(bytes_->data(), bytes_->data() + begin_, size());
            end_ = static_cast<std::uint16_t>(size());
            begin_ = 0;
        }
        return asio::buffer(*bytes_) + end_;
    }

    void filled(std::size_t size) noexcept
    {
        end_ = static_cast<std::uint16_t>(end_ + size);
    }

    std::span<const std::byte> bytes() const noexcept
    {
        return size() != 0 ? std::span<const std::byte>(bytes_->data() + begin_, size())
                           : std::span<const std::byte>();
    }

    std::size_t size() const noexcept
    {
        return static_cast<std::size_t>(end_ - begin_);
    }

    /// Hands out bytes as `recv` would.
    std::size_t copy_out(void* data, std::size_t capacity) noexcept
    {
        return take(asio::buffer(data, capacity));
    }

    template <typename Buffers>
    std::size_t take(const Buffers& buffers) noexcept
    {
        const std::size_t taken =
            size() != 0 ? asio::buffer_copy(buffers, asio::buffer(bytes_->data() + begin_, size()))
                        : 0;
        begin_ = static_cast<std::uint16_t>(begin_ + taken);
        return taken;
    }

private:
    std::unique_ptr<std::array<std::byte, most>> bytes_;
    std::uint16_t begin_ = 0;
    std::uint16_t end_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_PREFETCH_HPP
