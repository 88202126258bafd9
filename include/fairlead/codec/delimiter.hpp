// fairlead: frames that end with a delimiter. Ring 0.

#ifndef FAIRLEAD_CODEC_DELIMITER_HPP
#define FAIRLEAD_CODEC_DELIMITER_HPP

#include <fairlead/codec/codec.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairlead::codec
{
/// A frame ends where the first of its delimiters is complete. Of delimiters that are complete at
/// the same byte the longest counts, so `{"\n", "\r\n"}` takes a CR for part of the ending. What
/// comes later never changes where a frame ends.
///
/// Errors: `errc::frame_too_large` at the first byte after which no frame within `max_frame` can
/// come.
struct delimiter
{
    /// At least one, none of them empty. `encode` uses the first.
    std::vector<std::string> delimiters;
    /// The payload includes the delimiter.
    bool keep = false;
    /// Most bytes of a frame, without its delimiter.
    std::size_t max_frame = std::size_t(1) << 20;

    /// Empty, or what is wrong with the options.
    std::string_view problem() const noexcept
    {
        if (delimiters.empty()) {
            return "delimiter: delimiters must not be empty";
        }
        for (const std::string& each : delimiters) {
            if (each.empty()) {
                return "delimiter: delimiters has an empty one";
            }
        }
        return {};
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress& progress) const noexcept
    {
        const std::string_view text = text_of(bytes);
        std::size_t end = std::string_view::npos;
        std::size_t size = 0;
        for (const std::string& each : delimiters) {
            const std::size_t found = find_end(text.substr(0, end), each, progress.scanned);
            if (found < end || (found == end && each.size() > end - size)) {
                end = found;
                size = found - each.size();
            }
        }
        if (end == std::string_view::npos) {
            progress.scanned = text.size();
            std::size_t most_begun = 0;
            std::size_t missing = delimiters.front().size();
            for (const std::string& each : delimiters) {
                const std::size_t begun = begun_at_end(text, each);
                most_begun = std::max(most_begun, begun);
                missing = std::min(missing, each.size() - begun);
            }
            return text.size() - most_begun > max_frame
                       ? decode_result::failed(errc::frame_too_large)
                       : decode_result::needs(missing);
        }
        return size > max_frame ? decode_result::failed(errc::frame_too_large)
                                : decode_result::frame(end, 0, keep ? end : size);
    }

    /// Appends the payload and the first delimiter. With `keep`, a payload that is a frame already
    /// is taken as it is. Throws `std::system_error`: `errc::frame_too_large` above `max_frame`,
    /// `errc::malformed_frame` when the frame would end somewhere else.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends nothing; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>&) const
    {
        if (is_frame(payload)) {
            return;
        }
        detail::require_size(payload.size(), max_frame);
        decode_progress progress;
        if (decode(payload, progress).what != decode_result::outcome::incomplete) {
            detail::refuse(errc::malformed_frame); // it holds a delimiter
        }
        // One may also begin in the payload and end in the delimiter.
        std::size_t longest = 0;
        for (const std::string& each : delimiters) {
            longest = std::max(longest, each.size());
        }
        const std::string& ending = delimiters.front();
        const auto tail = payload.last(std::min(payload.size(), longest));
        const std::string seam = std::string(text_of(tail)) + ending;
        progress = {};
        const auto end = delimiter{delimiters, false, seam.size()}.decode(bytes_of(seam), progress);
        if (end.consumed != seam.size() || end.size != tail.size()) {
            detail::refuse(errc::malformed_frame);
        }
    }

    /// Appends the delimiter.
    void encode_trailer(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        if (!is_frame(payload)) {
            const auto ending = bytes_of(delimiters.front());
            out.insert(out.end(), ending.begin(), ending.end());
        }
    }

private:
    /// With `keep`: it has its delimiter already.
    bool is_frame(std::span<const std::byte> payload) const noexcept
    {
        if (!keep) {
            return false;
        }
        decode_progress progress;
        const auto end = decode(payload, progress);
        return end.what == decode_result::outcome::frame && end.consumed == payload.size();
    }

    /// Where the first `wanted` that is not complete within the first `known` bytes ends; npos:
    /// nowhere.
    static std::size_t find_end(
        std::string_view text, std::string_view wanted, std::size_t known) noexcept
    {
        const std::size_t overlap = std::min(known, wanted.size() - 1);
        const std::size_t from = known - overlap;
        if (from > text.size()) {
            return std::string_view::npos;
        }
        const std::size_t begin = text.find(wanted, from);
        return begin == std::string_view::npos ? begin : begin + wanted.size();
    }

    /// How much of `wanted`, but not all of it, is at the end of `text`.
    static std::size_t begun_at_end(std::string_view text, std::string_view wanted) noexcept
    {
        for (std::size_t size = std::min(text.size(), wanted.size() - 1); size != 0; --size) {
            if (text.substr(text.size() - size) == wanted.substr(0, size)) {
                return size;
            }
        }
        return 0;
    }
};
} // namespace fairlead::codec

#endif // FAIRLEAD_CODEC_DELIMITER_HPP
