// fairlead: bytes and times of a simulation, for people.

#ifndef FAIRLEAD_TESTING_WORDS_HPP
#define FAIRLEAD_TESTING_WORDS_HPP

#include <fairlead/detail/namespace.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing
{
/// "1.250000000 s".
inline std::string in_seconds(std::chrono::nanoseconds time)
{
    std::array<char, 40> text = {};
    std::snprintf(text.data(), text.size(), "%.9f s", static_cast<double>(time.count()) / 1e9);
    return text.data();
}

/// The first bytes in quotes, and how many there are.
inline std::string in_quotes(std::string_view bytes)
{
    constexpr std::size_t most = 60;
    std::string text = "\"";
    for (const char c : bytes.substr(0, most)) {
        if (c == '\n') {
            text += "\\n";
        } else if (c == '\r') {
            text += "\\r";
        } else {
            text += c >= ' ' && c <= '~' ? c : '?';
        }
    }
    return text + "\"" + (bytes.size() > most ? "... " : " ") + std::to_string(bytes.size()) +
           " bytes";
}

/// The last things that were told.
class last_lines
{
public:
    void add(std::string line)
    {
        if (lines_.size() == most) {
            lines_.pop_front();
        }
        lines_.push_back(std::move(line));
    }

    std::string text() const
    {
        std::string all;
        for (const std::string& line : lines_) {
            all += line + "\n";
        }
        return all;
    }

private:
    static constexpr std::size_t most = 24;

    std::deque<std::string> lines_;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_WORDS_HPP
