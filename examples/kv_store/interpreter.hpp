// Commands of kv_store about the server itself, the table of all commands, and how one is looked up
// and executed.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_INTERPRETER_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_INTERPRETER_HPP

#include "commands.hpp"
#include "set.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kv
{
/// A row of the table.
struct command
{
    std::string_view name;
    int arity;                         // arguments with the name; negative: at least so many
    int first_key, last_key, key_step; // last: -1 is the last argument; first: 0 means no keys
    bool needs_memory;
    void (*run)(call& now);
};

inline void refuse_subcommand(call& now, std::string_view of)
{
    const std::string given(now.args[1].substr(0, 128));
    append_error(
        now.reply, "ERR unknown subcommand '" + given + "'. Try " + std::string(of) + " HELP.");
}

inline void select(call& now)
{
    const auto number = to_integer<int>(now.args[1]);
    if (!number) {
        append_error(now.reply, not_an_integer);
    } else if (*number != 0) {
        append_error(now.reply, "ERR DB index is out of range");
    } else {
        append_simple(now.reply, "OK");
    }
}

/// As much as libraries say when they connect.
inline void client(call& now)
{
    if (!same_word(now.args[1], "setname") && !same_word(now.args[1], "setinfo")) {
        refuse_subcommand(now, "CLIENT");
    } else if (now.args.size() < 3) {
        refuse_count(now.reply, "client|setname");
    } else {
        append_simple(now.reply, "OK");
    }
}

/// What tools want to know: that nothing is saved.
inline void config(call& now)
{
    if (!same_word(now.args[1], "get")) {
        refuse_subcommand(now, "CONFIG");
        return;
    }
    if (now.args.size() < 3) {
        refuse_count(now.reply, "config|get");
        return;
    }
    const std::array<std::pair<std::string_view, std::string>, 3> known = {
        {{"save", ""},
         {"appendonly", "no"},
         {"maxmemory", std::to_string(now.store.memory().second)}}};
    const auto is_asked = [&](const auto& one) {
        for (std::size_t i = 2; i < now.args.size(); ++i) {
            if (same_word(now.args[i], one.first) || now.args[i] == "*") {
                return true;
            }
        }
        return false;
    };
    append_array(now.reply, 2 * std::ranges::count_if(known, is_asked));
    for (const auto& one : known) {
        if (is_asked(one)) {
            append_bulk(now.reply, one.first);
            append_bulk(now.reply, one.second);
        }
    }
}

inline void info(call& now)
{
    const auto [keys, expiring] = now.store.size();
    const auto [used, most] = now.store.memory();
    const std::array<std::pair<std::string_view, std::string>, 3> sections = {
        {{"server", "# Server\r\nserver_name:kv_store\r\n"},
         {"memory", "# Memory\r\nused_memory:" + std::to_string(used) +
                        "\r\nmaxmemory:" + std::to_string(most) + "\r\n"},
         {"keyspace", "# Keyspace\r\ndb0:keys=" + std::to_string(keys) +
                          ",expires=" + std::to_string(expiring) + "\r\n"}}};
    std::string text;
    for (const auto& [name, lines] : sections) {
        bool is_asked = now.args.size() == 1;
        for (std::size_t i = 1; i < now.args.size(); ++i) {
            is_asked = is_asked || same_word(now.args[i], name) || same_word(now.args[i], "all") ||
                       same_word(now.args[i], "default") || same_word(now.args[i], "everything");
        }
        if (is_asked) {
            text += text.empty() ? lines : "\r\n" + lines;
        }
    }
    append_bulk(now.reply, text);
}

inline void describe(call& now);

/// The most frequent ones first: they are found soonest.
inline constexpr std::array commands = {
    command{"get", 2, 1, 1, 1, false, get},           command{"set", -3, 1, 1, 1, true, set},
    command{"incr", 2, 1, 1, 1, true, incr},          command{"mget", -2, 1, -1, 1, false, mget},
    command{"mset", -3, 1, -1, 2, true, mset},        command{"del", -2, 1, -1, 1, false, del},
    command{"exists", -2, 1, -1, 1, false, exists},   command{"expire", 3, 1, 1, 1, false, expire},
    command{"ttl", 2, 1, 1, 1, false, ttl},           command{"ping", -1, 0, 0, 0, false, ping},
    command{"echo", 2, 0, 0, 0, false, echo},         command{"quit", -1, 0, 0, 0, false, quit},
    command{"select", 2, 0, 0, 0, false, select},     command{"client", -2, 0, 0, 0, false, client},
    command{"config", -2, 0, 0, 0, false, config},    command{"info", -1, 0, 0, 0, false, info},
    command{"command", -1, 0, 0, 0, false, describe},
};

inline void describe(call& now)
{
    if (now.args.size() == 2 && same_word(now.args[1], "count")) {
        append_integer(now.reply, commands.size());
    } else if (now.args.size() > 1 && same_word(now.args[1], "docs")) {
        append_array(now.reply, 0); // redis-cli makes do without
    } else if (now.args.size() > 1) {
        refuse_subcommand(now, "COMMAND");
    } else {
        append_array(now.reply, commands.size());
        for (const command& each : commands) {
            append_array(now.reply, 6);
            append_bulk(now.reply, each.name);
            append_integer(now.reply, each.arity);
            append_array(now.reply, each.needs_memory ? 1 : 0); // flags
            if (each.needs_memory) {
                append_simple(now.reply, "denyoom");
            }
            for (const int place : {each.first_key, each.last_key, each.key_step}) {
                append_integer(now.reply, place);
            }
        }
    }
}

/// Executes commands, of one thread.
class interpreter
{
public:
    explicit interpreter(std::shared_ptr<keyspace> store) : store_(std::move(store))
    {}

    /// Appends the reply to a command; false: it was the peer's last.
    bool run(std::string_view text, std::string& reply)
    {
        if (!args_.split(text)) {
            append_error(reply, "ERR Protocol error: unbalanced quotes in request");
            return false;
        }
        if (args_.size() == 0) {
            return true; // an empty line, an empty array: no reply
        }
        const auto found = std::ranges::find_if(commands, [name = args_[0]](const command& each) {
            return same_word(name, each.name);
        });
        if (found == commands.end()) {
            append_error(reply, unknown_command());
            return true;
        }
        const auto count = static_cast<int>(args_.size());
        if (found->arity > 0 ? count != found->arity : count < -found->arity) {
            refuse_count(reply, found->name);
            return true;
        }
        return run(*found, text.size(), reply);
    }

private:
    bool run(const command& which, std::size_t size, std::string& reply)
    {
        keys_.clear();
        if (which.first_key != 0) {
            const auto last =
                which.last_key < 0 ? args_.size() - 1 : static_cast<std::size_t>(which.last_key);
            for (auto i = static_cast<std::size_t>(which.first_key); i <= last;
                 i += static_cast<std::size_t>(which.key_step)) {
                keys_.push_back(hashed(args_[i]));
            }
        }
        if (which.needs_memory && store_->lacks_room(keys_.size(), size)) {
            append_error(reply, "OOM command not allowed when used memory > 'maxmemory'.");
            return true;
        }
        const keyspace::lock guard(*store_, keys_);
        call now{args_, keys_, *store_, reply};
        which.run(now);
        return !now.is_last;
    }

    std::string unknown_command() const
    {
        constexpr std::size_t most = 128;
        std::string quoted;
        for (std::size_t i = 1; i < args_.size() && quoted.size() < most; ++i) {
            quoted += '\'';
            quoted += args_[i].substr(0, most - quoted.size() + 1);
            quoted += "' ";
        }
        return "ERR unknown command '" + std::string(args_[0].substr(0, most)) +
               "', with args beginning with: " + quoted;
    }

    std::shared_ptr<keyspace> store_;
    arguments args_;
    std::vector<hashed_key> keys_;
};
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_INTERPRETER_HPP
