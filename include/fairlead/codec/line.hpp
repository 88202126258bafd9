// fairlead: frames that are lines of text. Ring 0.

#ifndef FAIRLEAD_CODEC_LINE_HPP
#define FAIRLEAD_CODEC_LINE_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// A line ends with LF or CRLF. A CR that no LF follows is data.
///
/// Errors: `errc::frame_too_large` at the first byte that makes the line, without its ending,
/// longer than `max_frame`.
struct line
{
    /// Payloads are handed out as text.
    static constexpr bool payload_is_text = true;

    /// Most bytes of a line, without its ending.
    std::size_t max_frame = std::size_t(64) << 10;
    /// The payload includes the ending.
    bool keep = false;
    /// `encode` ends lines with CRLF. False: with LF, except after a payload that ends with CR,
    /// which LF alone would make part of the ending.
    bool crlf = false;

    /// Empty: nothing can be wrong with the options.
    std::string_view problem() const noexcept
    {
        return {};
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress& progress) const noexcept
    {
        const auto rest = bytes.subspan(progress.scanned);
        const void* const found =
            rest.empty() ? nullptr : std::memchr(rest.data(), '\n', rest.size());
        if (found == nullptr) {
            progress.scanned = bytes.size();
            // A CR at the end may belong to the ending.
            const std::size_t size =
                !bytes.empty() && bytes.back() == cr ? bytes.size() - 1 : bytes.size();
            return size > max_frame ? decode_result::failed(errc::frame_too_large)
                                    : decode_result::needs(1);
        }
        const auto end =
            static_cast<std::size_t>(static_cast<const std::byte*>(found) - bytes.data());
        const std::size_t size = end != 0 && bytes[end - 1] == cr ? end - 1 : end;
        return size > max_frame ? decode_result::failed(errc::frame_too_large)
                                : decode_result::frame(end + 1, 0, keep ? end + 1 : size);
    }

    /// Appends the payload as a line. With `keep`, a payload that ends with LF is one already.
    /// Throws `std::system_error`: `errc::frame_too_large` above `max_frame`,
    /// `errc::malformed_frame` when an LF inside would make it several lines.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends nothing; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>&) const
    {
        std::span<const std::byte> text = payload;
        if (keep && !text.empty() && text.back() == lf) {
            text = text.first(text.size() - 1);
            if (!text.empty() && text.back() == cr) {
                text = text.first(text.size() - 1);
            }
        }
        detail::require_size(text.size(), max_frame);
        if (!text.empty() && std::memchr(text.data(), '\n', text.size()) != nullptr) {
            detail::refuse(errc::malformed_frame);
        }
    }

    /// Appends the ending.
    void encode_trailer(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        if (keep && !payload.empty() && payload.back() == lf) {
            return;
        }
        if (crlf || (!payload.empty() && payload.back() == cr)) {
            out.push_back(cr);
        }
        out.push_back(lf);
    }

private:
    static constexpr std::byte cr{'\r'};
    static constexpr std::byte lf{'\n'};
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_LINE_HPP
