// fairlead: parts of buffer sequences.

#ifndef FAIRLEAD_DETAIL_IO_BUFFERS_HPP
#define FAIRLEAD_DETAIL_IO_BUFFERS_HPP

#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace FAIRLEAD_NAMESPACE::detail
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

/// Some of the buffers of a sequence, from a byte on, and no longer than a length.
class buffer_window
{
public:
    template <typename ConstBuffers>
    buffer_window(const ConstBuffers& buffers, std::size_t skipped, std::size_t length)
    {
        const auto end = asio::buffer_sequence_end(buffers);
        for (auto it = asio::buffer_sequence_begin(buffers);
             it != end && size_ < most && length != 0; ++it) {
            asio::const_buffer buffer(*it);
            const std::size_t used = std::min(skipped, buffer.size());
            skipped -= used;
            buffer += used;
            if (buffer.size() != 0) {
                buffers_[size_] = asio::buffer(buffer, length);
                length -= buffers_[size_++].size();
            }
        }
    }

    const asio::const_buffer* begin() const noexcept
    {
        return buffers_.data();
    }

    const asio::const_buffer* end() const noexcept
    {
        return buffers_.data() + size_;
    }

private:
    static constexpr std::size_t most = 8;

    std::array<asio::const_buffer, most> buffers_;
    std::size_t size_ = 0;
};

inline asio::const_buffer rest_of(
    const asio::const_buffer& buffer, std::size_t written, std::size_t most) noexcept
{
    return asio::buffer(buffer + written, most);
}

template <typename ConstBuffers>
buffer_window rest_of(const ConstBuffers& buffers, std::size_t written, std::size_t most)
{
    return {buffers, written, most};
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_BUFFERS_HPP
