// Shows: a server for somebody else's protocol: RESP2, so that redis-cli, redis-benchmark and the
//        client libraries of Redis talk to it; pipelining, limits on all that a peer can make it
//        hold, and one store for all threads.
// Run:   kv_store [ADDRESS] [--threads N] [--tls CERTIFICATE KEY] [--maxmemory BYTES]
//                                             (127.0.0.1:7940, a thread per core, 256 MB)
// Poke:  redis-cli -p 7940 set greeting hello ex 60
//        redis-benchmark -p 7940 -t set,get,incr -P 16 -q
//        printf 'incr visits\r\nget visits\r\nquit\r\n' | nc 127.0.0.1 7940
//
// Knows PING ECHO GET SET (NX XX GET EX PX KEEPTTL) DEL EXISTS INCR MGET MSET EXPIRE TTL SELECT 0
// CLIENT SETNAME CONFIG GET COMMAND INFO QUIT. There is nothing but strings, and nothing is saved.

#include "../print_events.hpp"
#include "interpreter.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/fairlead.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using fairlead::framed;

/// When to leave in a drain. All that had arrived is answered, and then `next` is empty; but a peer
/// that sends and sends is left after a second.
class farewell
{
public:
    explicit farewell(const fairlead::connection& conn) : conn_(conn)
    {}

    /// To be asked between commands.
    bool is_due()
    {
        if (!conn_.draining()) {
            return false;
        }
        const auto now = std::chrono::steady_clock::now();
        if (!latest_) {
            latest_ = now + 1s;
        }
        return now >= *latest_;
    }

private:
    const fairlead::connection& conn_;
    std::optional<std::chrono::steady_clock::time_point> latest_;
};

/// The handler. Each shard has its own copy; the keyspace is everybody's.
class kv_store
{
public:
    explicit kv_store(std::shared_ptr<kv::keyspace> store) : store_(store), commands_(store)
    {}

    asio::awaitable<void> operator()(fairlead::connection& conn)
    {
        if (!std::exchange(is_sweeping_, true)) {
            asio::co_spawn(conn.get_executor(), sweep(store_), asio::detached);
        }
        // A command that has begun must be complete before long: what has come of it is held.
        framed frames(conn, kv::resp{}, {.frame_timeout = 30s});
        std::string reply;
        std::error_code error;
        farewell ending(conn);
        // Commands that came together are answered together.
        for (bool more = co_await frames.fill(error); more; more = co_await frames.fill(error)) {
            for (auto frame = frames.take(error); frame; frame = frames.take(error)) {
                const bool goes_on = commands_.run(*frame, reply);
                // What is large is not copied, and what a peer does not read is waited for.
                const bool is_sent =
                    reply.empty() || (reply.size() < large_reply && frames.try_send(reply));
                if (!is_sent) {
                    co_await frames.send(reply);
                }
                if (!goes_on || ending.is_due()) {
                    co_return;
                }
                reply.clear();
                if (reply.capacity() > large_reply) {
                    reply = {};
                }
            }
            if (error) {
                break;
            }
        }
        if (error == fairlead::errc::malformed_frame || error == fairlead::errc::frame_too_large) {
            kv::append_error(reply, "ERR " + frames.rules().complaint(frames.pending()));
            co_await frames.send(reply);
        } else if (error) {
            throw std::system_error(error);
        }
    }

private:
    static constexpr std::size_t large_reply = std::size_t(64) << 10;

    /// Nobody may ask for a key that has expired, so somebody has to look.
    static asio::awaitable<void> sweep(std::shared_ptr<kv::keyspace> store)
    {
        asio::steady_timer timer(co_await asio::this_coro::executor);
        for (;;) { // until the shard ends
            store->sweep();
            timer.expires_after(100ms);
            co_await timer.async_wait(asio::use_awaitable);
        }
    }

    std::shared_ptr<kv::keyspace> store_;
    kv::interpreter commands_;
    bool is_sweeping_ = false;
};

struct options
{
    fairlead::server_config server = {
        .address = "127.0.0.1:7940",
        .idle_timeout = 0ms, // clients keep connections in pools; keep-alive finds the dead
        .drain_timeout = 5s};
    std::size_t threads = 0;
    std::size_t max_memory = std::size_t(256) << 20;
};

/// Empty: they make no sense.
std::optional<options> read_options(int argc, char** argv)
{
    options all;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const int left = argc - 1 - i;
        if (word == "--tls" && left >= 2) {
            all.server.tls =
                fairlead::tls_config{.certificate = argv[i + 1], .private_key = argv[i + 2]};
            i += 2;
        } else if ((word == "--threads" || word == "--maxmemory") && left >= 1) {
            const auto number = kv::to_integer<std::size_t>(argv[++i]);
            if (!number || (word == "--threads" && *number > 1024)) {
                return std::nullopt;
            }
            (word == "--threads" ? all.threads : all.max_memory) = *number;
        } else if (i == 1 && !word.starts_with("--")) {
            all.server.address = word;
        } else {
            return std::nullopt;
        }
    }
    return all;
}

int main(int argc, char** argv)
{
    const auto asked = read_options(argc, argv);
    if (!asked) {
        std::fprintf(
            stderr, "usage: kv_store [ADDRESS] [--threads N] [--tls CERTIFICATE KEY] "
                    "[--maxmemory BYTES]\n");
        return 2;
    }
    try {
        const auto report = fairlead::serve(
            kv_store(std::make_shared<kv::keyspace>(asked->max_memory)), asked->server,
            {.shards = {.threads = asked->threads}, .hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "kv_store: %s\n", error.what());
        return 1;
    }
}
