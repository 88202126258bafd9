#include "support/codec.hpp"
#include <fairlead/codec/chunked.hpp>

#include <limits>

using fairlead::codec::chunked;
using namespace test;

TEST_CASE("each chunk is a frame, and an empty one ends the body", "[codec][chunked]")
{
    const chunked codec;
    check_stream(codec, "", frames({}));
    check_stream(
        codec, "4\r\nWiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\n\r\n",
        frames({"Wiki", "pedia", " in\r\n\r\nchunks.", ""}));
    check_stream(codec, "0\r\n\r\n1\r\nx\r\n0\r\n\r\n", frames({"", "x", ""}));
    const std::string longer(0x1a, 'x');
    check_stream(
        codec, "1a\r\n" + longer + "\r\n1A\r\n" + longer + "\r\n", frames({longer, longer}));
    check_stream(codec, "0005\r\nhello\r\n000\r\n\r\n", frames({"hello", ""}));
    CHECK(encoded(codec, "hello") == "5\r\nhello\r\n");
    CHECK(encoded(codec, longer) == "1a\r\n" + longer + "\r\n");
    CHECK(encoded(codec, std::string(16, 'x')).substr(0, 4) == "10\r\n");
    CHECK(encoded(codec, "") == "0\r\n\r\n");
}

TEST_CASE("a body may be cut anywhere but between its chunks", "[codec][chunked]")
{
    const std::string body = "5;a=b\r\nhello\r\n0\r\nName: value\r\n\r\n";
    for (std::size_t size = 1; size < body.size(); ++size) {
        if (size == 14) {
            check_stream(chunked{}, body.substr(0, size), frames({"hello"}));
        } else {
            check_stream(
                chunked{}, body.substr(0, size), size < 14 ? cut_off() : cut_off({"hello"}));
        }
    }
}

TEST_CASE("chunk extensions and trailers are passed over", "[codec][chunked]")
{
    const chunked codec;
    check_stream(codec, "5;name=value\r\nhello\r\n", frames({"hello"}));
    check_stream(codec, "5 \t;a;b=\"c;d\\\"\"\r\nhello\r\n", frames({"hello"}));
    check_stream(
        codec, "0;last\r\nExpires: never\r\nX-Empty:\r\nx: \xc3\xa9\r\n\r\n", frames({""}));
    check_stream(codec, "0\r\nA: b\r\n\r\n1\r\nx\r\n", frames({"", "x"}));
}

TEST_CASE("what is no chunk is malformed at its first wrong byte", "[codec][chunked]")
{
    const chunked codec;
    check_stream(codec, "\r\n", fails(errc::malformed_frame, 1));
    check_stream(codec, ";x\r\n", fails(errc::malformed_frame, 1));
    check_stream(codec, " 5\r\n", fails(errc::malformed_frame, 1));
    check_stream(codec, "-5\r\n", fails(errc::malformed_frame, 1));
    check_stream(codec, "0x5\r\n", fails(errc::malformed_frame, 2));
    check_stream(codec, "5\nhello", fails(errc::malformed_frame, 2)); // a bare LF
    check_stream(codec, "5 \r\n", fails(errc::malformed_frame, 3));   // blanks, and no extension
    check_stream(codec, "5 5\r\n", fails(errc::malformed_frame, 3));
    check_stream(codec, "5\rx", fails(errc::malformed_frame, 3));
    check_stream(codec, "5;\x01\r\n", fails(errc::malformed_frame, 3));
    check_stream(codec, "5;a\n", fails(errc::malformed_frame, 4));
    check_stream(codec, "5\r\nhelloX", fails(errc::malformed_frame, 9));
    check_stream(codec, "5\r\nhello\n", fails(errc::malformed_frame, 9));
    check_stream(codec, "5\r\nhello\rX", fails(errc::malformed_frame, 10));
    check_stream(codec, "0\r\n:x\r\n\r\n", fails(errc::malformed_frame, 4));
    check_stream(codec, "0\r\n folded\r\n", fails(errc::malformed_frame, 4));
    check_stream(codec, "0\r\nname\r\n", fails(errc::malformed_frame, 8));
    check_stream(codec, "0\r\nname : x\r\n", fails(errc::malformed_frame, 8));
    check_stream(codec, "0\r\na: \x7f\r\n", fails(errc::malformed_frame, 7));
    check_stream(codec, "0\r\na: b\n\r\n", fails(errc::malformed_frame, 8));
    check_stream(codec, "0\r\na: b\r\r\n", fails(errc::malformed_frame, 9));
    check_stream(codec, "0\r\n\r\r", fails(errc::malformed_frame, 5));
    check_stream(codec, "0\r\n\n", fails(errc::malformed_frame, 4));
    check_stream(codec, "1\r\nx\r\n1\r\ny!", fails(errc::malformed_frame, 11, {"x"}));
}

TEST_CASE("chunks, their lines and trailers have their limits", "[codec][chunked]")
{
    const chunked codec{.max_frame = 0x12, .max_line = 8, .max_trailers = 12};
    const std::string most(0x12, 'x');
    check_stream(codec, "12\r\n" + most + "\r\n", frames({most}));
    check_stream(codec, "13\r\n", fails(errc::frame_too_large, 2));
    check_stream(codec, "120\r\n", fails(errc::frame_too_large, 3));
    check_stream(codec, "00000001\r\nx\r\n", frames({"x"}));
    check_stream(codec, "000000001\r\n", fails(errc::frame_too_large, 9));
    check_stream(codec, "1;345678\r\nx\r\n", frames({"x"}));
    check_stream(codec, "1;3456789\r\n", fails(errc::frame_too_large, 9));
    check_stream(codec, "0\r\na: 4567890\r\n\r\n", frames({""}));
    check_stream(codec, "0\r\na: b\r\nc: d\r\n\r\n", frames({""}));
    check_stream(codec, "0\r\na: 45678901\r\n\r\n", fails(errc::frame_too_large, 16));
    check_stream(codec, "0\r\na: b\r\nc: d\r\ne", fails(errc::frame_too_large, 16));
    CHECK(refusal(codec, most + "x") == errc::frame_too_large);
    const chunked unlimited{.max_frame = std::numeric_limits<std::size_t>::max()};
    // Sizes with which a computation might overflow.
    check_stream(unlimited, "ffffffffffffffff\r\n", fails(errc::frame_too_large, 15));
    check_stream(unlimited, "fffffffffffffffff\r\n", fails(errc::frame_too_large, 15));
    CHECK_FALSE(chunked{.max_line = 0}.problem().empty());
    CHECK(encoded(chunked{.max_line = 1}, std::string(15, 'x')).front() == 'f');
    CHECK(refusal(chunked{.max_line = 1}, std::string(16, 'x')) == errc::frame_too_large);
}

TEST_CASE("random chunks come back", "[codec][chunked]")
{
    check_round_trips(chunked{}, all_bytes(), 2000);
    check_differentially(chunked{.max_frame = 20, .max_line = 6, .max_trailers = 8}, "012;:a \r\n");
    check_differentially(chunked{}, "0\r\n");
}
