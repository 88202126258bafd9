// `framed` on a real connection, over loopback: the input says which codec, and what the peer does.
// What the handler is given, and how its messages end, must be what a `frame_reader` makes of the
// same bytes; what comes back must be the encoding of that.

#include "fuzz.hpp"
#include "loopback.hpp"
#include <fairlead/codec/chunked.hpp>
#include <fairlead/codec/cobs.hpp>
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/fixed.hpp>
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/codec/netstring.hpp>
#include <fairlead/codec/varint_prefix.hpp>

#include <chrono>
#include <memory>

namespace fuzz::loopback
{
using fairlead::framed;

/// How the handler goes about it.
struct manner
{
    fairlead::framed_options options = {};
    std::size_t peek = 0;
    std::size_t frames_each = 0; // then another `framed` goes on; 0: never
    bool flushes = false;
    std::size_t most_sent = std::size_t(2) << 10; // by the peer
};

struct account
{
    std::vector<std::string> frames = {};
    std::error_code error = {};
    std::error_code send_error = {};
    std::string echo = {};
    std::string peeked = {};
    bool has_begun = false;
};

template <typename Codec>
asio::awaitable<void> echo(
    fairlead::connection& conn, const Codec& codec, const manner& how, account& seen)
{
    seen.has_begun = true;
    if (how.peek != 0) {
        std::error_code ignored;
        const auto ahead = co_await conn.peek(how.peek, ignored);
        seen.peeked = text_of(ahead);
    }
    auto frames = std::make_unique<framed<Codec>>(conn, codec, how.options);
    for (auto frame = co_await frames->next(seen.error); frame;
         frame = co_await frames->next(seen.error)) {
        seen.frames.emplace_back(text_of(*frame));
        co_await frames->send(*frame, seen.send_error);
        if (seen.send_error) {
            break;
        }
        if (how.flushes) {
            try {
                co_await frames->flush();
            } catch (const std::system_error& failure) {
                seen.send_error = failure.code();
                break;
            }
        }
        if (how.frames_each != 0 && seen.frames.size() % how.frames_each == 0) {
            auto other = std::make_unique<framed<Codec>>(*frames, codec, how.options);
            frames = std::move(other);
        }
    }
}

/// What `echo` has to come to.
template <typename Codec>
account expect(const Codec& codec, std::span<const std::byte> stream)
{
    account result;
    std::vector<std::byte> out;
    fairlead::codec::frame_reader<Codec> reader(codec);
    reader.feed(stream);
    for (auto frame = reader.next(result.error); frame; frame = reader.next(result.error)) {
        result.frames.emplace_back(text_of(*frame));
        try {
            codec.encode(*frame, out);
        } catch (const std::system_error& refusal) {
            result.send_error = refusal.code();
            break;
        }
    }
    if (!result.send_error) {
        result.error = reader.finish();
    }
    result.echo = text_of(out);
    return result;
}

void compare(const account& seen, const account& expected, const client& peer, std::size_t peek)
{
    const auto begins_with = [](const std::string& whole, const std::string& part) {
        return std::string_view(whole).substr(0, part.size()) == part;
    };
    require(begins_with(peer.stream, seen.peeked), "what is peeked at comes first");
    require(begins_with(expected.echo, peer.received), "what comes back is what was sent");
    require(seen.frames.size() <= expected.frames.size(), "no frame comes out of nothing");
    require(
        std::equal(seen.frames.begin(), seen.frames.end(), expected.frames.begin()),
        "the handler sees the reader's frames");
    const bool is_codecs =
        seen.error == errc::frame_too_large || seen.error == errc::malformed_frame;
    if (!peer.was_reset) {
        require(seen.has_begun, "every client is served");
        require(seen.peeked.size() == std::min(peek, peer.stream.size()), "a peek is whole");
        require(seen.frames.size() == expected.frames.size(), "every frame is seen");
        require(seen.error == expected.error, "the messages end as the reader says");
        require(seen.send_error == expected.send_error, "only the codec refuses to send");
        require(peer.received == expected.echo, "everything comes back");
    } else if (is_codecs) {
        require(seen.error == expected.error, "a broken stream is broken for the reader too");
        require(seen.frames.size() == expected.frames.size(), "and at the same place");
    } else if (seen.has_begun && !peer.has_finished && !seen.send_error) {
        require(
            seen.error && seen.error != errc::truncated_frame, "a reset is not the stream's end");
    }
}

template <typename Codec>
void check(const Codec& codec, const manner& how, input& script)
{
    if (!std::string_view(codec.problem()).empty()) {
        return;
    }
    server& serving = the_server();
    account seen;
    serving.handler = [&](fairlead::connection& conn) { return echo(conn, codec, how, seen); };
    client peer(serving.port(), ++serving.clients);
    peer.most = how.most_sent;
    play(script, serving, peer);
    compare(seen, expect(codec, bytes_of(peer.stream)), peer, how.peek);
}
} // namespace fuzz::loopback

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    namespace codec = fairlead::codec;
    using fuzz::loopback::check;
    using options = fairlead::framed_options;
    fuzz::input input(data, size);
    const std::size_t which = input.byte();
    const std::size_t limit = input.limit();
    const std::size_t flags = input.byte();
    fuzz::loopback::manner how;
    how.options = input.one_of<options>(
        {{},
         {.high_watermark = 0, .low_watermark = 0},
         {.high_watermark = 1, .low_watermark = 0},
         {.high_watermark = 300, .low_watermark = 7, .frame_timeout = std::chrono::hours(1)},
         {.high_watermark = 9000, .low_watermark = 9000, .ends_in_drain = false}});
    how.peek = input.byte() % (fairlead::connection::max_peek + 1);
    how.frames_each = input.one_of<std::size_t>({0, 1, 2, 5});
    how.flushes = (flags & 4U) != 0;
    if ((flags & 8U) != 0) {
        how.most_sent = std::size_t(96) << 10; // some payloads are written from where they are
    }
    const bool first = (flags & 1U) != 0, second = (flags & 2U) != 0;
    switch (which % 8) {
    case 0:
        check(codec::line{.max_frame = limit, .keep = first, .crlf = second}, how, input);
        break;
    case 1:
        check(
            codec::length_prefix{
                .length_bytes = first ? 2U : 4U,
                .bytes_to_strip = second  ? 1U
                                  : first ? 2U
                                          : 4U,
                .max_frame = limit},
            how, input);
        break;
    case 2:
        check(codec::chunked{.max_frame = limit}, how, input);
        break;
    case 3:
        check(codec::cobs{.max_frame = limit}, how, input);
        break;
    case 4:
        check(
            codec::delimiter{
                .delimiters = {first ? "--" : "--end", "-"}, .keep = second, .max_frame = limit},
            how, input);
        break;
    case 5:
        check(codec::fixed{.size = first ? limit : 70000}, how, input);
        break;
    case 6:
        check(codec::netstring{.max_frame = limit}, how, input);
        break;
    default:
        check(codec::varint_prefix{.max_frame = limit}, how, input);
    }
    return 0;
}
