#include "support/codec.hpp"
#include <fairlead/codec/cobs.hpp>

using fairlead::codec::cobs;
using namespace test;

namespace
{
/// 1, 2, 3, ... without zeros.
std::string counting(std::size_t size)
{
    std::string text;
    for (std::size_t i = 0; i < size; ++i) {
        text += static_cast<char>(1 + i % 255);
    }
    return text;
}
} // namespace

TEST_CASE("the examples of the paper on byte stuffing", "[codec][cobs]")
{
    const struct
    {
        std::string payload;
        std::string frame;
    } examples[] = {
        {""s, "\x01\0"s},
        {"\0"s, "\x01\x01\0"s},
        {"\0\0"s, "\x01\x01\x01\0"s},
        {"\0\x11\0"s, "\x01\x02\x11\x01\0"s},
        {"\x11\x22\0\x33"s, "\x03\x11\x22\x02\x33\0"s},
        {"\x11\x22\x33\x44"s, "\x05\x11\x22\x33\x44\0"s},
        {"\x11\0\0\0"s, "\x02\x11\x01\x01\x01\0"s},
        {counting(253), "\xfe"s + counting(253) + "\0"s},
        {counting(254), "\xff"s + counting(254) + "\0"s},
        {counting(255), "\xff"s + counting(254) + "\x02\xff\0"s},
        {counting(254) + "\0"s, "\xff"s + counting(254) + "\x01\x01\0"s},
        {"\0"s + counting(254), "\x01\xff"s + counting(254) + "\0"s},
    };
    std::string stream;
    std::vector<std::string> payloads;
    for (const auto& [payload, frame] : examples) {
        CAPTURE(payload);
        CHECK(encoded(cobs{}, payload) == frame);
        stream += frame;
        payloads.push_back(payload);
    }
    check_stream(cobs{}, stream, frames(payloads));
}

TEST_CASE("a full block may be followed by an empty one", "[codec][cobs]")
{
    // As encoders write it that always close their last block.
    check_stream(cobs{}, "\xff"s + counting(254) + "\x01\0"s, frames({counting(254)}));
}

TEST_CASE("a zero where none may be is malformed", "[codec][cobs]")
{
    check_stream(cobs{}, "\0"s, fails(errc::malformed_frame, 1));
    check_stream(cobs{}, "\x02\0"s, fails(errc::malformed_frame, 2));
    check_stream(cobs{}, "\x05\x01\x02\0"s, fails(errc::malformed_frame, 4));
    check_stream(cobs{}, "\x02z\0\0"s, fails(errc::malformed_frame, 4, {"z"}));
    check_stream(cobs{}, "\x02z"s, cut_off());
    check_stream(cobs{}, "\x02z\0\x01"s, cut_off({"z"}));
}

TEST_CASE("the limit of a stuffed frame counts its payload", "[codec][cobs]")
{
    const cobs codec{.max_frame = 3};
    check_stream(codec, "\x04xyz\0"s, frames({"xyz"}));
    check_stream(codec, "\x05xyza\0"s, fails(errc::frame_too_large, 1));
    check_stream(codec, "\x02x\x02y\0"s, frames({"x\0y"s}));
    check_stream(codec, "\x02x\x03yz\0"s, fails(errc::frame_too_large, 3));
    check_stream(codec, "\x01\x01\x01\x01\0"s, frames({"\0\0\0"s}));
    check_stream(codec, "\x01\x01\x01\x01\x01\0"s, fails(errc::frame_too_large, 5));
    CHECK(refusal(codec, "xyza") == errc::frame_too_large);
}

TEST_CASE("frame after frame may be stuffed into the same bytes", "[codec][cobs]")
{
    std::vector<std::byte> out;
    std::size_t moves = 0;
    for (int i = 0; i < 10'000; ++i) {
        const auto* const place = out.data();
        cobs{}.encode(fairlead::codec::bytes_of("payload"), out);
        moves += place != out.data() ? 1 : 0;
    }
    CHECK(moves < 50); // it grows by a factor, not by a frame
}

TEST_CASE("random payloads come back from their stuffing", "[codec][cobs]")
{
    check_round_trips(cobs{}, all_bytes(), 2000);
    check_round_trips(cobs{}, "\0\0\1"s, 300);
    check_round_trips(cobs{}, "\1\2"s, 1100);
    check_differentially(cobs{.max_frame = 12}, "\0\1\2\3\4"s);
}
