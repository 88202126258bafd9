#include "support/codec.hpp"
#include <fairlead/codec/fixed.hpp>

using fairlead::codec::fixed;
using namespace test;

TEST_CASE("frames of one size follow each other", "[codec][fixed]")
{
    check_stream(fixed{3}, "", frames({}));
    check_stream(fixed{3}, "abcdef", frames({"abc", "def"}));
    check_stream(fixed{3}, "abcde", cut_off({"abc"}));
    check_stream(fixed{1}, "ab", frames({"a", "b"}));
}

TEST_CASE("a payload of another size is no fixed frame", "[codec][fixed]")
{
    CHECK(encoded(fixed{3}, "abc") == "abc");
    CHECK(refusal(fixed{3}, "abcd") == errc::frame_too_large);
    CHECK(refusal(fixed{3}, "ab") == errc::malformed_frame);
    CHECK_FALSE(fixed{0}.problem().empty());
    CHECK_THROWS_AS(fairlead::codec::frame_reader(fixed{0}), std::system_error);
}

TEST_CASE("random fixed frames come back", "[codec][fixed]")
{
    check_round_trips(fixed{7}, all_bytes(), 7, 7);
    check_differentially(fixed{5}, "abc");
}
