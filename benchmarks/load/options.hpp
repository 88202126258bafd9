// The load generator's command line.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_OPTIONS_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_OPTIONS_HPP

#include "common/loopback.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bench
{
enum class load_mode
{
    /// Connections stay open and echo.
    echo,
    /// Each connection echoes one message, closes and begins anew.
    reconnect,
    /// Connections are opened and held.
    idle,
};

struct load_options
{
    sockaddr_in address = parse_loopback("127.0.0.1:7777");
    std::size_t connections = 100;
    std::size_t size = 64;
    std::size_t depth = 1;
    double seconds = 5;
    double warmup = 1;
    /// Ends the run after so many requests, warm-up included; 0: only `seconds` ends it.
    std::uint64_t requests = 0;
    load_mode mode = load_mode::echo;
    bool tls = false;
    bool json = false;
    /// Whose CPU time is reported per request; 0: nobody's.
    int server_pid = 0;
};

inline constexpr const char* load_usage =
    "load_generator: echoes bytes over many connections of this machine and measures\n"
    "  --address 127.x.y.z:PORT   where the server listens (127.0.0.1:7777)\n"
    "  --connections N            open at once (100)\n"
    "  --size BYTES               of a message (64)\n"
    "  --depth D                  messages in flight on each connection (1)\n"
    "  --seconds S                measured time (5), after\n"
    "  --warmup S                 unmeasured time (1)\n"
    "  --requests N               end after N requests, warm-up included\n"
    "  --tls                      speak TLS; the server's certificate is not verified\n"
    "  --reconnect                connect, echo one message, close, again\n"
    "  --idle                     open the connections and only hold them\n"
    "  --server-pid PID           also report that process's CPU time per request\n"
    "  --json                     one JSON object instead of text\n";

namespace detail
{
template <typename Number>
Number parse_number(std::string_view name, std::string_view text, Number least, Number most)
{
    Number value{};
    const auto* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    if (parsed.ec != std::errc{} || parsed.ptr != end || !(value >= least && value <= most))
        throw std::invalid_argument(
            std::string(name) + " '" + std::string(text) + "': expected " + std::to_string(least) +
            " to " + std::to_string(most));
    return value;
}
} // namespace detail

/// Throws std::invalid_argument for what is unknown or out of range.
inline load_options parse_load_options(int count, char** values)
{
    using detail::parse_number;
    load_options options;
    for (int i = 1; i < count; ++i) {
        const std::string_view name = values[i];
        const auto value = [&]() -> std::string_view {
            if (i + 1 >= count)
                throw std::invalid_argument(std::string(name) + " needs a value");
            return values[++i];
        };
        if (name == "--address")
            options.address = parse_loopback(value());
        else if (name == "--connections")
            options.connections = parse_number<std::size_t>(name, value(), 1, 1'000'000);
        else if (name == "--size")
            options.size = parse_number<std::size_t>(name, value(), 1, 16'777'216);
        else if (name == "--depth")
            options.depth = parse_number<std::size_t>(name, value(), 1, 1024);
        else if (name == "--seconds")
            options.seconds = parse_number<double>(name, value(), 0.01, 3600);
        else if (name == "--warmup")
            options.warmup = parse_number<double>(name, value(), 0, 60);
        else if (name == "--requests")
            options.requests = parse_number<std::uint64_t>(name, value(), 1, 1'000'000'000'000);
        else if (name == "--server-pid")
            options.server_pid = parse_number<int>(name, value(), 1, 4'194'304);
        else if (name == "--tls")
            options.tls = true;
        else if (name == "--reconnect")
            options.mode = load_mode::reconnect;
        else if (name == "--idle")
            options.mode = load_mode::idle;
        else if (name == "--json")
            options.json = true;
        else
            throw std::invalid_argument("unknown option " + std::string(name));
    }
    if (ntohs(options.address.sin_port) == 0)
        throw std::invalid_argument("port 0 cannot be connected to");
    if (options.mode != load_mode::echo)
        options.depth = 1;
    return options;
}
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_OPTIONS_HPP
