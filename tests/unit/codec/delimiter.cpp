#include "support/codec.hpp"
#include <fairlead/codec/delimiter.hpp>

using fairlead::codec::delimiter;
using namespace test;

TEST_CASE("a frame ends with its delimiter", "[codec][delimiter]")
{
    check_stream(delimiter{{"\0"s}}, "one\0\0two\0"s, frames({"one", "", "two"}));
    check_stream(delimiter{{"||"}}, "a|b||c||||", frames({"a|b", "c", ""}));
    check_stream(delimiter{{"END"}}, "xENDENENDEN", cut_off({"x", "EN"}));
    check_stream(delimiter{{"||"}, true}, "a||b||", frames({"a||", "b||"}));
    check_stream(delimiter{{"||"}}, "", frames({}));
}

TEST_CASE("of several delimiters the first to be complete ends the frame", "[codec][delimiter]")
{
    check_stream(delimiter{{"\n", "\r\n"}}, "one\ntwo\r\n", frames({"one", "two"}));
    check_stream(delimiter{{"\r\n", "\n"}}, "one\ntwo\r\n", frames({"one", "two"}));
    // The shorter one is complete first, and what comes later does not change that.
    check_stream(delimiter{{"\r", "\r\n"}}, "one\r\ntwo\r", frames({"one", "\ntwo"}));
    check_stream(delimiter{{"abcd", "bc"}}, "xabcdx", cut_off({"xa"}));
    check_stream(delimiter{{"ab", "cab"}}, "xcabxab", frames({"x", "x"}));
}

TEST_CASE("a delimited frame is too large as soon as it cannot end in time", "[codec][delimiter]")
{
    const delimiter codec{{"||"}, false, 3};
    check_stream(codec, "abc||", frames({"abc"}));
    check_stream(codec, "abc|d", fails(errc::frame_too_large, 5));
    check_stream(codec, "abcd", fails(errc::frame_too_large, 4));
    check_stream(codec, "|||||", cut_off({"", ""}));
    const delimiter several{{"|", "12345"}, false, 2};
    check_stream(several, "ab12345", frames({"ab"}));
    check_stream(several, "ab1234x", fails(errc::frame_too_large, 7));
    CHECK(encoded(codec, "abc") == "abc||");
    CHECK(refusal(codec, "abcd") == errc::frame_too_large);
}

TEST_CASE("a payload that would end elsewhere is refused", "[codec][delimiter]")
{
    CHECK(refusal(delimiter{{"||"}}, "a||b") == errc::malformed_frame);
    CHECK(refusal(delimiter{{"||"}}, "a|") == errc::malformed_frame); // "a|||" ends too early
    CHECK(refusal(delimiter{{"\n", "\r\n"}}, "a\r") == errc::malformed_frame);
    CHECK(refusal(delimiter{{"aba"}}, "ab") == errc::malformed_frame);
    CHECK(encoded(delimiter{{"aba"}}, "b") == "baba");
    CHECK(encoded(delimiter{{"||"}, true}, "a||") == "a||");
    CHECK(encoded(delimiter{{"||"}, true}, "a") == "a||");
    CHECK(refusal(delimiter{{"||"}, true}, "a||b||") == errc::malformed_frame);
}

TEST_CASE("a delimiter far away is found as one nearby", "[codec][delimiter]")
{
    const delimiter codec{{"\r\n", "\n"}};
    for (const std::size_t size : {126U, 127U, 128U, 129U, 382U, 383U, 384U, 385U, 100'000U}) {
        const std::string text(size, 'x');
        CAPTURE(size);
        const auto found = decode_whole(codec, text + "\r\n" + text + "\n" + text + "\r");
        CHECK((found == cut_off({text, text})));
    }
}

// Takes minutes when each frame searches all that follows it for the delimiter that is not there.
TEST_CASE("a rare delimiter is not sought again for each frame", "[codec][delimiter]")
{
    constexpr std::size_t count = 2'000'000;
    std::string stream;
    for (std::size_t i = 0; i < count; ++i) {
        stream += "x\n";
    }
    const delimiter codec{{"\r\n", "\n"}};
    fairlead::codec::frame_reader reader(codec);
    reader.feed(fairlead::codec::bytes_of(stream));
    std::error_code error;
    std::size_t frames = 0;
    while (reader.next(error)) {
        ++frames;
    }
    CHECK(frames == count);
}

TEST_CASE("delimiters that delimit nothing are refused", "[codec][delimiter]")
{
    CHECK_FALSE(delimiter{{}}.problem().empty());
    CHECK_FALSE(delimiter{{"a", ""}}.problem().empty());
    CHECK(delimiter{{"a"}}.problem().empty());
}

TEST_CASE("random delimited payloads come back", "[codec][delimiter]")
{
    check_round_trips(delimiter{{"\0"s}}, "abc", 300);
    check_round_trips(delimiter{{"<end>", "\r\n"}}, "<end\r", 100);
    check_differentially(delimiter{{"aba", "bb", "cab"}, false, 6}, "abc");
    check_differentially(delimiter{{"\r\n", "\n", "\r\n\r\n"}, true, 20}, "a\r\n");
}
