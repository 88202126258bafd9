// Replies of RESP2, the protocol of Redis.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_RESP_REPLY_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_RESP_REPLY_HPP

#include <charconv>
#include <concepts>
#include <iterator>
#include <string>
#include <string_view>

namespace kv
{
// Replies are appended.

inline void append_number(std::string& reply, char kind, std::integral auto value)
{
    char digits[24];
    const auto end = std::to_chars(std::begin(digits), std::end(digits), value).ptr;
    reply += kind;
    reply.append(digits, end);
    reply += "\r\n";
}

inline void append_integer(std::string& reply, std::integral auto value)
{
    append_number(reply, ':', value);
}

/// So many replies are its elements.
inline void append_array(std::string& reply, std::integral auto size)
{
    append_number(reply, '*', size);
}

inline void append_bulk(std::string& reply, std::string_view text)
{
    append_number(reply, '$', text.size());
    reply += text;
    reply += "\r\n";
}

inline void append_null(std::string& reply)
{
    reply += "$-1\r\n";
}

inline void append_simple(std::string& reply, std::string_view text)
{
    reply += '+';
    reply += text;
    reply += "\r\n";
}

/// `text` may quote the peer: line ends in it become blanks.
inline void append_error(std::string& reply, std::string_view text)
{
    reply += '-';
    for (const char c : text) {
        reply += c == '\r' || c == '\n' ? ' ' : c;
    }
    reply += "\r\n";
}
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_RESP_REPLY_HPP
