// RESP2, the protocol of Redis: a codec whose frame is one whole command, and how to say what is
// wrong with one. Taking commands apart is for resp_arguments.hpp, replies for resp_reply.hpp.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_RESP_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_RESP_HPP

#include <fairlead/codec/codec.hpp>

#include <charconv>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace kv
{
/// Decimal, in the one way to write it: no plus, no blanks, no leading zeros.
template <std::integral Integer>
std::optional<Integer> to_integer(std::string_view text)
{
    Integer value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
    const bool is_canonical = !digits.starts_with('0') || text == "0";
    return error == std::errc() && rest == end && is_canonical ? std::optional(value)
                                                               : std::nullopt;
}

/// The codec. A frame is the bytes of a command as they came: an array of bulk strings, or a line
/// for people with a terminal. What is sent goes out as it is.
struct resp
{
    static constexpr bool payload_is_text = true;
    /// Most bytes of one argument.
    std::size_t max_bulk = std::size_t(1) << 20;
    /// Most bytes of a command, all of it: a peer can make us hold as much, and no more.
    std::size_t max_command = std::size_t(2) << 20;
    /// Most arguments of a command, its name included.
    std::size_t max_arguments = std::size_t(64) << 10;

    std::string_view problem() const noexcept
    {
        return max_arguments > (std::size_t(1) << 20) ? "resp: max_arguments is above 2^20" : "";
    }

    fairlead::codec::decode_result decode(
        std::span<const std::byte> bytes, fairlead::codec::decode_progress& at) const noexcept
    {
        const std::string_view text = fairlead::codec::text_of(bytes);
        if (at.state == beginning && !text.empty()) {
            at.state = text.front() == '*' ? count_line : inline_line;
        }
        for (;;) {
            const bool is_data = (at.state & kind_mask) == data;
            if (const auto end = is_data ? read_data(text, at) : read_line(text, at)) {
                return *end;
            }
        }
    }

    void encode(std::span<const std::byte> reply, std::vector<std::byte>& out) const
    {
        out.insert(out.end(), reply.begin(), reply.end());
    }

    // With nothing before and behind them, large replies are written from where they are.

    void encode_header(std::span<const std::byte>, std::vector<std::byte>&) const noexcept
    {}

    void encode_trailer(std::span<const std::byte>, std::vector<std::byte>&) const noexcept
    {}

    /// What to tell a peer about bytes that `decode` refuses.
    std::string complaint(std::span<const std::byte> bytes) const
    {
        fairlead::codec::decode_progress at;
        decode(bytes, at);
        switch (at.state) {
        case inline_line + line_too_long:
            return "Protocol error: too big inline request";
        case count_line + line_too_long:
            return "Protocol error: too big mbulk count string";
        case bulk_line + line_too_long:
            return "Protocol error: too big bulk count string";
        case bad_count:
            return "Protocol error: invalid multibulk length";
        case expected_dollar: {
            const char instead = fairlead::codec::text_of(bytes)[at.found];
            return std::string("Protocol error: expected '$', got '") + instead + "'";
        }
        case bad_length:
            return "Protocol error: invalid bulk length";
        case bad_bulk_end:
            return "Protocol error: expected CRLF behind a bulk"; // Redis does not look
        default:
            return "Protocol error: too big request";
        }
    }

private:
    using progress = fairlead::codec::decode_progress;
    using result = fairlead::codec::decode_result;

    /// What the next bytes are, or what is wrong with them. In `progress::state`, with the number
    /// of arguments that are to come above it.
    enum : unsigned
    {
        beginning,
        inline_line,
        count_line,
        bulk_line,
        data,
        line_too_long, // to be added to the kind of line
        bad_count = bulk_line + line_too_long + 1,
        expected_dollar,
        bad_length,
        bad_bulk_end,
        too_long,
        kind_mask = 15,
        one_to_come = 16,
    };

    static constexpr std::size_t max_line = std::size_t(64) << 10;

    /// `found`: where the line begins; `scanned`: where to look for its end. Empty: go on.
    std::optional<result> read_line(std::string_view text, progress& at) const noexcept
    {
        const unsigned kind = at.state & kind_mask;
        if (kind == bulk_line && at.found < text.size() && text[at.found] != '$') {
            return fail(at, expected_dollar);
        }
        const std::size_t end = text.find('\n', at.scanned);
        const std::string_view line = text.substr(at.found, end - at.found);
        if (line.size() > max_line) {
            return fail(at, kind + line_too_long);
        }
        if (end == std::string_view::npos) {
            at.scanned = text.size();
            return result::needs(1);
        }
        const auto number = kind != inline_line ? number_in(line) : std::optional(0LL);
        if (kind == bulk_line) {
            return read_length(number, end + 1, at);
        }
        if (!number || *number > static_cast<long long>(max_arguments)) {
            return fail(at, bad_count);
        }
        if (*number <= 0) { // the line is all, as it is when it is not an array's
            return result::frame(end + 1, 0, end + 1);
        }
        at.scanned = at.found = end + 1;
        at.state = bulk_line + static_cast<unsigned>(*number) * one_to_come;
        return std::nullopt;
    }

    std::optional<result> read_length(
        std::optional<long long> number, std::size_t begin, progress& at) const noexcept
    {
        if (!number || *number < 0 || *number > static_cast<long long>(max_bulk)) {
            return fail(at, bad_length);
        }
        at.scanned = begin;
        at.found = static_cast<std::size_t>(*number);
        if (begin + at.found + 2 > max_command) {
            at.state = too_long;
            return result::failed(fairlead::errc::frame_too_large);
        }
        at.state += data - bulk_line - one_to_come;
        return std::nullopt;
    }

    /// `scanned`: where the data begins; `found`: its size. Empty: go on.
    static std::optional<result> read_data(std::string_view text, progress& at) noexcept
    {
        const std::size_t end = at.scanned + at.found + 2;
        if (text.size() < end) {
            return result::needs(end - text.size());
        }
        if (text.substr(end - 2, 2) != "\r\n") {
            return fail(at, bad_bulk_end);
        }
        if (at.state == data) { // none to come
            return result::frame(end, 0, end);
        }
        at.scanned = at.found = end;
        at.state -= data - bulk_line;
        return std::nullopt;
    }

    /// Of a line that ends with CR; what is before the number is known.
    static std::optional<long long> number_in(std::string_view line) noexcept
    {
        return line.ends_with('\r') ? to_integer<long long>(line.substr(1, line.size() - 2))
                                    : std::nullopt;
    }

    static result fail(progress& at, unsigned what) noexcept
    {
        at.state = what;
        return result::failed(fairlead::errc::malformed_frame);
    }
};
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_RESP_HPP
