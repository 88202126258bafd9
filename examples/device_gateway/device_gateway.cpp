// Shows: a binary protocol of one's own: a version handshake, a session per device, and numbered
//        messages that are acknowledged when a journal has them: a restart loses none.
// Run:   device_gateway [ADDRESS] [JOURNAL] [sync]           (127.0.0.1:7930 devices.journal)
//        With sync, an acknowledgement holds through a power failure too; without, through a crash.
// Poke:  printf '\0\0\0\6H\1\1abc\0\0\0\11D\0\0\0\0\0\0\0\1' | nc 127.0.0.1 7930 | od -c
//
// A frame is a 32-bit length, a type and data; numbers are big endian, of 64 bits.
// Device:  'H' lowest version, highest version (a byte each), id: hello
//          'D' number, payload: data; the first is 1, each next one more
//          'B' bye
// Gateway: 'W' version, number of the last message that is stored: welcome, go on behind it
//          'A' number: it and all before it are stored; one for all data that came together
//          'R' reason, text: no welcome      'E' reason, text: an error ends the session
//          'G' going away, no more is taken  'B' bye; nothing follows any of these four

#include "../print_events.hpp"
#include "device_table.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/fairlead.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using example::encoded;
using example::number;
using fairlead::codec::bytes_of;
using fairlead::codec::length_prefix;
using fairlead::codec::text_of;

constexpr unsigned char our_version = 1;
constexpr auto patience = 10s; // for the hello, and for the rest of a frame that has begun
constexpr length_prefix framing{.max_frame = 1 + 8 + example::max_payload};

enum class reason : char
{
    malformed = 1,
    version,
    id,
    devices,
    gap,
    replaced,
    not_stored
};

std::string problem(char type, reason why, std::string_view text)
{
    return std::string{type, static_cast<char>(why)}.append(text);
}

/// One connection of a device, from the hello to the last word.
class session
{
public:
    session(fairlead::connection& conn, example::device_table& all)
        : conn_(conn), frames_(conn, framing, {.frame_timeout = patience}), all_(all)
    {
        link_->thread = conn.get_executor();
        link_->end = [this] {
            say(replaced());
            conn_.expires_after(1s); // for the device to hear it
        };
    }

    session(const session&) = delete;
    session& operator=(const session&) = delete;

    ~session()
    {
        link_->end = nullptr;
        all_.leave(id_, link_);
    }

    asio::awaitable<void> run()
    {
        std::error_code error;
        conn_.expires_after(patience);
        const auto hello = co_await frames_.next(error);
        if (hello && greet(text_of(*hello))) {
            conn_.expires_after(0ms);
            co_await take_messages(error);
        }
        if (last_word_.empty() && error) {
            last_word_ = problem('E', reason::malformed, error.message());
        } else if (last_word_.empty() && conn_.draining()) {
            last_word_ = "G";
        }
        if (!last_word_.empty()) {
            say(last_word_);
        }
    }

private:
    /// Something after which nothing follows.
    void say(std::string_view word)
    {
        if (!std::exchange(is_over_, true)) {
            frames_.try_send(word);
        }
    }

    bool greet(std::string_view hello)
    {
        const std::string id(hello.substr(std::min<std::size_t>(3, hello.size())));
        const auto is_graphic = [](char c) { return c > ' ' && c <= '~'; };
        if (hello.size() < 3 || hello[0] != 'H') {
            last_word_ = problem('R', reason::malformed, "a hello comes first");
        } else if (
            static_cast<unsigned char>(hello[1]) > our_version ||
            static_cast<unsigned char>(hello[2]) < our_version) {
            last_word_ = problem('R', reason::version, "version 1 is spoken here");
        } else if (
            id.empty() || id.size() > example::max_id || !std::ranges::all_of(id, is_graphic)) {
            last_word_ = problem('R', reason::id, "an id is 1 to 64 graphic characters");
        } else if (const auto stored = all_.enter(id, link_); !stored) {
            last_word_ = problem('R', reason::devices, "there are too many devices");
        } else {
            id_ = id;
            last_ = *stored;
            frames_.try_send(std::string{'W', char(our_version)} + encoded(last_));
            return true;
        }
        return false;
    }

    asio::awaitable<void> take_messages(std::error_code& error)
    {
        for (bool more = co_await frames_.fill(error); more && !is_over_;
             more = co_await frames_.fill(error)) {
            // A batch is no larger than what one read gives.
            for (auto frame = frames_.take(error); frame; frame = frames_.take(error)) {
                take(text_of(*frame));
                if (!last_word_.empty()) {
                    break;
                }
            }
            store();
            if (std::exchange(owes_ack_, false)) {
                frames_.queue('A' + encoded(last_));
            }
            if (error || !last_word_.empty() ||
                conn_.draining()) { // though more may come, for ever
                break;
            }
        }
    }

    void take(std::string_view frame)
    {
        if (frame == "B") {
            last_word_ = frame;
        } else if (frame.size() < 9 || frame[0] != 'D') {
            last_word_ = problem('E', reason::malformed, "neither data nor bye");
        } else if (const number one = example::decoded(frame.substr(1));
                   one > last_ && one - last_ > 1) {
            last_word_ = problem('E', reason::gap, "missing: " + std::to_string(last_ + 1));
        } else {
            owes_ack_ = true;
            if (one > last_) { // else it is sent again, and here already
                last_ = one;
                example::add_record(batch_, one, id_, frame.substr(9));
            }
        }
    }

    static std::string replaced()
    {
        return problem('E', reason::replaced, "the device has a newer session");
    }

    void store()
    {
        const auto records = std::exchange(batch_, {}); // an idle device holds no memory
        try {
            if (!records.empty() && !all_.store(id_, link_, records, last_)) {
                owes_ack_ = false;
                last_word_ = replaced();
            }
        } catch (const std::system_error&) {
            say(problem('E', reason::not_stored, "the journal cannot be written"));
            throw; // on_error says why
        }
    }

    fairlead::connection& conn_;
    fairlead::framed<length_prefix> frames_;
    example::device_table& all_;
    example::session_ptr link_ = std::make_shared<example::session_link>();
    std::string id_;
    number last_ = 0; // taken; stored, once the batch is
    std::vector<std::byte> batch_;
    bool owes_ack_ = false;
    std::string last_word_; // to be said when all before it is answered
    bool is_over_ = false;
};

int main(int argc, char** argv)
{
    try {
        const auto all = std::make_shared<example::device_table>(
            argc > 2 ? argv[2] : "devices.journal",
            argc > 3 && std::string_view(argv[3]) == "sync");
        const auto gateway = [all](fairlead::connection& conn) -> asio::awaitable<void> {
            session one(conn, *all);
            co_await one.run();
        };
        const auto report = fairlead::serve(
            gateway, {.address = argc > 1 ? argv[1] : "127.0.0.1:7930", .drain_timeout = patience},
            {.hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "device_gateway: %s\n", error.what());
        return 1;
    }
}
