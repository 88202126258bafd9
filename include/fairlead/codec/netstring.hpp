// fairlead: netstrings. Ring 0.

#ifndef FAIRLEAD_CODEC_NETSTRING_HPP
#define FAIRLEAD_CODEC_NETSTRING_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// `5:hello,`: the length in decimal, a colon, the payload, a comma (D. J. Bernstein,
/// "Netstrings", 1997). Each length has one form: no leading zeros.
///
/// Errors: `errc::frame_too_large` at the digit that takes the length above `max_frame`;
/// `errc::malformed_frame` at the first byte that is not as above.
struct netstring
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
        std::size_t length = 0;
        std::size_t digits = 0;
        for (;; ++digits) {
            if (digits == bytes.size()) {
                // The colon, the payload, the comma; or, before the first digit, "0:,".
                return decode_result::needs(digits == 0 ? 3 : sum(length, 2));
            }
            const auto byte = static_cast<char>(bytes[digits]);
            if (byte == ':' && digits != 0) {
                break;
            }
            const bool has_leading_zero = digits != 0 && length == 0;
            if (byte < '0' || byte > '9' || has_leading_zero) {
                return decode_result::failed(errc::malformed_frame);
            }
            const auto digit = static_cast<std::size_t>(byte - '0');
            if (length > (max_frame - std::min(max_frame, digit)) / 10 ||
                length * 10 + digit > max_frame) {
                return decode_result::failed(errc::frame_too_large);
            }
            length = length * 10 + digit;
        }
        const std::size_t header = digits + 1;
        const std::size_t whole = sum(header + 1, length);
        if (bytes.size() < whole) {
            return decode_result::needs(whole - bytes.size());
        }
        return static_cast<char>(bytes[whole - 1]) == ','
                   ? decode_result::frame(whole, header, length)
                   : decode_result::failed(errc::malformed_frame);
    }

    /// Appends a frame. Throws `std::system_error` with `errc::frame_too_large` above `max_frame`.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends length and colon; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::require_size(payload.size(), max_frame);
        const std::string length = std::to_string(payload.size()) + ':';
        const auto bytes = bytes_of(length);
        out.insert(out.end(), bytes.begin(), bytes.end());
    }

    /// Appends the comma.
    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>& out) const
    {
        out.push_back(static_cast<std::byte>(','));
    }

private:
    /// No more than there can ever be.
    static std::size_t sum(std::size_t a, std::size_t b) noexcept
    {
        constexpr auto most = std::numeric_limits<std::size_t>::max();
        return b > most - a ? most : a + b;
    }
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_NETSTRING_HPP
