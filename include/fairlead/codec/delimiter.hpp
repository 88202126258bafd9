// fairlead: frames that end with a delimiter. Ring 0.

#ifndef FAIRLEAD_CODEC_DELIMITER_HPP
#define FAIRLEAD_CODEC_DELIMITER_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// A frame ends where the first of its delimiters is complete. Of delimiters that are complete at
/// the same byte the longest counts, so `{"\n", "\r\n"}` takes a CR for part of the ending. What
/// comes later never changes where a frame ends.
///
/// Errors: `errc::frame_too_large` at the first byte after which no frame within `max_frame` can
/// come.
struct delimiter
{
    /// Payloads are handed out as text.
    static constexpr bool payload_is_text = true;

    /// At least one, none of them empty. The first to be complete ends the frame, so that one which
    /// holds another before its own end is never found. `encode` uses the first of the list.
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
        if (const auto [size, end] = find(text, progress.scanned); end != 0) {
            return size > max_frame ? decode_result::failed(errc::frame_too_large)
                                    : decode_result::frame(end, 0, keep ? end : size);
        }
        progress.scanned = text.size();
        std::size_t most_begun = 0;
        std::size_t missing = delimiters.front().size();
        for (const std::string& each : delimiters) {
            const std::size_t begun = begun_at_end(text, each);
            most_begun = std::max(most_begun, begun);
            missing = std::min(missing, each.size() - begun);
        }
        return text.size() - most_begun > max_frame ? decode_result::failed(errc::frame_too_large)
                                                    : decode_result::needs(missing);
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
        // The first delimiter to be complete must be the one behind the payload: none in the
        // payload, and none that begins in it and ends in the delimiter.
        if (find(text_of(payload), 0).end != 0) {
            detail::refuse(errc::malformed_frame);
        }
        std::size_t longest = 0;
        for (const std::string& each : delimiters) {
            longest = std::max(longest, each.size());
        }
        const auto tail = payload.last(std::min(payload.size(), longest));
        std::string seam(text_of(tail));
        seam += delimiters.front();
        const auto [size, end] = find(seam, tail.size());
        if (end != seam.size() || size != tail.size()) {
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
    static constexpr std::size_t smallest_piece = 128;

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

    /// A frame's size without its delimiter and with it; 0 and 0: there is none.
    struct found_frame
    {
        std::size_t size = 0;
        std::size_t end = 0;
    };

    /// The first frame of `text`, in whose first `known` bytes no delimiter is complete.
    found_frame find(std::string_view text, std::size_t known) const noexcept
    {
        if (delimiters.size() == 1) {
            return find_in(text, known);
        }
        // Several are looked for piece by piece: one that is rare is not to be sought in all that
        // has come, again for each of the small frames that another one ends.
        for (std::size_t piece = smallest_piece; known < text.size(); piece *= 2) {
            const std::size_t next = known + std::min(piece, text.size() - known);
            if (const found_frame found = find_in(text.substr(0, next), known); found.end != 0) {
                return found;
            }
            known = next;
        }
        return {};
    }

    found_frame find_in(std::string_view text, std::size_t known) const noexcept
    {
        found_frame found;
        for (const std::string& each : delimiters) {
            const std::size_t from = known - std::min(known, each.size() - 1);
            const std::size_t size = text.find(each, from);
            if (size == std::string_view::npos) {
                continue;
            }
            const std::size_t end = size + each.size();
            if (found.end == 0 || end < found.end || (end == found.end && size < found.size)) {
                found = {.size = size, .end = end};
                text = text.substr(0, end); // nothing that ends later counts
            }
        }
        return found;
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
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_DELIMITER_HPP
