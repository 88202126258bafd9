// fairlead: the rules of config.hpp, one message for each that is broken. Ring 0: no file is opened
// and no name resolved, so a configuration without a problem here may still not work.

#ifndef FAIRLEAD_DETAIL_CONFIG_CHECK_HPP
#define FAIRLEAD_DETAIL_CONFIG_CHECK_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/ascii.hpp>
#include <fairlead/error.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Collects problems; each function looks at one member, named as the user writes it.
class config_checker
{
public:
    void check_server(const server_config& config)
    {
        const parsed_address address = parse_address(config.address);
        if (!address.problem.empty()) {
            add(errc::invalid_address, "address is " + address.problem);
        }
        require_range("backlog", config.backlog, 0, std::numeric_limits<int>::max());
        require_range("accepts_per_wakeup", config.accepts_per_wakeup, 1, 1024);
        require_enumerator("at_limit", config.at_limit, limit_policy::evict_idle);

        constexpr std::string_view off = "0 turns it off";
        constexpr std::string_view no_wait = "0 does not wait";
        require_duration("pre_open_timeout", config.pre_open_timeout, off);
        require_duration("idle_timeout", config.idle_timeout, off);
        require_duration("write_timeout", config.write_timeout, off);
        require_duration("max_lifetime", config.max_lifetime, off);
        require_duration("tls_close_timeout", config.tls_close_timeout, no_wait);
        require_duration("linger", config.linger, no_wait);
        require_duration("drain_timeout", config.drain_timeout, "0 waits until all are done");

        check_socket(config.socket);
        check_unix_socket(config.unix_socket);
        if (config.tls_detect && !config.tls) {
            add("tls_detect is true: it needs tls, which is empty");
        }
        if (config.tls) {
            check_tls(*config.tls);
        }
    }

    std::vector<config_problem> take() &&
    {
        return std::move(problems_);
    }

private:
    void check_socket(const socket_config& socket)
    {
        using namespace std::chrono_literals;
        constexpr int int_max = std::numeric_limits<int>::max();
        // Linux refuses more (MAX_TCP_KEEPIDLE and its siblings) without naming the option.
        constexpr std::chrono::seconds longest_keep_alive = 32767s;

        require_range("socket.keep_alive_idle", socket.keep_alive_idle, 0s, longest_keep_alive);
        require_range(
            "socket.keep_alive_interval", socket.keep_alive_interval, 0s, longest_keep_alive);
        require_range("socket.keep_alive_count", socket.keep_alive_count, 0, 127);
        // tcp(7) says unsigned int; the kernel reads an int and refuses a negative one.
        require_range(
            "socket.user_timeout", socket.user_timeout, 0ms, std::chrono::milliseconds(int_max));
        require_range("socket.receive_buffer", socket.receive_buffer, 0, int_max);
        require_range("socket.send_buffer", socket.send_buffer, 0, int_max);
        require_range("socket.fast_open", socket.fast_open, 0, int_max);
        require_range("socket.defer_accept", socket.defer_accept, 0s, longest_keep_alive);
    }

    void check_unix_socket(const unix_socket_config& socket)
    {
        constexpr int all = 0777;
        if (socket.mode < 0 || socket.mode > all) {
            add("unix_socket.mode is " + to_octal(socket.mode) +
                ": it must be from 0 to 0777 (read and write for owner, group and others: 0666)");
        }
        require_name("unix_socket.owner", socket.owner);
        require_name("unix_socket.group", socket.group);
    }

    void check_tls(const tls_config& tls)
    {
        code_ = errc::invalid_tls_config;
        require_text("tls.certificate", tls.certificate);
        require_text("tls.private_key", tls.private_key);
        check_client_auth(tls);
        check_versions(tls);
        check_alpn(tls.alpn);
        check_server_names(tls.sni);
        require_range(
            "tls.session_lifetime", tls.session_lifetime, std::chrono::seconds(0),
            std::chrono::seconds(std::chrono::days(7)));
    }

    void check_client_auth(const tls_config& tls)
    {
        if (!require_enumerator(
                "tls.client_auth", tls.client_auth, client_auth::require_and_verify)) {
            return;
        }
        const bool verifies = tls.client_auth == client_auth::verify_if_given ||
                              tls.client_auth == client_auth::require_and_verify;
        if (verifies && tls.client_ca.empty()) {
            const std::string_view value = tls.client_auth == client_auth::verify_if_given
                                               ? "verify_if_given"
                                               : "require_and_verify";
            add("tls.client_ca is \"\": client_auth " + std::string(value) +
                " needs the authorities to verify against");
        }
        if (tls.client_auth == client_auth::none && !tls.client_ca.empty()) {
            add("tls.client_auth is none: client_ca names authorities, and no client would be "
                "asked for a certificate");
        }
    }

    void check_versions(const tls_config& tls)
    {
        const bool low =
            require_enumerator("tls.min_version", tls.min_version, tls_version::tls_1_3);
        const bool high =
            require_enumerator("tls.max_version", tls.max_version, tls_version::tls_1_3);
        if (low && high && tls.min_version > tls.max_version) {
            add("tls.min_version is tls_1_3: it must not be above max_version, which is tls_1_2");
        }
    }

    void check_alpn(const std::vector<std::string>& protocols)
    {
        // One length byte for each name and two for the list (RFC 7301, section 3.1).
        constexpr std::size_t longest_name = 255;
        constexpr std::size_t longest_list = 65535;
        std::size_t total = 0;
        for (std::size_t i = 0; i < protocols.size(); ++i) {
            const std::string& protocol = protocols[i];
            total += protocol.size() + 1;
            if (protocol.empty() || protocol.size() > longest_name) {
                add("tls.alpn[" + std::to_string(i) + "] is " + detail::quote(protocol) +
                    ": a protocol's name has 1 to 255 bytes");
            }
        }
        if (total > longest_list) {
            add("tls.alpn is a list of " + std::to_string(total) +
                " bytes: it must fit into 65535, with one byte more for each name");
        }
    }

    void check_server_names(const std::vector<tls_server_name>& names)
    {
        std::vector<std::string> seen;
        for (std::size_t i = 0; i < names.size(); ++i) {
            const std::string member = "tls.sni[" + std::to_string(i) + "]";
            const std::string& name = names[i].name;
            if (!is_server_name(name)) {
                add(member + ".name is " + detail::quote(name) +
                    ": a server name is a host name, or \"*.\" before one");
            }
            std::string folded = lower_case(name);
            const auto first = std::find(seen.begin(), seen.end(), folded);
            if (first != seen.end() && !name.empty()) {
                add(member + ".name is " + detail::quote(name) + ": the same name is in tls.sni[" +
                    std::to_string(first - seen.begin()) + "], and case makes no difference");
            }
            seen.push_back(std::move(folded));
            require_text(member + ".certificate", names[i].certificate);
            require_text(member + ".private_key", names[i].private_key);
        }
    }

    static bool is_server_name(std::string_view name)
    {
        if (name.starts_with("*.")) {
            name.remove_prefix(2);
        }
        return is_host_name(name);
    }

    // Says nothing of the value: it may be a private key.
    void require_text(const std::string& member, const std::string& value)
    {
        if (value.empty()) {
            add(member + " is \"\": a path or PEM text is required");
        } else if (value.find('\0') != std::string::npos) {
            add(member + " contains a zero byte: neither a path nor PEM text can");
        }
    }

    void require_name(std::string_view member, const std::string& value)
    {
        if (value.find('\0') != std::string::npos) {
            add(std::string(member) + " is " + detail::quote(value) +
                ": a name or a number has no zero byte");
        }
    }

    template <typename Value>
    void require_range(std::string_view member, Value value, Value low, Value high)
    {
        if (value < low || value > high) {
            add(std::string(member) + " is " + to_text(value) + ": it must be from " +
                to_text(low) + " to " + to_text(high));
        }
    }

    void require_duration(
        std::string_view member, std::chrono::milliseconds value, std::string_view zero)
    {
        // Added to steady_clock::now(), which counts nanoseconds in 63 bits, this cannot overflow.
        constexpr std::chrono::milliseconds longest = std::chrono::years(100);
        std::string text = std::string(member) + " is " + to_text(value) + ": a duration must not ";
        if (value < std::chrono::milliseconds(0)) {
            add(text + "be negative (" + std::string(zero) + ")");
        } else if (value > longest) {
            add(text + "exceed 100 years (" + std::string(zero) + ")");
        }
    }

    // A cast, or a byte read from somewhere, can put anything into an enumeration.
    template <typename Enumeration>
    bool require_enumerator(std::string_view member, Enumeration value, Enumeration last)
    {
        const int number = static_cast<int>(value);
        if (number >= 0 && number <= static_cast<int>(last)) {
            return true;
        }
        add(std::string(member) + " is " + std::to_string(number) +
            ": it is none of the enumerators, which are 0 to " +
            std::to_string(static_cast<int>(last)));
        return false;
    }

    static std::string to_octal(int value)
    {
        std::array<char, 16> digits = {};
        std::snprintf(digits.data(), digits.size(), "0%o", static_cast<unsigned>(value));
        return value < 0 ? std::to_string(value) : digits.data();
    }

    static std::string to_text(int value)
    {
        return std::to_string(value);
    }

    static std::string to_text(std::chrono::milliseconds value)
    {
        return std::to_string(value.count()) + " ms";
    }

    static std::string to_text(std::chrono::seconds value)
    {
        return std::to_string(value.count()) + " s";
    }

    void add(std::string message)
    {
        add(code_, std::move(message));
    }

    void add(errc code, std::string message)
    {
        problems_.push_back({code, std::move(message)});
    }

    errc code_ = errc::invalid_config;
    std::vector<config_problem> problems_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

namespace FAIRLEAD_NAMESPACE
{
inline std::vector<config_problem> check(const server_config& config)
{
    detail::config_checker checker;
    checker.check_server(config);
    return std::move(checker).take();
}

/// What a constructor does with a configuration: nothing when it is sound, else throws
/// `std::system_error` with the first problem's code and message.
inline void throw_first_problem(const server_config& config)
{
    const std::vector<config_problem> problems = check(config);
    if (!problems.empty()) {
        throw std::system_error(make_error_code(problems.front().code), problems.front().message);
    }
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_DETAIL_CONFIG_CHECK_HPP
