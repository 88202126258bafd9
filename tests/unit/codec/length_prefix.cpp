#include "support/codec.hpp"
#include <fairlead/codec/length_prefix.hpp>

#include <cstdint>
#include <limits>

using fairlead::codec::length_prefix;
using namespace test;

TEST_CASE("a four-byte length and as many bytes are a frame", "[codec][length_prefix]")
{
    const length_prefix codec;
    check_stream(codec, ""s, frames({}));
    check_stream(codec, "\0\0\0\5hello"s, frames({"hello"}));
    check_stream(codec, "\0\0\0\0\0\0\0\1a\0\0\0\0"s, frames({"", "a", ""}));
    check_stream(codec, "\0\0\0\5hell"s, cut_off());
    check_stream(codec, "\0\0\0\1a\0\0"s, cut_off({"a"}));
}

TEST_CASE(
    "a length has one, two, three, four or eight bytes in either order", "[codec][length_prefix]")
{
    const auto with = [](std::size_t size, std::endian order) {
        return length_prefix{.length_bytes = size, .byte_order = order, .bytes_to_strip = size};
    };
    using enum std::endian;
    check_stream(with(1, big), "\5hello\1x"s, frames({"hello", "x"}));
    check_stream(with(2, big), "\0\5hello"s, frames({"hello"}));
    check_stream(with(2, little), "\5\0hello"s, frames({"hello"}));
    check_stream(with(3, big), "\0\0\5hello"s, frames({"hello"}));
    check_stream(with(3, little), "\5\0\0hello"s, frames({"hello"}));
    check_stream(with(4, little), "\5\0\0\0hello"s, frames({"hello"}));
    check_stream(with(8, big), "\0\0\0\0\0\0\0\5hello"s, frames({"hello"}));
    check_stream(with(8, little), "\5\0\0\0\0\0\0\0hello"s, frames({"hello"}));
    CHECK(encoded(with(3, big), std::string(0x010203, 'x')).substr(0, 3) == "\1\2\3");
    CHECK(encoded(with(3, little), std::string(0x010203, 'x')).substr(0, 3) == "\3\2\1");
}

TEST_CASE("the seven examples of Netty's decoder", "[codec][length_prefix]")
{
    const std::string text = "HELLO, WORLD";
    SECTION("two bytes of length, nothing stripped")
    {
        check_stream(
            length_prefix{.length_bytes = 2, .bytes_to_strip = 0}, "\0\x0c"s + text,
            frames({"\0\x0c"s + text}));
    }
    SECTION("the length stripped")
    {
        check_stream(
            length_prefix{.length_bytes = 2, .bytes_to_strip = 2}, "\0\x0c"s + text,
            frames({text}));
    }
    SECTION("the length counts the whole message")
    {
        check_stream(
            length_prefix{.length_bytes = 2, .length_adjustment = -2, .bytes_to_strip = 0},
            "\0\x0e"s + text, frames({"\0\x0e"s + text}));
    }
    SECTION("a header in front of the length")
    {
        check_stream(
            length_prefix{.length_bytes = 3, .length_offset = 2, .bytes_to_strip = 0},
            "\xca\xfe\0\0\x0c"s + text, frames({"\xca\xfe\0\0\x0c"s + text}));
    }
    SECTION("a header behind the length")
    {
        check_stream(
            length_prefix{.length_bytes = 3, .length_adjustment = 2, .bytes_to_strip = 0},
            "\0\0\x0c\xca\xfe"s + text, frames({"\0\0\x0c\xca\xfe"s + text}));
    }
    SECTION("a header on either side, the first and the length stripped")
    {
        check_stream(
            length_prefix{
                .length_bytes = 2, .length_offset = 1, .length_adjustment = 1, .bytes_to_strip = 3},
            "\xca\0\x0c\xfe"s + text, frames({"\xfe"s + text}));
    }
    SECTION("the same, and the length counts the whole message")
    {
        check_stream(
            length_prefix{
                .length_bytes = 2,
                .length_offset = 1,
                .length_adjustment = -3,
                .bytes_to_strip = 3},
            "\xca\0\x10\xfe"s + text, frames({"\xfe"s + text}));
    }
}

TEST_CASE("the seven examples of tokio-util's codec", "[codec][length_prefix]")
{
    const std::string text = "Hello world";
    const struct
    {
        length_prefix codec;
        std::string head;
        std::string kept; // of the head
    } examples[] = {
        {{.length_bytes = 2, .bytes_to_strip = 0}, "\0\x0b"s, "\0\x0b"s},
        {{.length_bytes = 2, .bytes_to_strip = 2}, "\0\x0b"s, ""},
        {{.length_bytes = 2, .length_adjustment = -2, .bytes_to_strip = 0}, "\0\x0d"s, "\0\x0d"s},
        {{.length_bytes = 3, .length_adjustment = 2, .bytes_to_strip = 0},
         "\0\0\x0b\xca\xfe"s,
         "\0\0\x0b\xca\xfe"s},
        {{.length_bytes = 2, .length_offset = 1, .length_adjustment = 1, .bytes_to_strip = 3},
         "\xca\0\x0b\xfe"s,
         "\xfe"s},
        {{.length_bytes = 2, .length_offset = 1, .length_adjustment = -3, .bytes_to_strip = 3},
         "\xca\0\x0f\xfe"s,
         "\xfe"s},
        // There num_skip alone makes the head longer than its fields; here the adjustment does.
        {{.length_bytes = 3, .length_adjustment = 1, .bytes_to_strip = 4}, "\0\0\x0b\xff"s, ""},
    };
    for (const auto& [codec, head, kept] : examples) {
        CAPTURE(head);
        check_stream(codec, head + text + head + text, frames({kept + text, kept + text}));
    }
}

TEST_CASE("max_frame bounds what follows the length", "[codec][length_prefix]")
{
    const length_prefix codec{.max_frame = 5};
    check_stream(codec, "\0\0\0\5hello"s, frames({"hello"}));
    check_stream(codec, "\0\0\0\6hello!"s, fails(errc::frame_too_large, 4));
    check_stream(codec, "\0\0\0\1a\xff\xff\xff\xff"s, fails(errc::frame_too_large, 9, {"a"}));
    CHECK(encoded(codec, "hello") == "\0\0\0\5hello"s);
    CHECK(refusal(codec, "hello!") == errc::frame_too_large);
    // Also with an adjustment: what counts is what follows, not what the field says.
    const length_prefix counted{.length_adjustment = -4, .max_frame = 5};
    check_stream(counted, "\0\0\0\x09hello"s, frames({"hello"}));
    check_stream(counted, "\0\0\0\x0ahello!"s, fails(errc::frame_too_large, 4));
    CHECK(encoded(counted, "hello") == "\0\0\0\x09hello"s);
}

TEST_CASE("a length that its adjustment makes negative is malformed", "[codec][length_prefix]")
{
    const length_prefix codec{.length_adjustment = -4};
    check_stream(codec, "\0\0\0\4"s, frames({""}));
    check_stream(codec, "\0\0\0\3"s, fails(errc::malformed_frame, 4));
    const length_prefix positive{.length_adjustment = 3};
    check_stream(positive, "\0\0\0\0abc"s, frames({"abc"}));
    CHECK(encoded(positive, "abc") == "\0\0\0\0abc"s);
    CHECK(refusal(positive, "ab") == errc::malformed_frame);
}

TEST_CASE("a frame smaller than what is stripped is malformed", "[codec][length_prefix]")
{
    const length_prefix codec{.bytes_to_strip = 6};
    check_stream(codec, "\0\0\0\2ab"s, frames({""}));
    check_stream(codec, "\0\0\0\1a"s, fails(errc::malformed_frame, 4));
}

TEST_CASE("a length that does not fit its field is refused", "[codec][length_prefix]")
{
    const length_prefix one{.length_bytes = 1, .bytes_to_strip = 1};
    CHECK(encoded(one, std::string(255, 'x')).size() == 256);
    CHECK(refusal(one, std::string(256, 'x')) == errc::frame_too_large);
    const length_prefix counted{.length_bytes = 1, .length_adjustment = -1, .bytes_to_strip = 1};
    CHECK(encoded(counted, std::string(254, 'x')).size() == 255);
    CHECK(refusal(counted, std::string(255, 'x')) == errc::frame_too_large);
}

TEST_CASE("no length and no option overflows", "[codec][length_prefix]")
{
    constexpr auto most = std::numeric_limits<std::size_t>::max();
    constexpr auto far = std::numeric_limits<std::ptrdiff_t>::max();
    const auto eight = [](std::ptrdiff_t adjustment) {
        return length_prefix{
            .length_bytes = 8,
            .length_adjustment = adjustment,
            .bytes_to_strip = 8,
            .max_frame = std::numeric_limits<std::size_t>::max()};
    };
    const std::string largest(8, '\xff');
    check_stream(eight(0), largest, fails(errc::frame_too_large, 8));
    check_stream(eight(far), largest, fails(errc::frame_too_large, 8));
    check_stream(
        eight(-far - 1), "\x7f\xff\xff\xff\xff\xff\xff\xff"s, fails(errc::malformed_frame, 8));
    check_stream(eight(-far - 1), "\x80\0\0\0\0\0\0\0"s, frames({""}));
    check_stream(eight(0), "\x7f\xff\xff\xff\xff\xff\xff\xff"s, cut_off());
    CHECK(length_prefix{.bytes_to_strip = most}.problem().empty());
    check_stream(
        length_prefix{.bytes_to_strip = most}, "\0\0\0\0"s, fails(errc::malformed_frame, 4));
}

TEST_CASE("options of a length prefix that make no sense are refused", "[codec][length_prefix]")
{
    for (const std::size_t size : {0U, 5U, 6U, 7U, 9U}) {
        CHECK_FALSE(length_prefix{.length_bytes = size}.problem().empty());
    }
    CHECK_FALSE(length_prefix{.byte_order = std::endian(7)}.problem().empty());
    CHECK_THROWS_AS(
        fairlead::codec::frame_reader(length_prefix{.length_bytes = 5}), std::system_error);
}

TEST_CASE("random payloads come back from their length prefixes", "[codec][length_prefix]")
{
    const auto bytes = all_bytes();
    check_round_trips(length_prefix{}, bytes, 3000);
    check_round_trips(length_prefix{.length_bytes = 1, .bytes_to_strip = 1}, bytes, 255);
    check_round_trips(
        length_prefix{
            .length_bytes = 8,
            .byte_order = std::endian::little,
            .length_offset = 3,
            .length_adjustment = -11,
            .bytes_to_strip = 11},
        bytes, 300);
    check_round_trips(length_prefix{.length_adjustment = 4}, bytes, 300, 4);
    check_differentially(
        length_prefix{.length_bytes = 1, .bytes_to_strip = 1, .max_frame = 200}, bytes);
    check_differentially(
        length_prefix{.length_bytes = 1, .length_adjustment = -2, .bytes_to_strip = 3},
        "\0\1\2\3\4\5\6"s);
}
