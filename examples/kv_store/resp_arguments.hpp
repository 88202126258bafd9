// The arguments of a RESP command, out of the frame that resp.hpp finds.

#ifndef FAIRLEAD_EXAMPLES_KV_STORE_RESP_ARGUMENTS_HPP
#define FAIRLEAD_EXAMPLES_KV_STORE_RESP_ARGUMENTS_HPP

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kv
{
/// The arguments of one command after the other: views into its bytes, or, of a line with quotes,
/// into a copy without them. Keeps its memory, so that a command needs none of its own.
class arguments
{
public:
    /// False: a line with quotes that do not match.
    bool split(std::string_view command)
    {
        views_.clear();
        if (command.starts_with('*')) {
            split_array(command);
            return true;
        }
        return split_line(command);
    }

    std::size_t size() const noexcept
    {
        return views_.size();
    }

    std::string_view operator[](std::size_t index) const noexcept
    {
        return views_[index];
    }

private:
    /// The codec has seen that all is well.
    void split_array(std::string_view rest)
    {
        rest.remove_prefix(rest.find('\n') + 1);
        while (!rest.empty()) {
            std::size_t size = 0;
            const char* const digits = rest.data() + 1; // behind the dollar
            const char* const end = std::from_chars(digits, rest.data() + rest.size(), size).ptr;
            rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 2);
            views_.push_back(rest.substr(0, size));
            rest.remove_prefix(size + 2);
        }
    }

    /// As redis-cli reads a line: "with \n, \x41 and so on", 'with \' alone', or neither.
    bool split_line(std::string_view rest)
    {
        unquoted_.clear();
        unquoted_.reserve(rest.size()); // the views must stay where they are
        for (;;) {
            while (!rest.empty() && is_blank(rest.front())) {
                rest.remove_prefix(1);
            }
            if (rest.empty()) {
                return true;
            }
            const std::size_t begin = unquoted_.size();
            while (!rest.empty() && !is_blank(rest.front())) {
                const char c = rest.front();
                rest.remove_prefix(1);
                if (c != '"' && c != '\'') {
                    unquoted_ += c;
                } else if (!take_quoted(rest, c)) {
                    return false;
                }
            }
            views_.push_back(std::string_view(unquoted_).substr(begin));
        }
    }

    /// Up to the quote that ends it. False: there is none, or something sticks to it.
    bool take_quoted(std::string_view& rest, char quote)
    {
        while (!rest.empty()) {
            const char c = rest.front();
            rest.remove_prefix(1);
            if (c == quote) {
                return rest.empty() || is_blank(rest.front());
            }
            const bool escapes = !rest.empty() && (quote == '"' || rest.front() == '\'');
            unquoted_ += c == '\\' && escapes ? take_escaped(rest) : c;
        }
        return false;
    }

    static char take_escaped(std::string_view& rest)
    {
        unsigned byte = 0;
        if (rest.front() == 'x' && rest.size() >= 3) {
            const char* const end = rest.data() + 3;
            if (std::from_chars(rest.data() + 1, end, byte, 16).ptr == end) {
                rest.remove_prefix(3);
                return static_cast<char>(byte);
            }
        }
        constexpr std::string_view letters = "nrtba";
        const char c = rest.front();
        rest.remove_prefix(1);
        const std::size_t found = letters.find(c);
        return found == std::string_view::npos ? c : "\n\r\t\b\a"[found];
    }

    static bool is_blank(char c) noexcept
    {
        return c == ' ' || (c >= '\t' && c <= '\r');
    }

    std::vector<std::string_view> views_;
    std::string unquoted_;
};
} // namespace kv

#endif // FAIRLEAD_EXAMPLES_KV_STORE_RESP_ARGUMENTS_HPP
