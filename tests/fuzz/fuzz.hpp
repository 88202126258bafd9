// What every fuzz target of a codec checks. A target takes the codec's options from the first bytes
// of its input; the rest is the stream.

#ifndef FAIRLEAD_TESTS_FUZZ_FUZZ_HPP
#define FAIRLEAD_TESTS_FUZZ_FUZZ_HPP

#include <fairlead/codec/frame_reader.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz
{
using fairlead::errc;
using fairlead::codec::bytes_of;
using fairlead::codec::text_of;

/// Ends the process, in a way that libFuzzer and the replay both notice, unless it `holds`.
inline void require(bool holds, const char* what)
{
    if (!holds) {
        std::fprintf(stderr, "fuzz: %s\n", what);
        std::abort();
    }
}

/// Options first, then the stream.
class input
{
public:
    input(const std::uint8_t* data, std::size_t size) : rest_(std::as_bytes(std::span(data, size)))
    {}

    /// The next byte; 0 when there is none.
    std::size_t byte() noexcept
    {
        if (rest_.empty()) {
            return 0;
        }
        const auto value = std::to_integer<std::size_t>(rest_.front());
        rest_ = rest_.subspan(1);
        return value;
    }

    bool flag() noexcept
    {
        return byte() % 2 != 0;
    }

    template <typename Value, std::size_t Size>
    Value one_of(const Value (&values)[Size]) noexcept
    {
        return values[byte() % Size];
    }

    /// A limit: small ones are the interesting ones, and those at which a sum overflows.
    std::size_t limit() noexcept
    {
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
        constexpr std::size_t limits[] = {1 << 20, 0,   1,   2,   3,   5,        8,        13,
                                          40,      254, 255, 256, 300, most / 2, most - 1, most};
        return one_of(limits);
    }

    /// The next bytes; fewer when there are fewer.
    std::span<const std::byte> take(std::size_t size) noexcept
    {
        const auto taken = rest_.first(std::min(size, rest_.size()));
        rest_ = rest_.subspan(taken.size());
        return taken;
    }

    std::span<const std::byte> rest() const noexcept
    {
        return rest_;
    }

private:
    std::span<const std::byte> rest_;
};

/// What came of a stream.
struct outcome
{
    std::vector<std::string> frames = {};
    /// Where in the stream each frame ends.
    std::vector<std::size_t> ends = {};
    /// Of the codec; empty: none.
    std::error_code error = {};
    bool ended_inside = false;
};

/// A copy with nothing behind it, so that AddressSanitizer sees a decoder that reads too far.
inline std::unique_ptr<std::byte[]> exact_copy(std::span<const std::byte> bytes)
{
    auto copy = std::make_unique<std::byte[]>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), copy.get());
    return copy;
}

/// The decoder alone, on all of the stream at once.
template <typename Codec>
outcome decode_whole(const Codec& codec, std::span<const std::byte> stream)
{
    const auto copy = exact_copy(stream);
    std::span<std::byte> rest(copy.get(), stream.size());
    outcome result;
    for (;;) {
        fairlead::codec::decode_progress progress;
        const auto seen = codec.decode(rest, progress);
        switch (seen.what) {
        case fairlead::codec::decode_result::outcome::failed:
            result.error = make_error_code(seen.error);
            require(
                seen.error == errc::frame_too_large || seen.error == errc::malformed_frame,
                "a decoder fails with one of two errors");
            return result;
        case fairlead::codec::decode_result::outcome::incomplete:
            require(seen.size >= 1, "an unfinished frame lacks a byte at least");
            result.ended_inside = !rest.empty();
            return result;
        case fairlead::codec::decode_result::outcome::frame:
            break;
        }
        require(seen.consumed != 0 && seen.consumed <= rest.size(), "a frame is part of its bytes");
        require(
            seen.offset <= seen.consumed && seen.size <= seen.consumed - seen.offset,
            "a payload is part of its frame");
        std::span<std::byte> payload = rest.subspan(seen.offset, seen.size);
        if constexpr (fairlead::codec::packing_codec<Codec>) {
            payload = codec.unpack(payload);
        }
        result.frames.emplace_back(text_of(payload));
        rest = rest.subspan(seen.consumed);
        result.ends.push_back(stream.size() - rest.size());
    }
}

/// A reader that is fed in pieces, of a size that `size_of_next()` gives, finds what
/// `decode_whole` has found: the same frames, the same error, and each frame no later than
/// `wanted` had said.
template <typename Codec, typename Sizes>
void check_pieces(
    const Codec& codec, std::span<const std::byte> stream, const outcome& expected,
    Sizes size_of_next)
{
    fairlead::codec::frame_reader<Codec> reader(codec);
    std::size_t found = 0;
    std::error_code error;
    const auto take = [&] {
        for (;;) {
            const std::byte* const begin = reader.pending().data();
            const bool promised = reader.wanted() == 0;
            const auto frame = reader.next(error);
            require(promised == (frame || error), "wanted() is 0 when next() has an answer");
            if (!frame) {
                return;
            }
            // Comparing integers: pointers of different objects have no order.
            const auto address = [](const void* at) {
                return reinterpret_cast<std::uintptr_t>(at);
            };
            require(
                frame->empty() ||
                    (address(frame->data()) >= address(begin) &&
                     address(frame->data()) + frame->size() <= address(reader.pending().data())),
                "a frame is a view of the reader's buffer");
            require(found < expected.frames.size(), "pieces give no frame more");
            require(text_of(*frame) == expected.frames[found], "pieces give the same frames");
            ++found;
        }
    };
    take();
    for (std::size_t fed = 0; fed < stream.size();) {
        const std::size_t size =
            std::min(std::max<std::size_t>(size_of_next(), 1), stream.size() - fed);
        reader.feed(stream.subspan(fed, size));
        fed += size;
        take();
        if (!error) {
            require(reader.wanted() >= 1, "a reader without a frame wants more");
            if (found < expected.ends.size()) {
                require(expected.ends[found] > fed, "a frame is found when its last byte has come");
                require(
                    reader.wanted() <= expected.ends[found] - fed,
                    "wanted() does not ask for more than the frame lacks");
            }
        }
        // What a header announces is never allocated.
        require(reader.capacity() <= 3 * stream.size() + 256, "memory grows with what came");
    }
    require(found == expected.frames.size(), "pieces give no frame less");
    require(error == expected.error, "pieces give the same error");
    if (expected.error) {
        require(reader.finish() == expected.error, "finish() gives the decoder's error");
    } else {
        require(
            reader.finish() == (expected.ended_inside ? make_error_code(errc::truncated_frame)
                                                      : std::error_code()),
            "finish() knows whether a frame was cut");
    }
}

/// What decoding gives for what `encode` made of a payload.
enum class promise
{
    /// The payload.
    payload,
    /// The whole frame, of which the payload is the beginning.
    frame,
    /// That depends on the options.
    nothing,
};

/// `encode` writes one frame with this payload, or refuses it and leaves everything as it was.
/// Returns whether it did not refuse.
template <typename Codec>
bool check_encode(const Codec& codec, std::span<const std::byte> payload, promise given)
{
    const std::byte before[] = {std::byte{7}, std::byte{0}, std::byte{'\n'}};
    std::vector<std::byte> out(std::begin(before), std::end(before));
    try {
        codec.encode(payload, out);
    } catch (const std::system_error& refused) {
        require(
            refused.code() == errc::frame_too_large || refused.code() == errc::malformed_frame,
            "a payload is refused with one of two errors");
        require(std::ranges::equal(out, before), "what refuses leaves things as they were");
        return false;
    }
    const auto frame = std::span<const std::byte>(out).subspan(std::size(before));
    require(
        std::ranges::equal(std::span(out).first(std::size(before)), before), "encode only appends");
    if constexpr (fairlead::codec::enclosing_codec<Codec>) {
        std::vector<std::byte> parts;
        codec.encode_header(payload, parts);
        parts.insert(parts.end(), payload.begin(), payload.end());
        codec.encode_trailer(payload, parts);
        require(std::ranges::equal(parts, frame), "header, payload and trailer are the frame");
    }
    if (given != promise::nothing) {
        const auto decoded = decode_whole(codec, frame);
        require(!decoded.error && !decoded.ended_inside, "what was encoded is a frame");
        require(decoded.frames.size() == 1, "what was encoded is one frame");
        require(
            decoded.frames.front() == text_of(given == promise::frame ? frame : payload),
            "what was encoded comes back");
        require(
            given == promise::payload ||
                text_of(frame).substr(0, payload.size()) == text_of(payload),
            "a frame begins with its payload");
    }
    return true;
}

/// All of it. `always`: `encode` takes every payload that `decode` gives.
template <typename Codec>
void check(const Codec& codec, std::span<const std::byte> stream, promise given, bool always = true)
{
    if (!std::string_view(codec.problem()).empty()) {
        return;
    }
    const auto whole = decode_whole(codec, stream);
    check_pieces(codec, stream, whole, [&] { return stream.size(); });
    check_pieces(codec, stream, whole, [] { return std::size_t(1); });
    // Pieces of sizes that are bytes of the stream, so that the fuzzer can choose them.
    std::size_t place = 0;
    check_pieces(codec, stream, whole, [&] {
        return std::to_integer<std::size_t>(stream[place++ % stream.size()]) % 32;
    });
    constexpr std::size_t enough = 16; // a stream of a thousand one-byte frames says no more
    for (std::size_t i = 0; i < std::min(enough, whole.frames.size()); ++i) {
        const bool taken = check_encode(codec, bytes_of(whole.frames[i]), given);
        require(taken || !always, "encode takes what decode gives");
    }
    check_encode(codec, stream, given);
}
} // namespace fuzz

#endif // FAIRLEAD_TESTS_FUZZ_FUZZ_HPP
