// SET of kv_store, with its options.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_SET_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_SET_HPP

#include "commands.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace kv
{
/// What may follow `SET key value`.
class set_options
{
public:
    /// Empty, or what is wrong.
    std::string_view read(const arguments& args)
    {
        for (std::size_t i = 3; i < args.size(); ++i) {
            const std::string_view word = args[i];
            const bool has_next = i + 1 < args.size();
            if (same_word(word, "nx") && !only_if_there) {
                only_if_absent = true;
            } else if (same_word(word, "xx") && !only_if_absent) {
                only_if_there = true;
            } else if (same_word(word, "get")) {
                returns_old = true;
            } else if (same_word(word, "keepttl") && unit == 0) {
                keeps_expiry = true;
            } else if (has_next && !keeps_expiry && unit != 1 && same_word(word, "ex")) {
                unit = 1000;
                duration_ = args[++i];
            } else if (has_next && !keeps_expiry && unit != 1000 && same_word(word, "px")) {
                unit = 1;
                duration_ = args[++i];
            } else {
                return bad_syntax;
            }
        }
        return unit != 0 ? read_duration() : "";
    }

    bool only_if_absent = false;
    bool only_if_there = false;
    bool returns_old = false;
    bool keeps_expiry = false;
    std::int64_t unit = 0;
    std::int64_t expires = never;

private:
    std::string_view read_duration()
    {
        const auto duration = to_integer<std::int64_t>(duration_);
        if (!duration) {
            return not_an_integer;
        }
        const auto end = *duration > 0 ? time_after(*duration, unit) : std::nullopt;
        expires = end.value_or(never);
        return end ? "" : "ERR invalid expire time in 'set' command";
    }

    std::string_view duration_;
};

inline void set(call& now)
{
    set_options options;
    if (const std::string_view problem = options.read(now.args); !problem.empty()) {
        append_error(now.reply, problem);
        return;
    }
    const bool looks = options.only_if_absent || options.only_if_there || options.returns_old ||
                       options.keeps_expiry;
    const keyspace::entry* const old = looks ? now.store.find(now.keys[0]) : nullptr;
    const bool is_met = options.only_if_absent  ? old == nullptr
                        : options.only_if_there ? old != nullptr
                                                : true;
    if (options.returns_old) {
        append_value(now.reply, old);
    } else if (is_met) {
        append_simple(now.reply, "OK");
    } else {
        append_null(now.reply);
    }
    if (is_met) {
        const bool keeps = options.keeps_expiry && old != nullptr;
        now.store.set(now.keys[0], now.args[2], keeps ? old->expires : options.expires);
    }
}
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_SET_HPP
