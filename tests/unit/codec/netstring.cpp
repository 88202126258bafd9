#include "support/codec.hpp"
#include <fairlead/codec/netstring.hpp>

#include <limits>

using fairlead::codec::netstring;
using namespace test;

TEST_CASE("a netstring is length, colon, bytes, comma", "[codec][netstring]")
{
    const netstring codec;
    check_stream(codec, "", frames({}));
    check_stream(codec, "5:hello,0:,12:hello world!,", frames({"hello", "", "hello world!"}));
    check_stream(codec, "3:1:,,", frames({"1:,"}));
    for (const auto* const part : {"5", "5:", "5:hell", "5:hello"}) {
        check_stream(codec, part, cut_off());
    }
    CHECK(encoded(codec, "hello world!") == "12:hello world!,");
    CHECK(encoded(codec, "") == "0:,");
}

TEST_CASE("what is no netstring is malformed at its first wrong byte", "[codec][netstring]")
{
    const netstring codec;
    check_stream(codec, ":", fails(errc::malformed_frame, 1));
    check_stream(codec, "x", fails(errc::malformed_frame, 1));
    check_stream(codec, " 5:hello,", fails(errc::malformed_frame, 1));
    check_stream(codec, "-1:,", fails(errc::malformed_frame, 1));
    check_stream(codec, "05:hello,", fails(errc::malformed_frame, 2));
    check_stream(codec, "00:,", fails(errc::malformed_frame, 2));
    check_stream(codec, "5 :hello,", fails(errc::malformed_frame, 2));
    check_stream(codec, "5:hello!", fails(errc::malformed_frame, 8));
    check_stream(codec, "1:a,5:hello;", fails(errc::malformed_frame, 12, {"a"}));
}

TEST_CASE("a netstring is too large at the digit that makes it so", "[codec][netstring]")
{
    const netstring codec{.max_frame = 12};
    check_stream(codec, "12:hello world!,", frames({"hello world!"}));
    check_stream(codec, "13:", fails(errc::frame_too_large, 2));
    check_stream(codec, "120:", fails(errc::frame_too_large, 3));
    check_stream(netstring{.max_frame = 0}, "0:,1:", fails(errc::frame_too_large, 4, {""}));
    check_stream(netstring{.max_frame = 5}, "6", fails(errc::frame_too_large, 1));
    const netstring unlimited{.max_frame = std::numeric_limits<std::size_t>::max()};
    check_stream(unlimited, "18446744073709551615:", cut_off());
    check_stream(unlimited, "18446744073709551616:", fails(errc::frame_too_large, 20));
    check_stream(unlimited, std::string(30, '9'), fails(errc::frame_too_large, 20));
    CHECK(refusal(codec, "hello world!!") == errc::frame_too_large);
}

TEST_CASE("random netstrings come back", "[codec][netstring]")
{
    check_round_trips(netstring{}, all_bytes(), 2000);
    check_differentially(netstring{.max_frame = 30}, "0123:,");
}
