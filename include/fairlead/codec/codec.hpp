// fairlead: what a framing codec is: a value that finds frames in a byte stream and makes them.
// Running one over a stream is for frame_reader.hpp; over a connection, for framed.hpp. Ring 0.

#ifndef FAIRLEAD_CODEC_CODEC_HPP
#define FAIRLEAD_CODEC_CODEC_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Throws `std::system_error`.
[[noreturn]] inline void refuse(errc reason)
{
    throw std::system_error(make_error_code(reason));
}

/// The same, with the numbers, when a payload is above its limit.
inline void require_size(std::size_t size, std::size_t most)
{
    if (size > most) {
        throw std::system_error(
            make_error_code(errc::frame_too_large), "a payload of " + std::to_string(size) +
                                                        " bytes, and max_frame is " +
                                                        std::to_string(most));
    }
}

/// The same with `errc::invalid_config`, when a codec's options are wrong.
template <typename Codec>
void require_valid(const Codec& codec)
{
    if (const std::string_view problem = codec.problem(); !problem.empty()) {
        throw std::system_error(make_error_code(errc::invalid_config), std::string(problem));
    }
}

/// What `encode` of an `enclosing_codec` does: all or nothing.
template <typename Codec>
void encode_enclosed(
    const Codec& codec, std::span<const std::byte> payload, std::vector<std::byte>& out)
{
    const std::size_t before = out.size();
    try {
        codec.encode_header(payload, out);
        out.insert(out.end(), payload.begin(), payload.end());
        codec.encode_trailer(payload, out);
    } catch (...) {
        out.resize(before);
        throw;
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

namespace FAIRLEAD_NAMESPACE::codec
{
/// How far a decoder has looked into an unfinished frame, so that it need not look there again.
/// Begins as zeros for each frame; what the numbers mean is the codec's affair.
struct decode_progress
{
    /// Bytes that need not be looked at again.
    std::size_t scanned = 0;
    /// Whatever else the codec has found out about them.
    std::size_t found = 0;
    /// Where in the codec's grammar the next byte stands.
    unsigned state = 0;
};

/// What a decoder makes of the bytes of a stream, of which the first is the first of a frame.
struct decode_result
{
    enum class outcome
    {
        /// The frame is not complete; `size` says how many bytes more are needed, at least.
        incomplete,
        /// A frame.
        frame,
        /// No frame can come of these bytes; `error` says why.
        failed,
    };

    static decode_result needs(std::size_t at_least) noexcept
    {
        return {.what = outcome::incomplete, .size = at_least};
    }

    static decode_result frame(
        std::size_t taken, std::size_t payload_begin, std::size_t payload_size) noexcept
    {
        return {
            .what = outcome::frame,
            .consumed = taken,
            .offset = payload_begin,
            .size = payload_size};
    }

    static decode_result failed(errc reason) noexcept
    {
        return {.what = outcome::failed, .error = reason};
    }

    outcome what = outcome::incomplete;
    /// The whole frame with all that belongs to it; never 0 for a frame.
    std::size_t consumed = 0;
    /// Where in it the payload begins.
    std::size_t offset = 0;
    /// The payload's size; of an unfinished frame, how many bytes are missing, at least 1.
    std::size_t size = 1;
    errc error = errc();
};

/// A codec: an aggregate of options with a decoder and an encoder. Its members may be called from
/// any thread; it holds no state of a stream.
///
/// - `problem()`: empty, or what is wrong with the options.
/// - `decode(bytes, progress)`: the first frame in `bytes`, which begin where a frame begins.
///   Called again with the same bytes and more behind them, and the same `progress`, until the
///   frame is complete. What it answers does not depend on how the bytes were cut.
/// - `encode(payload, out)`: appends one frame to `out`. Throws `std::system_error`:
///   `errc::frame_too_large` when the payload is above the limit, `errc::malformed_frame` when no
///   frame can carry it; `out` is then as it was.
template <typename Codec>
concept codec = std::copyable<Codec> && requires(
    const Codec codec, std::span<const std::byte> bytes, decode_progress& progress,
    std::vector<std::byte>& out)
{
    // clang-format off
        { codec.problem() } -> std::convertible_to<std::string_view>;
        { codec.decode(bytes, progress) } -> std::same_as<decode_result>;
        { codec.encode(bytes, out) } -> std::same_as<void>;
    // clang-format on
};

/// A codec whose payload stands in the stream in another form than it has outside: `unpack` turns
/// what `decode` has found into the payload, in place, and returns it.
template <typename Codec>
concept packing_codec = codec<Codec> && requires(const Codec codec, std::span<std::byte> packed)
{
    // clang-format off
    { codec.unpack(packed) } -> std::same_as<std::span<std::byte>>;
    // clang-format on
};

/// A codec that puts its payload between a header and a trailer, and leaves it as it is: the three
/// can be written at once without a copy of the payload. `encode` is then the two and the payload
/// between them.
///
/// - `encode_header(payload, out)`: appends what precedes the payload; throws like `encode`.
/// - `encode_trailer(payload, out)`: appends what follows it.
template <typename Codec>
concept enclosing_codec = codec<Codec> &&
    requires(const Codec codec, std::span<const std::byte> payload, std::vector<std::byte>& out)
{
    codec.encode_header(payload, out);
    codec.encode_trailer(payload, out);
};

/// A codec whose payloads are text: it says `static constexpr bool payload_is_text = true`. Its frames are
/// handed out as `text_frame`.
template <typename Codec>
concept text_codec = codec<Codec> && requires
{
    requires Codec::payload_is_text;
};

/// The bytes of a text, for payloads. As long as the text.
inline std::span<const std::byte> bytes_of(std::string_view text) noexcept
{
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// Bytes are their own.
inline std::span<const std::byte> bytes_of(std::span<const std::byte> bytes) noexcept
{
    return bytes;
}

/// The text of bytes, for payloads. As long as the bytes.
inline std::string_view text_of(std::span<const std::byte> bytes) noexcept
{
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A payload that is text: a `std::string_view`, and bytes to whom wants bytes, as the payload of
/// every codec is. Valid as long as what it was made of.
class text_frame : public std::string_view
{
public:
    constexpr text_frame() noexcept = default;

    explicit text_frame(std::span<const std::byte> bytes) noexcept
        : std::string_view(text_of(bytes))
    {}

    operator std::span<const std::byte>() const noexcept
    {
        return bytes_of(*this);
    }
};

/// What a codec's payloads are handed out as.
template <codec Codec>
using frame_of = std::conditional_t<text_codec<Codec>, text_frame, std::span<const std::byte>>;
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_CODEC_HPP
