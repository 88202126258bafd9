// fairlead: frames that begin with their length as a variable-length number. Ring 0.

#ifndef FAIRLEAD_CODEC_VARINT_PREFIX_HPP
#define FAIRLEAD_CODEC_VARINT_PREFIX_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// The length in unsigned LEB128, seven bits to a byte, lowest first, and then the payload: what
/// protobuf's `writeDelimitedTo` writes. Each length has one encoding: the shortest.
///
/// Errors: `errc::frame_too_large` as soon as the bits so far are above `max_frame`;
/// `errc::malformed_frame` for a length that is longer than it need be, or longer than 64 bits.
struct varint_prefix
{
    /// Most bytes of a payload.
    std::size_t max_frame = std::size_t(1) << 20;

    /// Empty: nothing can be wrong with the options.
    std::string_view problem() const noexcept
    {
        return {};
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress&) const noexcept
    {
        std::uint64_t length = 0;
        std::size_t header = 0;
        for (bool more = true; more; ++header) {
            if (header == bytes.size()) {
                return decode_result::needs(1);
            }
            const auto byte = std::to_integer<std::uint64_t>(bytes[header]);
            const std::uint64_t bits = byte & 0x7f;
            more = (byte & 0x80) != 0;
            const bool is_superfluous = !more && bits == 0 && header != 0;
            const bool is_above_64_bits = header == longest - 1 && (more || bits > 1);
            if (is_superfluous || is_above_64_bits) {
                return decode_result::failed(errc::malformed_frame);
            }
            length |= bits << (7 * header);
            if (length > max_frame) {
                return decode_result::failed(errc::frame_too_large);
            }
        }
        if (length > std::numeric_limits<std::size_t>::max() - header) {
            return decode_result::failed(errc::frame_too_large);
        }
        const std::size_t whole = header + detail::integer_cast<std::size_t>(length);
        return bytes.size() < whole
                   ? decode_result::needs(whole - bytes.size())
                   : decode_result::frame(whole, header, detail::integer_cast<std::size_t>(length));
    }

    /// Appends a frame. Throws `std::system_error` with `errc::frame_too_large` above `max_frame`.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends the length; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::require_size(payload.size(), max_frame);
        std::uint64_t rest = payload.size();
        for (; rest > 0x7f; rest >>= 7U) {
            out.push_back(static_cast<std::byte>(rest | 0x80));
        }
        out.push_back(static_cast<std::byte>(rest));
    }

    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>&) const noexcept
    {}

private:
    static constexpr std::size_t longest = 10; // bytes of a 64-bit number
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_VARINT_PREFIX_HPP
