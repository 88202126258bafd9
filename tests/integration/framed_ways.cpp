#include "support/catch.hpp"
#include "support/peer.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>

#include <algorithm>
#include <concepts>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// What a codec's frames are handed out as, another codec for each way, and answers that are no
// frames.

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::framed;
using fairlead::codec::delimiter;
using fairlead::codec::length_prefix;
using fairlead::codec::line;
using test::either;
using test::peer;
using test::speaks;

namespace test::framed_ways
{
static_assert(std::convertible_to<framed<line>::frame, std::string_view>);
static_assert(std::convertible_to<framed<line>::frame, std::span<const std::byte>>);
static_assert(std::convertible_to<framed<delimiter>::frame, std::string_view>);
static_assert(std::same_as<framed<length_prefix>::frame, std::span<const std::byte>>);
static_assert(std::same_as<framed<length_prefix, line>::frame, std::span<const std::byte>>);

struct notes
{
    mailbox<std::error_code> errors;
    mailbox<std::string> texts;
    gate hold;
};

/// In the manner of memcached's text protocol: values are announced, and any bytes.
asio::awaitable<void> cache(connection& conn, notes&)
{
    std::map<std::string, std::string, std::less<>> values = {{"blob", "a\nb\r\nc"}};
    values["large"] = std::string(200'000, '\n');
    framed lines(conn, line{.crlf = true});
    for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
        if (*text == "quit") {
            break;
        }
        if (!text->starts_with("get ")) {
            co_await lines.send("ERROR");
            continue;
        }
        const auto found = values.find(text->substr(4));
        if (found != values.end()) {
            const std::string& value = found->second;
            co_await lines.send("VALUE " + std::to_string(value.size()));
            co_await lines.write(value);
            co_await lines.write("\r\n");
        }
        co_await lines.send("END");
    }
}

std::string with_length(const std::string& payload)
{
    std::string frame;
    for (int shift = 24; shift >= 0; shift -= 8) {
        frame += static_cast<char>(payload.size() >> shift & 0xff);
    }
    return frame + payload;
}

/// Lines in, and their lengths and they themselves out.
asio::awaitable<void> number_lines(connection& conn, notes&)
{
    framed frames(conn, line{}, length_prefix{}, {.high_watermark = 1000, .low_watermark = 10});
    static_assert(std::same_as<decltype(frames), framed<line, length_prefix>>);
    for (auto text = co_await frames.next(); text; text = co_await frames.next()) {
        if (*text == "other way round") {
            framed other(frames, length_prefix{}, line{});
            for (auto bytes = co_await other.next(); bytes; bytes = co_await other.next()) {
                co_await other.send(*bytes);
            }
            co_return;
        }
        co_await frames.send(*text);
    }
}
} // namespace test::framed_ways

using namespace test::framed_ways;

TEST_CASE("frames of a text codec are text, and bytes where bytes are wanted", "[framed]")
{
    const auto script = [](connection& conn,
                           test::framed_ways::notes& shared) -> asio::awaitable<void> {
        framed words(conn, delimiter{.delimiters = {";"}});
        const auto first = co_await words.next();
        const std::string_view text = *first;
        const std::span<const std::byte> bytes = *first;
        const bool is_same = static_cast<const void*>(text.data()) == bytes.data();
        shared.texts.put(is_same && text.size() == bytes.size() ? std::string(text) : "copied");
        co_await words.send(text);
        co_await words.send(bytes);
        co_await words.send(*first);
        shared.texts.put(words.try_send(*first) ? "sent" : "refused");
        const std::vector<framed<delimiter>::frame> both{*first, *first};
        co_await words.send_all(both);
    };
    notes notes;
    test::running_server running(test::scripted<test::framed_ways::notes>{script, &notes});
    running.start();
    test::client client(running.port());
    client.send("word;");
    CHECK(notes.texts.take() == "word");
    CHECK(notes.texts.take() == "sent");
    CHECK(client.receive_rest().bytes == "word;word;word;word;word;word;");
}

TEST_CASE("answers that are no frames keep their place among those that are", "[framed]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    notes notes;
    test::running_server running(test::scripted{cache, &notes}, test::local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    const std::string blob = "VALUE 6\r\na\nb\r\nc\r\nEND\r\n";
    const std::string large = "VALUE 200000\r\n" + std::string(200'000, '\n') + "\r\nEND\r\n";
    peer.send("get blob\nget large\nget nothing\nput\nget large\r\nget blob\nquit\n");
    const std::string expected = blob + large + "END\r\nERROR\r\n" + large + blob;
    CHECK((peer.receive_rest().bytes == expected));
}

TEST_CASE("raw answers that came of one read leave in one write", "[framed]")
{
    const auto script = [](connection& conn, test::framed_ways::notes&) -> asio::awaitable<void> {
        framed lines(conn, line{});
        for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
            co_await lines.write(*text);
        }
    };
    notes notes;
    auto config = test::local_config();
    config.io_events = true;
    test::running_server running(test::scripted<test::framed_ways::notes>{script, &notes}, config);
    running.start();
    test::client client(running.port());
    std::string lines;
    for (int i = 0; i < 100; ++i) {
        lines += "x\n";
    }
    client.send(lines);
    CHECK(client.receive(100) == std::string(100, 'x'));
    client.finish();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.count(connection_event_kind::write) <= 3);
}

TEST_CASE("raw answers wait for a peer that does not read, and tell how it ends", "[framed]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    const std::size_t size = GENERATE(1000U, 65'000U, 100'000U);
    CAPTURE(size);
    struct sized_notes : notes
    {
        std::size_t size = 0;
    } notes;
    notes.size = size;
    const auto script = [](connection& conn, sized_notes& shared) -> asio::awaitable<void> {
        framed lines(conn, line{});
        const std::string piece(shared.size, 'x');
        std::size_t most = 0;
        std::error_code error;
        while (!error) {
            co_await lines.write(piece, error);
            most = std::max(most, lines.queued());
        }
        shared.texts.put(std::to_string(most));
        shared.errors.put(error);
        co_await lines.write("more", error);
        shared.errors.put(error);
        co_await lines.write(fairlead::codec::bytes_of("more")); // throws
    };
    auto config = test::local_config(protocol);
    config.write_timeout = 300ms;
    config.socket.send_buffer = 64 << 10;
    test::running_server running(test::scripted<sized_notes>{script, &notes}, config);
    running.start();
    peer peer(running.port(), protocol);
    CHECK(std::stoul(notes.texts.take()) <= (256 << 10) + size);
    CHECK(notes.errors.take() == errc::write_timeout);
    CHECK(notes.errors.take() == errc::write_timeout);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::write_timeout);
}

TEST_CASE("each way has a codec of its own", "[framed]")
{
    const auto protocol = either();
    INFO(test::name_of(protocol));
    notes notes;
    test::running_server running(
        test::scripted{number_lines, &notes}, test::local_config(protocol));
    running.start();
    peer peer(running.port(), protocol);
    const std::string large(100'000, 'x'); // written from where it is
    peer.send("one\n\ntwo\n");
    CHECK(peer.receive(18) == with_length("one") + with_length("") + with_length("two"));
    peer.send("other way round\n" + with_length("three") + with_length(large).substr(0, 50'000));
    CHECK(peer.receive(6) == "three\n");
    peer.send(with_length(large).substr(50'000));
    peer.finish();
    CHECK(peer.receive_rest().bytes == ""); // above line's limit: the handler has thrown
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    REQUIRE(running.log.errors().size() == 1);
    CHECK(running.log.errors().front().code == errc::frame_too_large);
}

TEST_CASE("two ways of one codec differ in their options", "[framed]")
{
    const auto script = [](connection& conn,
                           test::framed_ways::notes& shared) -> asio::awaitable<void> {
        framed lines(conn, line{.max_frame = 100}, line{.crlf = true});
        shared.texts.put(std::to_string(lines.rules().max_frame));
        shared.texts.put(lines.sent_rules().crlf ? "crlf" : "lf");
        for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
            co_await lines.send(*text);
        }
    };
    notes notes;
    test::running_server running(test::scripted<test::framed_ways::notes>{script, &notes});
    running.start();
    test::client client(running.port());
    CHECK(notes.texts.take() == "100");
    CHECK(notes.texts.take() == "crlf");
    client.send("text\n");
    CHECK(client.receive(6) == "text\r\n");
}

TEST_CASE("wrong options of the codec for what is sent are told too", "[framed]")
{
    const auto script = [](connection& conn,
                           test::framed_ways::notes& shared) -> asio::awaitable<void> {
        try {
            framed frames(conn, line{}, length_prefix{.length_bytes = 5});
        } catch (const std::system_error& error) {
            shared.errors.put(error.code());
        }
        co_return;
    };
    notes notes;
    test::running_server running(test::scripted<test::framed_ways::notes>{script, &notes});
    running.start();
    const test::client client(running.port());
    CHECK(notes.errors.take() == errc::invalid_config);
}
