#include "support/codec.hpp"
#include <fairlead/codec/varint_prefix.hpp>

#include <limits>

using fairlead::codec::varint_prefix;
using namespace test;

TEST_CASE("a variable-length number and as many bytes are a frame", "[codec][varint_prefix]")
{
    const varint_prefix codec;
    check_stream(codec, ""s, frames({}));
    check_stream(codec, "\5hello\0\1x"s, frames({"hello", "", "x"}));
    const std::string long_text(300, 'x');
    check_stream(codec, "\xac\x02"s + long_text, frames({long_text}));
    CHECK(encoded(codec, long_text) == "\xac\x02"s + long_text);
    CHECK(encoded(codec, std::string(127, 'x')).front() == '\x7f');
    CHECK(encoded(codec, std::string(128, 'x')).substr(0, 2) == "\x80\x01");
    check_stream(codec, "\5hell"s, cut_off());
    check_stream(codec, "\0\x80"s, cut_off({""}));
}

TEST_CASE("a length that is longer than it need be is malformed", "[codec][varint_prefix]")
{
    const varint_prefix codec;
    check_stream(codec, "\x80\0"s, fails(errc::malformed_frame, 2));
    check_stream(codec, "\x85\0hello"s, fails(errc::malformed_frame, 2));
    check_stream(codec, "\x80\x80\x80\x80\0"s, fails(errc::malformed_frame, 5));
    check_stream(codec, "\0\x81\x80\0"s, fails(errc::malformed_frame, 4, {""}));
}

TEST_CASE("a length above 64 bits is malformed", "[codec][varint_prefix]")
{
    const varint_prefix codec{.max_frame = std::numeric_limits<std::size_t>::max()};
    const std::string nine(9, '\x80');
    check_stream(codec, nine + "\x80", fails(errc::malformed_frame, 10));
    check_stream(codec, nine + "\x02", fails(errc::malformed_frame, 10));
    check_stream(codec, nine + "\x01", cut_off());
    check_stream(codec, std::string(9, '\xff') + "\x01", fails(errc::frame_too_large, 10));
}

TEST_CASE("a varint is too large as soon as its bits are", "[codec][varint_prefix]")
{
    const varint_prefix codec{.max_frame = 300};
    const std::string most(300, 'x');
    check_stream(codec, "\xac\x02"s + most, frames({most}));
    check_stream(codec, "\xad\x02"s, fails(errc::frame_too_large, 2));
    check_stream(codec, "\xff\xff\xff"s, fails(errc::frame_too_large, 2));
    check_stream(varint_prefix{.max_frame = 5}, "\x86\x01"s, fails(errc::frame_too_large, 1));
    check_stream(
        varint_prefix{.max_frame = 0}, "\0\0\1"s, fails(errc::frame_too_large, 3, {"", ""}));
    CHECK(encoded(codec, most).size() == 302);
    CHECK(refusal(codec, most + "x") == errc::frame_too_large);
}

TEST_CASE("random payloads come back from their varints", "[codec][varint_prefix]")
{
    check_round_trips(varint_prefix{}, all_bytes(), 20'000, 0, 100);
    check_differentially(varint_prefix{.max_frame = 40}, "\0\1\2\x03\x80\x81\xff"s);
    check_differentially(varint_prefix{}, all_bytes());
}
