// A codec's frames, however the stream is cut.

#ifndef FAIRLEAD_TESTS_SUPPORT_CODEC_HPP
#define FAIRLEAD_TESTS_SUPPORT_CODEC_HPP

#include "support/catch.hpp"
#include <fairlead/codec/frame_reader.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace test
{
using namespace std::string_literals; // "\0"s has its zero
using fairlead::errc;

/// What came of a stream.
struct decoded_stream
{
    std::vector<std::string> frames = {};
    /// Of the codec; empty: none.
    std::error_code error = {};
    /// The stream ended then and there.
    std::error_code finish = {};
    /// Bytes that had been fed when the error came.
    std::size_t failed_after = 0;

    friend bool operator==(const decoded_stream& a, const decoded_stream& b)
    {
        return a.frames == b.frames && a.error == b.error && a.finish == b.finish;
    }
};

/// Takes every frame that is there.
template <typename Codec>
void take_frames(fairlead::codec::frame_reader<Codec>& reader, decoded_stream& result)
{
    std::error_code error;
    while (const auto frame = reader.next(error)) {
        result.frames.emplace_back(fairlead::codec::text_of(*frame));
    }
    result.error = error;
}

/// Feeds the stream in pieces of the given sizes, and what is left at the end.
template <typename Codec>
decoded_stream decode_in_pieces(
    const Codec& codec, std::string_view stream, const std::vector<std::size_t>& sizes)
{
    fairlead::codec::frame_reader<Codec> reader(codec);
    decoded_stream result;
    std::size_t fed = 0;
    const auto feed = [&](std::size_t size) {
        size = std::min(size, stream.size() - fed);
        reader.feed(fairlead::codec::bytes_of(stream.substr(fed, size)));
        fed += size;
        take_frames(reader, result);
        if (result.error && result.failed_after == 0) {
            result.failed_after = fed;
        }
    };
    for (const std::size_t size : sizes) {
        feed(size);
    }
    feed(stream.size());
    result.finish = reader.finish();
    return result;
}

template <typename Codec>
decoded_stream decode_whole(const Codec& codec, std::string_view stream)
{
    return decode_in_pieces(codec, stream, {});
}

template <typename Codec>
decoded_stream decode_bytewise(const Codec& codec, std::string_view stream)
{
    return decode_in_pieces(codec, stream, std::vector<std::size_t>(stream.size(), 1));
}

/// Checks that the stream gives exactly this, whole, byte by byte, and cut in two at every place.
template <typename Codec>
void check_stream(const Codec& codec, const std::string& stream, const decoded_stream& expected)
{
    CAPTURE(stream);
    const auto whole = decode_whole(codec, stream);
    CHECK(whole.frames == expected.frames);
    CHECK(whole.error == expected.error);
    CHECK(whole.finish == (expected.error ? expected.error : expected.finish));
    const auto bytewise = decode_bytewise(codec, stream);
    CHECK((bytewise == whole));
    if (expected.failed_after != 0) {
        CHECK(bytewise.failed_after == expected.failed_after);
    }
    for (std::size_t cut = 1; cut < stream.size(); ++cut) {
        CAPTURE(cut);
        REQUIRE((decode_in_pieces(codec, stream, {cut}) == whole));
    }
}

/// The frames, and nothing wrong.
inline decoded_stream frames(std::vector<std::string> expected)
{
    return {.frames = std::move(expected)};
}

/// The frames, and then the error, at this byte (counted from 1).
inline decoded_stream fails(errc error, std::size_t after, std::vector<std::string> before = {})
{
    return {.frames = std::move(before), .error = error, .failed_after = after};
}

/// The frames, and then a part of one.
inline decoded_stream cut_off(std::vector<std::string> before = {})
{
    return {.frames = std::move(before), .finish = errc::truncated_frame};
}

template <typename Codec>
std::string encoded(const Codec& codec, const std::string& payload)
{
    std::vector<std::byte> out;
    codec.encode(fairlead::codec::bytes_of(payload), out);
    return std::string(fairlead::codec::text_of(out));
}

/// The error of an `encode` that must refuse, and that must leave alone what was there.
template <typename Codec>
std::error_code refusal(const Codec& codec, const std::string& payload)
{
    std::vector<std::byte> out(3, std::byte{7});
    try {
        codec.encode(fairlead::codec::bytes_of(payload), out);
    } catch (const std::system_error& error) {
        CHECK(out == std::vector<std::byte>(3, std::byte{7}));
        return error.code();
    }
    FAIL("a payload was not refused");
    return {};
}

/// `size` bytes, each drawn from `alphabet`.
inline std::string random_text(std::mt19937& random, std::size_t size, std::string_view alphabet)
{
    std::string text(size, '\0');
    for (char& byte : text) {
        byte = alphabet[random() % alphabet.size()];
    }
    return text;
}

/// Every byte there is.
inline std::string all_bytes()
{
    std::string bytes;
    for (int value = 0; value < 256; ++value) {
        bytes += static_cast<char>(value);
    }
    return bytes;
}

/// Payloads of random sizes, up to `most`, come back as they were from a stream that is cut at
/// random places; and at each of them `wanted` asks for no more than is missing to the next frame.
template <typename Codec>
void check_round_trips(
    const Codec& codec, std::string_view alphabet, std::size_t most, std::size_t least = 0,
    int rounds = 300)
{
    std::mt19937 random(20'261'123); // NOLINT: the same for each run
    for (int round = 0; round < rounds; ++round) {
        CAPTURE(round);
        std::vector<std::string> payloads;
        std::vector<std::size_t> ends;
        std::string stream;
        for (std::size_t count = random() % 8; payloads.size() <= count;) {
            // Small ones are the interesting ones.
            const std::size_t bound = random() % 2 == 0 ? std::min<std::size_t>(most, 5) : most;
            payloads.push_back(random_text(
                random, std::max(least, static_cast<std::size_t>(random() % (bound + 1))),
                alphabet));
            stream += encoded(codec, payloads.back());
            ends.push_back(stream.size());
        }
        fairlead::codec::frame_reader<Codec> reader(codec);
        decoded_stream result;
        for (std::size_t fed = 0; fed < stream.size();) {
            const std::size_t size = std::min<std::size_t>(
                stream.size() - fed, random() % 3 == 0 ? 1 + random() % 200 : 1 + random() % 3);
            reader.feed(fairlead::codec::bytes_of(std::string_view(stream).substr(fed, size)));
            fed += size;
            take_frames(reader, result);
            REQUIRE_FALSE(result.error);
            const auto next_end = std::upper_bound(ends.begin(), ends.end(), fed);
            if (next_end != ends.end()) {
                REQUIRE(reader.wanted() >= 1);
                REQUIRE(reader.wanted() <= *next_end - fed);
            }
        }
        REQUIRE(result.frames == payloads);
        REQUIRE_FALSE(reader.finish());
    }
}

/// Random bytes: whatever they mean, they mean it whole, byte by byte and in pieces.
template <typename Codec>
void check_differentially(const Codec& codec, std::string_view alphabet, int rounds = 2000)
{
    std::mt19937 random(42); // NOLINT: the same for each run
    for (int round = 0; round < rounds; ++round) {
        const auto stream = random_text(random, random() % 60, alphabet);
        const auto whole = decode_whole(codec, stream);
        CAPTURE(round, stream);
        REQUIRE((decode_bytewise(codec, stream) == whole));
        REQUIRE(
            (decode_in_pieces(
                 codec, stream, {random() % 20, random() % 20, random() % 20, random() % 20}) ==
             whole));
    }
}
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_CODEC_HPP
