// fairlead: the chunks of HTTP's chunked transfer coding. Ring 0.

#ifndef FAIRLEAD_CODEC_CHUNKED_HPP
#define FAIRLEAD_CODEC_CHUNKED_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// Each chunk of a body is a frame, and the end of the body, with its trailer section, is an empty
/// one (RFC 9112, section 7.1). A body is complete when its empty frame has come, and only then: a
/// stream that ends between two chunks is no error here, and the body is cut all the same. After
/// the empty frame the next body may begin.
///
/// Chunk extensions and trailer fields are checked and dropped. Lines end with CRLF and with
/// nothing else: what another reader of the same stream would see elsewhere is how requests are
/// smuggled.
///
/// Errors, at the first byte that is wrong: `errc::frame_too_large` above one of the limits, else
/// `errc::malformed_frame`.
struct chunked
{
    /// Most bytes of a chunk's data.
    std::size_t max_frame = std::size_t(1) << 20;
    /// Most bytes of a line with a chunk's size and extensions, without its CRLF.
    std::size_t max_line = std::size_t(4) << 10;
    /// Most bytes of a body's trailer fields, their line endings included.
    std::size_t max_trailers = std::size_t(8) << 10;

    /// Empty, or what is wrong with the options.
    std::string_view problem() const noexcept
    {
        return max_line == 0 ? "chunked: max_line must be at least 1" : "";
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress& progress) const noexcept
    {
        while (progress.scanned < bytes.size()) {
            const auto byte = std::to_integer<unsigned char>(bytes[progress.scanned]);
            errc error = errc();
            switch (progress.state) {
            case in_size:
            case in_blanks:
            case in_extension:
                error = read_size_line(byte, progress);
                break;
            case before_data:
                error = expect('\n', byte, progress, progress.found == 0 ? in_trailers : in_data);
                if (progress.state == in_trailers) {
                    progress.found = progress.scanned + 1; // where they begin
                }
                break;
            case in_data:
                return read_data(bytes, progress);
            case before_end:
                if (byte == '\n') {
                    return decode_result::frame(progress.scanned + 1, progress.scanned + 1, 0);
                }
                error = errc::malformed_frame;
                break;
            default:
                error = read_trailers(byte, progress);
                break;
            }
            if (error != errc()) {
                return decode_result::failed(error);
            }
            ++progress.scanned;
        }
        return decode_result::needs(missing(progress));
    }

    /// Appends a chunk; an empty payload ends the body. Throws `std::system_error` with
    /// `errc::frame_too_large` above `max_frame`, or when the size has more digits than `max_line`.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::encode_enclosed(*this, payload, out);
    }

    /// Appends the line with the size; throws like `encode`.
    void encode_header(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::require_size(payload.size(), max_frame);
        constexpr std::string_view digits = "0123456789abcdef";
        int shift = 0;
        while (shift + 4 < std::numeric_limits<std::size_t>::digits &&
               payload.size() >> (shift + 4) != 0) {
            shift += 4;
        }
        if (static_cast<std::size_t>(shift / 4) >= max_line) {
            detail::refuse(errc::frame_too_large);
        }
        for (; shift >= 0; shift -= 4) {
            out.push_back(static_cast<std::byte>(digits[payload.size() >> shift & 0xf]));
        }
        append_line_end(out);
    }

    /// Appends the line ending behind the data.
    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>& out) const
    {
        append_line_end(out);
    }

private:
    /// Where the next byte stands.
    enum state : unsigned
    {
        in_size,
        in_blanks, // before an extension
        in_extension,
        before_data, // the CR was read
        in_data,
        in_trailers, // at the beginning of a line
        in_name,
        in_value,
        before_next_line, // the CR was read
        before_end,       // the CR of the empty line was read
    };

    static errc expect(
        unsigned char wanted, unsigned char byte, decode_progress& progress, state next) noexcept
    {
        if (byte != wanted) {
            return errc::malformed_frame;
        }
        progress.state = next;
        return errc();
    }

    errc read_size_line(unsigned char byte, decode_progress& progress) const noexcept
    {
        if (byte == '\r' && progress.scanned != 0 && progress.state != in_blanks) {
            progress.state = before_data;
            return errc();
        }
        if (progress.scanned >= max_line) {
            return errc::frame_too_large;
        }
        const int digit = progress.state == in_size ? hex_value(byte) : -1;
        if (digit >= 0) {
            const std::size_t most =
                std::min(max_frame, std::numeric_limits<std::size_t>::max() / 32);
            progress.found = progress.found * 16 + static_cast<std::size_t>(digit);
            return progress.found > most ? errc::frame_too_large : errc();
        }
        if (progress.state == in_extension) {
            return is_text(byte) ? errc() : errc::malformed_frame;
        }
        if (progress.scanned == 0 || (byte != ';' && byte != ' ' && byte != '\t')) {
            return errc::malformed_frame;
        }
        progress.state = byte == ';' ? in_extension : in_blanks;
        return errc();
    }

    static decode_result read_data(
        std::span<const std::byte> bytes, const decode_progress& progress) noexcept
    {
        const std::size_t end = progress.scanned + progress.found;
        const bool has_cr = bytes.size() > end;
        const bool has_lf = bytes.size() > end + 1;
        if ((has_cr && bytes[end] != std::byte{'\r'}) ||
            (has_lf && bytes[end + 1] != std::byte{'\n'})) {
            return decode_result::failed(errc::malformed_frame);
        }
        return has_lf ? decode_result::frame(end + 2, progress.scanned, progress.found)
                      : decode_result::needs(end + 2 - bytes.size());
    }

    errc read_trailers(unsigned char byte, decode_progress& progress) const noexcept
    {
        if (progress.state == in_trailers && byte == '\r') {
            progress.state = before_end;
            return errc();
        }
        if (progress.scanned - progress.found >= max_trailers) {
            return errc::frame_too_large;
        }
        switch (progress.state) {
        case in_trailers:
        case in_name:
            if (byte == ':' && progress.state == in_name) {
                progress.state = in_value;
                return errc();
            }
            progress.state = in_name;
            return is_token(byte) ? errc() : errc::malformed_frame;
        case in_value:
            if (byte == '\r') {
                progress.state = before_next_line;
                return errc();
            }
            return is_text(byte) ? errc() : errc::malformed_frame;
        default:
            return expect('\n', byte, progress, in_trailers);
        }
    }

    /// Bytes that a frame lacks at least.
    static std::size_t missing(const decode_progress& progress) noexcept
    {
        constexpr std::size_t line_end = 2;
        switch (progress.state) {
        case in_size:
            if (progress.scanned == 0) {
                return 1 + 2 * line_end;
            }
            [[fallthrough]];
        case in_blanks:
        case in_extension:
            return line_end + progress.found + line_end;
        case before_data:
            return 1 + progress.found + line_end;
        case in_data:
            return progress.found + line_end;
        case in_name:
            return 1 + 2 * line_end;
        case in_value:
            return 2 * line_end;
        case before_next_line:
            return 1 + line_end;
        case before_end:
            return 1;
        default:
            return line_end;
        }
    }

    static int hex_value(unsigned char byte) noexcept
    {
        if (byte >= '0' && byte <= '9') {
            return byte - '0';
        }
        const auto letter = static_cast<unsigned char>(byte | 0x20U);
        return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
    }

    /// May stand in an extension or a field's value (RFC 9110, section 5.5).
    static bool is_text(unsigned char byte) noexcept
    {
        return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
    }

    /// May stand in a field's name (RFC 9110, section 5.6.2).
    static bool is_token(unsigned char byte) noexcept
    {
        constexpr std::string_view separators = "\"(),/:;<=>?@[\\]{}";
        return byte > 0x20 && byte < 0x7f &&
               separators.find(static_cast<char>(byte)) == std::string_view::npos;
    }

    static void append_line_end(std::vector<std::byte>& out)
    {
        out.push_back(std::byte{'\r'});
        out.push_back(std::byte{'\n'});
    }
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_CHUNKED_HPP
