// fairlead: parts of buffer sequences.

#ifndef FAIRLEAD_DETAIL_IO_BUFFERS_HPP
#define FAIRLEAD_DETAIL_IO_BUFFERS_HPP

#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <utility>

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

/// How far a sequence of buffers is done. Not by iterators: the sequence may be moved.
struct buffer_position
{
    std::size_t bytes = 0;
    std::ptrdiff_t buffer = 0; // the first that is not done
    std::size_t within = 0;    // bytes of it that are

    template <typename ConstBuffers>
    void advance(const ConstBuffers& buffers, std::size_t more) noexcept
    {
        bytes += more;
        within += more;
        const auto end = asio::buffer_sequence_end(buffers);
        auto it = std::next(asio::buffer_sequence_begin(buffers), buffer);
        for (; it != end && within >= asio::const_buffer(*it).size(); ++it, ++buffer) {
            within -= asio::const_buffer(*it).size();
        }
    }
};

/// Some of the buffers of a sequence, from a position on, and no longer than a length.
class buffer_window
{
public:
    template <typename ConstBuffers>
    buffer_window(const ConstBuffers& buffers, const buffer_position& done, std::size_t length)
    {
        const auto end = asio::buffer_sequence_end(buffers);
        std::size_t skipped = done.within;
        for (auto it = std::next(asio::buffer_sequence_begin(buffers), done.buffer);
             it != end && size_ < most && length != 0; ++it) {
            asio::const_buffer buffer(*it);
            buffer += std::exchange(skipped, 0);
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
    static constexpr std::size_t most = 64;

    std::array<asio::const_buffer, most> buffers_; // of which `size_`
    std::size_t size_ = 0;
};

inline asio::const_buffer rest_of(
    const asio::const_buffer& buffer, const buffer_position& done, std::size_t most) noexcept
{
    return asio::buffer(buffer + done.bytes, most);
}

template <typename ConstBuffers>
buffer_window rest_of(const ConstBuffers& buffers, const buffer_position& done, std::size_t most)
{
    return {buffers, done, most};
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_BUFFERS_HPP
