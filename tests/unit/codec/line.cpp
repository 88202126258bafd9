#include "support/codec.hpp"
#include <fairlead/codec/line.hpp>

using fairlead::codec::line;
using namespace test;

TEST_CASE("a line ends with LF or CRLF, and a lone CR is data", "[codec][line]")
{
    const line codec;
    check_stream(codec, "", frames({}));
    check_stream(codec, "one\ntwo\r\n\n\r\n", frames({"one", "two", "", ""}));
    check_stream(codec, "a\rb\r\r\nc\r", cut_off({"a\rb\r"}));
    check_stream(codec, "\r\r\n", frames({"\r"}));
    check_stream(codec, "one\ntw", cut_off({"one"}));
    check_stream(codec, "zero\0inside\n"s, frames({"zero\0inside"s}));
}

TEST_CASE("a line may keep its ending", "[codec][line]")
{
    const line codec{.keep = true};
    check_stream(codec, "one\ntwo\r\n\n", frames({"one\n", "two\r\n", "\n"}));
    CHECK(encoded(codec, "one\n") == "one\n");
    CHECK(encoded(codec, "one\r\n") == "one\r\n");
    CHECK(encoded(codec, "one") == "one\n");
    CHECK(refusal(codec, "one\ntwo\n") == errc::malformed_frame);
}

TEST_CASE("the ending does not count for the limit of a line", "[codec][line]")
{
    const line codec{.max_frame = 3};
    check_stream(codec, "abc\nabc\r\n", frames({"abc", "abc"}));
    check_stream(codec, "abcd\n", fails(errc::frame_too_large, 4));
    check_stream(codec, "abc\rd", fails(errc::frame_too_large, 5));
    check_stream(codec, "abc\r\r\n", fails(errc::frame_too_large, 5));
    check_stream(codec, "ab\r\r\n", frames({"ab\r"}));
    check_stream(codec, "x\nabcd", fails(errc::frame_too_large, 6, {"x"}));
    check_stream(line{.max_frame = 0}, "\n\r\n", frames({"", ""}));
    check_stream(line{.max_frame = 0}, "a", fails(errc::frame_too_large, 1));
    check_stream(line{.max_frame = 3, .keep = true}, "abc\r\n", frames({"abc\r\n"}));
    CHECK(encoded(codec, "abc") == "abc\n");
    CHECK(refusal(codec, "abcd") == errc::frame_too_large);
    CHECK(encoded(line{.max_frame = 3, .keep = true}, "abc\r\n") == "abc\r\n");
}

TEST_CASE("a line is written so that it is read as it was", "[codec][line]")
{
    CHECK(encoded(line{}, "one") == "one\n");
    CHECK(encoded(line{.crlf = true}, "one") == "one\r\n");
    CHECK(encoded(line{}, "cr\r") == "cr\r\r\n"); // LF alone would take the CR along
    CHECK(refusal(line{}, "one\ntwo") == errc::malformed_frame);
    CHECK(refusal(line{}, "\n") == errc::malformed_frame);
}

TEST_CASE("random lines come back", "[codec][line]")
{
    check_round_trips(line{}, "ab\r"s, 200);
    check_round_trips(line{.crlf = true}, "ab\r\0"s, 200);
    check_differentially(line{.max_frame = 4}, "a\r\n");
    check_differentially(line{.max_frame = 10, .keep = true}, "ab\r\n");
}
