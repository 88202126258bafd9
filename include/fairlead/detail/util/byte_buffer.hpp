// fairlead: bytes that come in at one end and are taken at the other, in one piece of memory. Ring
// 0.

#ifndef FAIRLEAD_DETAIL_UTIL_BYTE_BUFFER_HPP
#define FAIRLEAD_DETAIL_UTIL_BYTE_BUFFER_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Memory without a meaning yet.
struct byte_block
{
    static byte_block make(std::size_t size)
    {
        return {std::make_unique_for_overwrite<std::byte[]>(size), size};
    }

    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
};

/// A queue of bytes that are contiguous. Grows by half at least, so that n bytes cost O(n), and
/// never ahead of what comes.
class byte_buffer
{
public:
    static constexpr std::size_t smallest = 256;

    std::span<std::byte> data() noexcept
    {
        return {block_.bytes.get() + begin_, end_ - begin_};
    }

    std::span<const std::byte> data() const noexcept
    {
        return {block_.bytes.get() + begin_, end_ - begin_};
    }

    std::size_t size() const noexcept
    {
        return end_ - begin_;
    }

    std::size_t capacity() const noexcept
    {
        return block_.size;
    }

    /// Room behind the bytes, at least `size`.
    std::span<std::byte> prepare(std::size_t size)
    {
        if (block_.size - end_ < size) {
            make_room(size);
        }
        return {block_.bytes.get() + end_, block_.size - end_};
    }

    void commit(std::size_t size) noexcept
    {
        end_ += std::min(size, block_.size - end_);
    }

    void append(std::span<const std::byte> bytes)
    {
        if (!bytes.empty()) {
            std::memcpy(prepare(bytes.size()).data(), bytes.data(), bytes.size());
            end_ += bytes.size();
        }
    }

    void consume(std::size_t size) noexcept
    {
        begin_ += std::min(size, end_ - begin_);
        if (begin_ == end_) {
            begin_ = end_ = 0;
        }
    }

    /// Uses this memory from now on; what was held before is dropped.
    void adopt(byte_block block) noexcept
    {
        block_ = std::move(block);
        begin_ = end_ = 0;
    }

    byte_block release() noexcept
    {
        begin_ = end_ = 0;
        return std::exchange(block_, {});
    }

private:
    void make_room(std::size_t size)
    {
        const std::size_t held = end_ - begin_;
        if (block_.size - held >= size && held <= begin_) { // moving is cheap: what is free is more
            std::memmove(block_.bytes.get(), block_.bytes.get() + begin_, held);
        } else {
            auto larger =
                byte_block::make(std::max({held + size, block_.size + block_.size / 2, smallest}));
            if (held != 0) {
                std::memcpy(larger.bytes.get(), block_.bytes.get() + begin_, held);
            }
            block_ = std::move(larger);
        }
        begin_ = 0;
        end_ = held;
    }

    byte_block block_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_BYTE_BUFFER_HPP
