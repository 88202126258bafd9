#include "support/codec.hpp"
#include <fairlead/codec/chunked.hpp>
#include <fairlead/codec/cobs.hpp>
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

using fairlead::codec::bytes_of;
using fairlead::codec::chunked;
using fairlead::codec::frame_reader;
using fairlead::codec::length_prefix;
using fairlead::codec::line;
using fairlead::codec::text_of;
using namespace test;

namespace test::frame_reader_unit
{
/// Where its bytes are.
const std::byte* place_of(std::span<const std::byte> frame)
{
    return frame.data();
}
} // namespace test::frame_reader_unit

using test::frame_reader_unit::place_of;

TEST_CASE("memory grows with what comes, not with what is announced", "[codec][frame_reader]")
{
    frame_reader reader(length_prefix{});
    std::error_code error;
    reader.feed(bytes_of("\0\x0f\xff\xff"s + "ten bytes.")); // announces a megabyte
    CHECK_FALSE(reader.next(error));
    CHECK_FALSE(error);
    CHECK(reader.wanted() == 0xfffff - 10);
    CHECK(reader.capacity() < 1024);
}

TEST_CASE("memory stays bounded however many frames pass", "[codec][frame_reader]")
{
    frame_reader reader(line{});
    std::error_code error;
    std::size_t frames = 0;
    const std::string piece = "a line of text\nanother li";
    for (int i = 0; i < 10'000; ++i) {
        reader.feed(bytes_of(piece));
        while (reader.next(error)) {
            ++frames;
        }
    }
    CHECK(frames == 10'000);
    CHECK(reader.capacity() < 1024);
}

TEST_CASE("frames of a text codec are a text that converts to bytes", "[codec][frame_reader]")
{
    using bytes = std::span<const std::byte>;
    static_assert(std::is_same_v<frame_reader<length_prefix>::frame, bytes>);
    static_assert(std::is_same_v<frame_reader<chunked>::frame, bytes>); // has an is_text of its own
    frame_reader reader(line{});
    std::error_code error;
    reader.feed(bytes_of("GET key\n\n"));
    const auto frame = reader.next(error);
    REQUIRE(frame);
    CHECK(*frame == "GET key");
    CHECK(frame->starts_with("GET "));
    const std::string_view text = *frame;
    const bytes same = *frame;
    CHECK(static_cast<const void*>(text.data()) == same.data());
    CHECK(same.size() == text.size());
    CHECK(text_of(*frame) == text);
    CHECK(reader.next(error)->empty());
}

TEST_CASE("a reader that has failed stays failed", "[codec][frame_reader]")
{
    frame_reader reader(line{.max_frame = 3});
    std::error_code error;
    reader.feed(bytes_of("one\ntoo long"));
    CHECK(text_of(*reader.next(error)) == "one");
    for (int i = 0; i < 3; ++i) {
        CHECK_FALSE(reader.next(error));
        CHECK(error == errc::frame_too_large);
        CHECK(reader.wanted() == 0);
        CHECK(reader.finish() == errc::frame_too_large);
        reader.feed(bytes_of("\nok\n"));
    }
}

TEST_CASE("a failed reader wants nothing, whatever follows", "[codec][frame_reader]")
{
    // The byte that is wrong here would be right in the state that it leads to.
    frame_reader reader(chunked{});
    std::error_code error;
    reader.feed(bytes_of("0\r\n:"));
    CHECK_FALSE(reader.next(error));
    CHECK(error == errc::malformed_frame);
    reader.feed(bytes_of("x"));
    CHECK(reader.wanted() == 0);
    CHECK(reader.has_next());
}

TEST_CASE("a reader that knows of a frame wants nothing, whatever follows", "[codec][frame_reader]")
{
    frame_reader reader(fairlead::codec::cobs{});
    std::error_code error;
    reader.feed(bytes_of("\2x\0"s));
    CHECK(reader.has_next());
    reader.feed(bytes_of("\3y"));
    CHECK(reader.wanted() == 0);
    CHECK(text_of(*reader.next(error)) == "x");
    CHECK(reader.wanted() == 2);
}

namespace
{
/// Feeds `size` bytes one at a time, and each that was looked at is wiped before the next comes,
/// except the last `kept`: a decoder that looks again finds no frame or one too many.
template <typename Codec>
void check_looks_once(
    const Codec& codec, const std::string& begin, char filler, const std::string& end, char wiped,
    std::size_t kept)
{
    constexpr std::size_t size = 1000;
    std::string stream = begin + std::string(size, filler) + end;
    fairlead::codec::decode_progress progress;
    using fairlead::codec::decode_result;
    for (std::size_t fed = 1; fed < stream.size(); ++fed) {
        const auto seen = codec.decode(bytes_of(stream.substr(0, fed)), progress);
        REQUIRE(seen.what == decode_result::outcome::incomplete);
        if (fed > kept) {
            stream[fed - kept - 1] = wiped;
        }
    }
    const auto seen = codec.decode(bytes_of(stream), progress);
    CHECK(seen.what == decode_result::outcome::frame);
    CHECK(seen.consumed == stream.size());
}
} // namespace

TEST_CASE("what was looked at is not looked at again", "[codec][frame_reader]")
{
    using namespace fairlead::codec;
    check_looks_once(line{}, "", 'x', "\r\n", '\n', 1);
    check_looks_once(delimiter{{"||"}}, "", 'x', "||", '|', 2);
    check_looks_once(delimiter{{"\r\n", "\n"}}, "", 'x', "\r\n", '\n', 1);
    check_looks_once(chunked{}, "1;", 'x', "\r\n.\r\n", '\n', 1);
    check_looks_once(chunked{}, "0\r\na:", 'x', "\r\n\r\n", '\n', 0);
    check_looks_once(cobs{}, "", '\1', "\1\0"s, '\0', 0);
}

TEST_CASE("an end between frames is none, and inside one it is", "[codec][frame_reader]")
{
    frame_reader reader(line{});
    CHECK_FALSE(reader.finish());
    reader.feed(bytes_of("one\ntwo\n"));
    CHECK_FALSE(reader.finish()); // frames that nobody has taken yet are whole
    std::error_code error;
    reader.next(error);
    reader.next(error);
    CHECK_FALSE(reader.finish());
    reader.feed(bytes_of("thr"));
    CHECK(reader.finish() == errc::truncated_frame);
}

TEST_CASE("bytes may be read in place", "[codec][frame_reader]")
{
    frame_reader reader(line{});
    const std::string text = "one\ntwo\nthree\n";
    std::error_code error;
    std::vector<std::string> frames;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto space = reader.prepare(2);
        REQUIRE(space.size() >= 2);
        std::memcpy(space.data(), text.data() + i, 2);
        reader.commit(2);
        while (const auto frame = reader.next(error)) {
            frames.emplace_back(text_of(*frame));
        }
    }
    CHECK(frames == std::vector<std::string>{"one", "two", "three"});
}

TEST_CASE("a frame is a view into what was fed, without a copy", "[codec][frame_reader]")
{
    frame_reader reader(line{});
    const auto space = reader.prepare(8);
    std::memcpy(space.data(), "one\ntwo\n", 8);
    reader.commit(8);
    std::error_code error;
    CHECK(place_of(*reader.next(error)) == space.data());
    CHECK(place_of(*reader.next(error)) == space.data() + 4);
}

TEST_CASE("a reader says what it has and what it wants", "[codec][frame_reader]")
{
    frame_reader reader(length_prefix{});
    std::error_code error;
    CHECK(reader.wanted() == 4);
    CHECK_FALSE(reader.has_next());
    reader.feed(bytes_of("\0\0"s));
    CHECK(reader.wanted() == 2);
    reader.feed(bytes_of("\0\3a"s));
    CHECK(reader.wanted() == 2);
    CHECK(text_of(reader.pending()) == "\0\0\0\3a"s);
    reader.feed(bytes_of("bc\0"s));
    CHECK(reader.wanted() == 0);
    CHECK(reader.has_next());
    CHECK(text_of(*reader.next(error)) == "abc");
    CHECK(text_of(reader.pending()) == "\0"s);
    CHECK(reader.wanted() == 3);
    CHECK_FALSE(reader.has_next());
}

TEST_CASE("a reader works on borrowed memory and gives it back", "[codec][frame_reader]")
{
    frame_reader reader(line{});
    auto block = fairlead::detail::byte_block::make(4096);
    const std::byte* const place = block.bytes.get();
    reader.lend(std::move(block));
    reader.feed(bytes_of("one\n"));
    std::error_code error;
    CHECK(place_of(*reader.next(error)) == place);
    CHECK_FALSE(reader.next(error));
    const auto back = reader.give_back();
    CHECK(back.bytes.get() == place);
    CHECK(back.size == 4096);
    CHECK(reader.capacity() == 0);
    reader.feed(bytes_of("two\n"));
    CHECK(text_of(*reader.next(error)) == "two");
}
