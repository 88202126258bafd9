// The commands of kv_store about keys and their values; SET is in set.hpp, the table of all in
// interpreter.hpp. Answers and errors are worded as those of Redis 7.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_COMMANDS_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_COMMANDS_HPP

#include "keyspace.hpp"
#include "resp.hpp"
#include "resp_arguments.hpp"
#include "resp_reply.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kv
{
/// One command, being executed. The parts of its keys are locked.
struct call
{
    const arguments& args;
    std::span<const hashed_key> keys;
    keyspace& store;
    std::string& reply;
    bool is_last = false; // let the peer go
};

/// ASCII on purpose; `lower` is in lower case.
inline bool same_word(std::string_view word, std::string_view lower) noexcept
{
    const auto same = [](char one, char other) {
        return (one >= 'A' && one <= 'Z' ? one - 'A' + 'a' : one) == other;
    };
    return std::equal(word.begin(), word.end(), lower.begin(), lower.end(), same);
}

inline void refuse_count(std::string& reply, std::string_view command)
{
    append_error(reply, "ERR wrong number of arguments for '" + std::string(command) + "' command");
}

inline constexpr std::string_view not_an_integer = "ERR value is not an integer or out of range";
inline constexpr std::string_view bad_syntax = "ERR syntax error";

inline void append_value(std::string& reply, const keyspace::entry* found)
{
    if (found != nullptr) {
        append_bulk(reply, found->value);
    } else {
        append_null(reply);
    }
}

inline void ping(call& now)
{
    if (now.args.size() > 2) {
        refuse_count(now.reply, "ping");
    } else if (now.args.size() == 2) {
        append_bulk(now.reply, now.args[1]);
    } else {
        append_simple(now.reply, "PONG");
    }
}

inline void echo(call& now)
{
    append_bulk(now.reply, now.args[1]);
}

inline void quit(call& now)
{
    append_simple(now.reply, "OK");
    now.is_last = true;
}

inline void get(call& now)
{
    append_value(now.reply, now.store.find(now.keys[0]));
}

inline void mget(call& now)
{
    // A short command may ask for a megabyte again and again.
    constexpr std::size_t most = std::size_t(16) << 20;
    append_array(now.reply, now.keys.size());
    for (const hashed_key& key : now.keys) {
        append_value(now.reply, now.store.find(key));
        if (now.reply.size() > most) {
            now.reply.clear();
            append_error(now.reply, "ERR the reply is too large");
            return;
        }
    }
}

inline void mset(call& now)
{
    if (now.args.size() % 2 == 0) {
        refuse_count(now.reply, "mset");
        return;
    }
    for (std::size_t i = 0; i < now.keys.size(); ++i) {
        now.store.set(now.keys[i], now.args[2 + 2 * i]);
    }
    append_simple(now.reply, "OK");
}

inline void del(call& now)
{
    append_integer(now.reply, std::ranges::count_if(now.keys, [&](const hashed_key& key) {
                       return now.store.erase(key);
                   }));
}

inline void exists(call& now)
{
    append_integer(now.reply, std::ranges::count_if(now.keys, [&](const hashed_key& key) {
                       return now.store.find(key) != nullptr;
                   }));
}

inline void incr(call& now)
{
    const keyspace::entry* const found = now.store.find(now.keys[0]);
    const auto number = to_integer<std::int64_t>(found != nullptr ? found->value : "0");
    if (!number) {
        append_error(now.reply, not_an_integer);
    } else if (*number == std::numeric_limits<std::int64_t>::max()) {
        append_error(now.reply, "ERR increment or decrement would overflow");
    } else {
        now.store.set(
            now.keys[0], std::to_string(*number + 1), found != nullptr ? found->expires : never);
        append_integer(now.reply, *number + 1);
    }
}

/// When it is over, `unit` being milliseconds; empty: beyond all time.
inline std::optional<std::int64_t> time_after(std::int64_t duration, std::int64_t unit) noexcept
{
    constexpr auto most = std::numeric_limits<std::int64_t>::max() - 1; // one more is never
    const std::int64_t begin = kv::now();
    const bool fits =
        duration <= most / unit && duration >= -most / unit && duration * unit <= most - begin;
    return fits ? std::optional(begin + duration * unit) : std::nullopt;
}

inline void expire(call& now)
{
    const auto seconds = to_integer<std::int64_t>(now.args[2]);
    const auto expires = seconds ? time_after(*seconds, 1000) : std::nullopt;
    if (!seconds) {
        append_error(now.reply, not_an_integer);
    } else if (!expires) {
        append_error(now.reply, "ERR invalid expire time in 'expire' command");
    } else if (*seconds <= 0) {
        append_integer(now.reply, now.store.erase(now.keys[0]) ? 1 : 0);
    } else {
        append_integer(now.reply, now.store.expire(now.keys[0], *expires) ? 1 : 0);
    }
}

inline void ttl(call& now)
{
    const keyspace::entry* const found = now.store.find(now.keys[0]);
    if (found == nullptr) {
        append_integer(now.reply, -2);
    } else if (found->expires == never) {
        append_integer(now.reply, -1);
    } else {
        append_integer(now.reply, (found->expires - kv::now() + 500) / 1000);
    }
}
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_COMMANDS_HPP
