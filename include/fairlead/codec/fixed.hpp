// fairlead: frames of one size. Ring 0.

#ifndef FAIRLEAD_CODEC_FIXED_HPP
#define FAIRLEAD_CODEC_FIXED_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// Every frame has `size` bytes, and all of them are payload. Nothing that is received can be
/// wrong, except that the stream may end inside a frame.
struct fixed
{
    /// Bytes of a frame, at least 1.
    std::size_t size;

    /// Empty, or what is wrong with the options.
    std::string_view problem() const noexcept
    {
        return size == 0 ? "fixed: size must be at least 1" : "";
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress&) const noexcept
    {
        return bytes.size() < size ? decode_result::needs(size - bytes.size())
                                   : decode_result::frame(size, 0, size);
    }

    /// Appends the payload. Throws `std::system_error`: `errc::frame_too_large` when it has more
    /// than `size` bytes, `errc::malformed_frame` when it has fewer.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends nothing; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>&) const
    {
        detail::require_size(payload.size(), size);
        if (payload.size() < size) {
            detail::refuse(errc::malformed_frame);
        }
    }

    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>&) const noexcept
    {}
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_FIXED_HPP
