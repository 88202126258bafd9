// fairlead: reads an address as users write it ("host:port", "unix:/path"), and the defaults that
// depend on the machine. Ring 0: nothing is resolved here; names and services go to the resolver later.

#ifndef FAIRLEAD_DETAIL_CONFIG_ADDRESS_HPP
#define FAIRLEAD_DETAIL_CONFIG_ADDRESS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>
#include <fairlead/endpoint.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif
#if __has_include(<sys/un.h>)
#include <sys/un.h>
#endif

namespace FAIRLEAD_NAMESPACE::detail
{
/// An address in its two parts, well-formed but not resolved.
struct host_port
{
    /// A name, an IPv4 address or, without its brackets, an IPv6 address. Empty: every interface.
    std::string host;
    /// A port number, 0 to 65535, or the name of a service.
    std::string service;
    /// The host stood in brackets.
    bool is_v6_literal = false;
};

/// What `parse_address` found: a value, or else a problem in words.
struct parsed_address
{
    std::optional<host_port> value;
    /// Quotes the address and names the rule it breaks; empty when there is none.
    std::string problem;
    /// In place of a value: the Unix socket of "unix:/path" or "unix:@name".
    std::optional<endpoint> unix_socket = {};
};

/// `text` in quotation marks, fit for one line of a log: what is not printable ASCII becomes
/// `\xNN`, and of a long text the first 64 bytes and the length remain.
inline std::string quote(std::string_view text)
{
    constexpr std::size_t longest = 64;
    constexpr std::string_view digits = "0123456789abcdef";
    std::string result = "\"";
    for (const char c : text.substr(0, longest)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte > 0x7e) {
            result += {'\\', 'x', digits[byte >> 4], digits[byte & 0xf]};
        } else {
            if (c == '"' || c == '\\') {
                result += '\\';
            }
            result += c;
        }
    }
    if (text.size() <= longest) {
        return result + '"';
    }
    return result + "...\" (" + std::to_string(text.size()) + " bytes)";
}

// The character classes are spelled out because those of <cctype> depend on the locale.
constexpr bool is_digit(char c) noexcept
{
    return c >= '0' && c <= '9';
}

constexpr bool is_letter(char c) noexcept
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

constexpr bool is_hex_digit(char c) noexcept
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// The longest name that DNS can carry, without the final dot.
inline constexpr std::size_t longest_host_name = 253;

/// Labels of 1 to 63 letters, digits, `-` and `_` between dots (the underscore is not RFC 1123, but
/// container networks use it). No final dot, no IDN: such names are written in punycode.
constexpr bool is_host_name(std::string_view text) noexcept
{
    if (text.size() > longest_host_name) {
        return false;
    }
    std::size_t label = 0;
    for (const char c : text) {
        if (c == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (!is_letter(c) && !is_digit(c) && c != '-' && c != '_') {
            return false;
        } else if (++label > 63) {
            return false;
        }
    }
    return label != 0;
}

/// Four decimal numbers up to 255, none with a leading zero (which some systems read as octal).
constexpr bool is_ipv4_address(std::string_view text) noexcept
{
    for (int part = 0; part < 4; ++part) {
        const std::size_t length = std::min(text.find('.'), text.size());
        const std::string_view number = text.substr(0, length);
        if (number.empty() || number.size() > 3 || (number.size() > 1 && number[0] == '0')) {
            return false;
        }
        int value = 0;
        for (const char c : number) {
            if (!is_digit(c)) {
                return false;
            }
            value = value * 10 + (c - '0');
        }
        const bool is_last = length == text.size();
        if (value > 255 || is_last != (part == 3)) {
            return false;
        }
        text.remove_prefix(is_last ? length : length + 1);
    }
    return true;
}

/// Groups of up to four hexadecimal digits, one `::` at most, an IPv4 tail (RFC 4291, section 2.2),
/// and a zone behind `%` (RFC 4007, section 11).
constexpr bool is_ipv6_address(std::string_view text) noexcept
{
    if (const std::size_t percent = text.find('%'); percent != std::string_view::npos) {
        if (!is_host_name(text.substr(percent + 1))) {
            return false;
        }
        text = text.substr(0, percent);
    }
    int groups = 0;
    bool has_gap = false;
    if (text.starts_with("::")) {
        has_gap = true;
        text.remove_prefix(2);
    }
    while (!text.empty()) {
        const std::size_t length = std::min(text.find(':'), text.size());
        const std::string_view group = text.substr(0, length);
        text.remove_prefix(length);
        if (text.empty() && is_ipv4_address(group)) {
            groups += 2;
            break;
        }
        if (group.empty() || group.size() > 4 ||
            !std::all_of(group.begin(), group.end(), is_hex_digit)) {
            return false;
        }
        ++groups;
        if (text.starts_with("::")) {
            if (has_gap) {
                return false;
            }
            has_gap = true;
            text.remove_prefix(2);
        } else if (!text.empty()) {
            text.remove_prefix(1);
            if (text.empty()) {
                return false;
            }
        }
    }
    return has_gap ? groups <= 7 : groups == 8;
}

/// The rule that `service` breaks, or nothing: a number up to 65535, or lower-case letters, digits
/// and inner hyphens with a letter among them (RFC 6335, section 5.1).
constexpr std::string_view problem_of_service(std::string_view service) noexcept
{
    if (service.empty()) {
        return "the port is missing (0 stands for any free port)";
    }
    if (std::all_of(service.begin(), service.end(), is_digit)) {
        // More digits than the largest port has would overflow before they could be compared.
        std::uint32_t port = 0;
        for (const char c : service) {
            port = std::min<std::uint32_t>(port * 10 + static_cast<std::uint32_t>(c - '0'), 65536);
        }
        return port <= 65535 ? "" : "a port is a number from 0 to 65535";
    }
    const bool spelled_well = std::all_of(service.begin(), service.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-';
    });
    if (!spelled_well || service.front() == '-' || service.back() == '-') {
        return "a port is a number from 0 to 65535 or a service name of a-z, 0-9 and inner '-'";
    }
    return "";
}

/// The rule that `host`, written without brackets, breaks, or nothing.
constexpr std::string_view problem_of_host(std::string_view host) noexcept
{
    if (host.find_first_of("[]") != std::string_view::npos) {
        return "brackets enclose the whole host, as in \"[::1]:80\"";
    }
    if (host.find(':') != std::string_view::npos) {
        return "more than one ':'; an IPv6 address stands in brackets, as in \"[::1]:80\"";
    }
    if (host.ends_with('.')) {
        host.remove_suffix(1);
        if (host.empty()) {
            return "the host is a dot alone";
        }
    }
    if (host.size() > longest_host_name) {
        return "a host name has at most 253 bytes";
    }
    const bool is_numeric =
        std::all_of(host.begin(), host.end(), [](char c) { return is_digit(c) || c == '.'; });
    if (is_numeric && !host.empty() && !is_ipv4_address(host)) {
        return "an IPv4 address is four numbers from 0 to 255";
    }
    if (!host.empty() && !is_host_name(host)) {
        return "a host name is labels of 1 to 63 letters, digits, '-' and '_' between dots";
    }
    return "";
}

inline constexpr std::string_view unix_prefix = "unix:";

/// The longest path of a Unix socket, and the longest abstract name: beside either, the kernel's
/// `sun_path` has room for one zero byte.
inline constexpr std::size_t longest_unix_path =
#if __has_include(<sys/un.h>)
    sizeof(::sockaddr_un::sun_path) - 1;
#else
    103;
#endif

/// The rule that `path`, behind "unix:", breaks, or nothing. It is absolute, because the working
/// directory may be another one when the socket is removed, and because "unix:80" is more likely
/// meant for a port.
inline std::string problem_of_unix_path(std::string_view path)
{
    const bool is_abstract = path.starts_with('@');
#if !defined(__linux__)
    if (is_abstract) {
        return "abstract names (\"unix:@name\") are Linux's alone";
    }
#endif
    if (!is_abstract && !path.starts_with('/')) {
        return "behind \"unix:\" comes an absolute path, or '@' and an abstract name";
    }
    if (path.find('\0') != std::string_view::npos) {
        return "a Unix socket's path has no zero byte";
    }
    const std::size_t size = path.size() - (is_abstract ? 1 : 0);
    if (size > longest_unix_path) {
        return "a Unix socket's " + std::string(is_abstract ? "name" : "path") + " has at most " +
               std::to_string(longest_unix_path) + " bytes, this one has " + std::to_string(size);
    }
    if (is_abstract && size == 0) {
        return "the name behind the '@' is missing";
    }
    return !is_abstract && path.ends_with('/') ? "the path is that of a directory" : "";
}

inline parsed_address parse_unix_address(std::string_view text)
{
    std::string path(text.substr(unix_prefix.size()));
    if (const std::string rule = problem_of_unix_path(path); !rule.empty()) {
        return {{}, quote(text) + ": " + rule};
    }
    if (path.front() == '@') {
        path.front() = '\0'; // as the kernel has it
    }
    return {{}, {}, endpoint::of_unix(path)};
}

/// Splits `"host:port"`, `":port"` and `"[v6]:port"`; takes `"unix:/path"` and `"unix:@name"`.
/// Nothing is resolved: a well-formed name may still not exist.
inline parsed_address parse_address(std::string_view text)
{
    if (text.starts_with(unix_prefix)) {
        return parse_unix_address(text);
    }
    const auto refuse = [text](std::string_view rule) {
        return parsed_address{{}, quote(text) + ": " + std::string(rule)};
    };
    constexpr std::string_view forms =
        "no port; an address is \"host:port\", \":port\" or \"[v6]:port\"";

    const bool bracketed = text.starts_with('[');
    std::string_view host;
    std::string_view service;
    if (bracketed) {
        const std::size_t bracket = text.find(']');
        if (bracket == std::string_view::npos) {
            return refuse("the '[' is not closed");
        }
        host = text.substr(1, bracket - 1);
        const std::string_view rest = text.substr(bracket + 1);
        if (rest.empty()) {
            return refuse(forms);
        }
        if (rest.front() != ':') {
            return refuse("after the ']' comes ':' and the port");
        }
        service = rest.substr(1);
        if (!is_ipv6_address(host)) {
            return refuse("brackets enclose an IPv6 address, as in \"[::1]:80\"");
        }
    } else {
        const std::size_t colon = text.rfind(':');
        if (colon == std::string_view::npos) {
            return refuse(forms);
        }
        host = text.substr(0, colon);
        service = text.substr(colon + 1);
        if (const std::string_view rule = problem_of_host(host); !rule.empty()) {
            return refuse(rule);
        }
    }
    if (const std::string_view rule = problem_of_service(service); !rule.empty()) {
        return refuse(rule);
    }
    return {host_port{std::string(host), std::string(service), bracketed}, {}};
}

/// Half of the descriptors this process may open, at least 1 and at most 100 000, so that the
/// handlers' own files and upstream connections have room as well.
inline std::size_t default_max_connections() noexcept
{
    constexpr std::size_t most = 100'000;
#if __has_include(<sys/resource.h>)
    ::rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        // Never 0: as `max_connections` that would mean "no limit".
        return integer_cast<std::size_t>(
            std::clamp<std::uint64_t>(integer_cast<std::uint64_t>(limit.rlim_cur) / 2, 1, most));
    }
#endif
    return most;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONFIG_ADDRESS_HPP
