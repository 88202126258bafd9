// fairlead: frames that begin with their length in a field of fixed size. Ring 0.

#ifndef FAIRLEAD_CODEC_LENGTH_PREFIX_HPP
#define FAIRLEAD_CODEC_LENGTH_PREFIX_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// A frame is `length_offset` bytes of whatever, a length field, and what follows it:
///
///     | length_offset | length_bytes |  length + length_adjustment bytes  |
///     |<-- bytes_to_strip -->|<---------------- payload ---------------->|
///
/// The options mean what they mean in Netty's LengthFieldBasedFrameDecoder; tokio-util's
/// LengthDelimitedCodec has the same under other names. A length that counts its own header is an
/// adjustment of minus the header's size.
///
/// Errors: `errc::frame_too_large` above `max_frame`; `errc::malformed_frame` when the adjusted
/// length is negative, or the frame smaller than what is to be stripped; both as soon as the length
/// field is complete.
struct length_prefix
{
    /// Size of the length field: 1, 2, 3, 4 or 8.
    std::size_t length_bytes = 4;
    std::endian byte_order = std::endian::big;
    /// Bytes before the length field. `encode` fills them with zeros.
    std::size_t length_offset = 0;
    /// What to add to the length to get the number of bytes behind the length field.
    std::ptrdiff_t length_adjustment = 0;
    /// Bytes of the frame's front that are not payload. `encode` ignores it: what it is given is
    /// what follows the length field.
    std::size_t bytes_to_strip = 4;
    /// Most bytes that may follow the length field.
    std::size_t max_frame = std::size_t(1) << 20;

    /// Empty, or what is wrong with the options.
    std::string_view problem() const noexcept
    {
        if (length_bytes != 1 && length_bytes != 2 && length_bytes != 3 && length_bytes != 4 &&
            length_bytes != 8) {
            return "length_prefix: length_bytes must be 1, 2, 3, 4 or 8";
        }
        if (byte_order != std::endian::big && byte_order != std::endian::little) {
            return "length_prefix: byte_order must be big or little";
        }
        if (length_offset > largest_offset) {
            return "length_prefix: length_offset must not be above 65536";
        }
        return {};
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress&) const noexcept
    {
        const std::size_t header = length_offset + length_bytes;
        if (bytes.size() < header) {
            return decode_result::needs(header - bytes.size());
        }
        std::uint64_t length = read_length(bytes.subspan(length_offset, length_bytes));
        if (const std::uint64_t change = magnitude(); length_adjustment < 0) {
            if (length < change) {
                return decode_result::failed(errc::malformed_frame);
            }
            length -= change;
        } else if (length > std::numeric_limits<std::uint64_t>::max() - change) {
            return decode_result::failed(errc::frame_too_large);
        } else {
            length += change;
        }
        if (length > max_frame || length > std::numeric_limits<std::size_t>::max() - header) {
            return decode_result::failed(errc::frame_too_large);
        }
        const std::size_t whole = header + detail::integer_cast<std::size_t>(length);
        if (bytes_to_strip > whole) {
            return decode_result::failed(errc::malformed_frame);
        }
        if (bytes.size() < whole) {
            return decode_result::needs(whole - bytes.size());
        }
        return decode_result::frame(whole, bytes_to_strip, whole - bytes_to_strip);
    }

    /// Appends a frame in which `payload` follows the length field. Throws `std::system_error`:
    /// `errc::frame_too_large` when it is above `max_frame` or its length does not fit the field,
    /// `errc::malformed_frame` when the adjustment makes the length negative.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends what precedes the payload; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::require_size(payload.size(), max_frame);
        std::uint64_t length = payload.size();
        if (const std::uint64_t change = magnitude(); length_adjustment < 0) {
            if (length > std::numeric_limits<std::uint64_t>::max() - change) {
                detail::refuse(errc::frame_too_large);
            }
            length += change;
        } else if (length < change) {
            detail::refuse(errc::malformed_frame);
        } else {
            length -= change;
        }
        if (length_bytes < 8 && length >> (8 * length_bytes) != 0) {
            detail::refuse(errc::frame_too_large);
        }
        const std::size_t field = out.size() + length_offset;
        out.resize(field + length_bytes);
        for (std::size_t i = 0; i < length_bytes; ++i) {
            const std::size_t place = byte_order == std::endian::big ? length_bytes - 1 - i : i;
            out[field + place] = static_cast<std::byte>(length >> (8 * i));
        }
    }

    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>&) const noexcept
    {}

private:
    static constexpr std::size_t largest_offset = 65536;

    /// Of the adjustment.
    std::uint64_t magnitude() const noexcept
    {
        const auto value = static_cast<std::uint64_t>(length_adjustment);
        return length_adjustment < 0 ? std::uint64_t(0) - value : value;
    }

    std::uint64_t read_length(std::span<const std::byte> field) const noexcept
    {
        std::uint64_t length = 0;
        for (std::size_t i = 0; i < field.size(); ++i) {
            const std::size_t place = byte_order == std::endian::big ? i : field.size() - 1 - i;
            length = length << 8 | std::to_integer<std::uint64_t>(field[place]);
        }
        return length;
    }
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_LENGTH_PREFIX_HPP
