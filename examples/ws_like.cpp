// Shows: messages both ways, in the manner of WebSocket: opcodes, ping and pong, a close handshake
//        that a drain takes part in, and broadcast to rooms.
// Run:   ws_like [ADDRESS]                    (127.0.0.1:7920 unless told otherwise)
// Poke:  tests/examples/ws_like.py build/dev/examples/ws_like shows a client
//
// A frame is a 16-bit length, an opcode and data:
//        'j' join the room DATA       'l' leave it       't' text DATA to everybody in the room
//        'p' ping DATA, answered by 'o' pong DATA, by either side
//        'c' close: 16-bit code, text; answered by the same, and then nothing follows

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;
using fairlead::framed;
using fairlead::codec::length_prefix;
using fairlead::codec::text_of;

constexpr length_prefix framing{.length_bytes = 2, .bytes_to_strip = 2, .max_frame = 16 << 10};

using message_to_all = fairlead::shared_message<length_prefix>;

/// How often everybody is asked for a sign of life. Who gives none for two of these is gone.
constexpr auto heartbeat = 20s;

/// Of RFC 6455, section 7.4.1.
enum class close_code : unsigned
{
    going_away = 1001,
    protocol_error = 1002,
    policy_violation = 1008,
};

std::string close_frame(close_code code, std::string_view why)
{
    const auto number = static_cast<unsigned>(code);
    std::string frame = "c";
    frame += static_cast<char>(number >> 8U);
    frame += static_cast<char>(number & 0xffU);
    frame += why;
    return frame;
}

class member;

/// Who is there, and in which room. One shard, one thread: no lock.
class rooms : public std::enable_shared_from_this<rooms>
{
public:
    void enter(member& who, const asio::any_io_executor& executor)
    {
        if (everybody_.empty() && !std::exchange(is_beating_, true)) {
            asio::co_spawn(executor, beat(shared_from_this()), asio::detached);
        }
        everybody_.insert(&who);
    }

    void join(const std::string& room, member& who)
    {
        if (!room.empty()) {
            rooms_[room].insert(&who);
        }
    }

    void leave_all(const std::string& room, member& who)
    {
        leave(room, who);
        everybody_.erase(&who);
    }

    void leave(const std::string& room, member& who)
    {
        const auto found = rooms_.find(room);
        if (found != rooms_.end()) {
            found->second.erase(&who);
            if (found->second.empty()) {
                rooms_.erase(found);
            }
        }
    }

    void tell(const std::string& room, std::string_view frame);

private:
    /// Asks everybody for a sign of life, while there is anybody.
    static asio::awaitable<void> beat(std::shared_ptr<rooms> self);

    std::map<std::string, std::set<member*>> rooms_;
    std::set<member*> everybody_;
    bool is_beating_ = false;
};

/// One peer, from hello to goodbye.
class member
{
public:
    member(fairlead::connection& conn, rooms& all) : conn_(conn), frames_(conn, framing), all_(all)
    {
        all_.enter(*this, conn.get_executor());
    }

    member(const member&) = delete;
    member& operator=(const member&) = delete;

    ~member()
    {
        all_.leave_all(room_, *this);
    }

    asio::awaitable<void> run()
    {
        conn_.expires_after(2 * heartbeat);
        for (auto frame = co_await frames_.next(); frame; frame = co_await frames_.next()) {
            conn_.expires_after(2 * heartbeat);
            const std::string message(text_of(*frame));
            const bool goes_on = co_await answer(message);
            if (!goes_on) {
                co_return;
            }
        }
        if (conn_.draining()) {
            co_await say_goodbye();
        }
    }

    /// One who does not read what the room says must not hold the room up.
    void hear(const message_to_all& message)
    {
        if (!frames_.try_send(message)) {
            conn_.abort();
        }
    }

private:
    asio::awaitable<bool> answer(const std::string& message)
    {
        const char opcode = message.empty() ? '\0' : message.front();
        const std::string data = message.empty() ? "" : message.substr(1);
        switch (opcode) {
        case 'j':
        case 'l':
            all_.leave(room_, *this);
            room_ = opcode == 'j' ? data : "";
            all_.join(room_, *this);
            break;
        case 't':
            if (room_.empty()) {
                co_return co_await refuse(close_code::policy_violation, "join a room first");
            }
            all_.tell(room_, message);
            break;
        case 'p': {
            const std::string pong = "o" + data;
            co_await frames_.send(pong);
            break;
        }
        case 'o':
            break;
        case 'c':
            co_await frames_.send(message); // the same back, and that was it
            co_return false;
        default:
            co_return co_await refuse(close_code::protocol_error, "unknown opcode");
        }
        co_return true;
    }

    /// As the last word; always false.
    asio::awaitable<bool> refuse(close_code code, std::string_view why)
    {
        const std::string frame = close_frame(code, why);
        co_await frames_.send(frame);
        co_return false;
    }

    /// The server leaves: says so, and gives the peer a moment to agree.
    asio::awaitable<void> say_goodbye()
    {
        framed last(frames_, framing, {.ends_in_drain = false});
        const std::string goodbye = close_frame(close_code::going_away, "the server stops");
        co_await last.send(goodbye);
        conn_.expires_after(1s);
        for (auto frame = co_await last.next(); frame; frame = co_await last.next()) {
            if (text_of(*frame).substr(0, 1) == "c") {
                co_return;
            }
        }
    }

    fairlead::connection& conn_;
    framed<length_prefix> frames_;
    rooms& all_;
    std::string room_;
};

void rooms::tell(const std::string& room, std::string_view frame)
{
    const message_to_all message(framing, frame); // framed once, whoever is there
    for (member* const each : rooms_[room]) {
        each->hear(message);
    }
}

asio::awaitable<void> rooms::beat(std::shared_ptr<rooms> self)
{
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (!self->everybody_.empty()) {
        timer.expires_after(heartbeat);
        std::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        const message_to_all ping(framing, "p");
        for (member* const each : self->everybody_) {
            each->hear(ping);
        }
    }
    self->is_beating_ = false;
}

int main(int argc, char** argv)
{
    const auto chat =
        [all = std::make_shared<rooms>()](fairlead::connection& conn) -> asio::awaitable<void> {
        member one(conn, *all);
        co_await one.run();
    };
    try {
        const auto report = fairlead::serve(
            chat,
            {.address = argc > 1 ? argv[1] : "127.0.0.1:7920",
             .idle_timeout = 2 * heartbeat,
             .drain_timeout = 5s},
            {.shards = {.threads = 1}, .hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "ws_like: %s\n", error.what());
        return 1;
    }
}
