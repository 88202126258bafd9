// The command line that all echo servers of this folder share:
//
//     NAME [ADDRESS] [--tls CERTIFICATE KEY] [--readable | --framed]
//
// ADDRESS is 127.x.y.z:port, 127.0.0.1:7777 when absent; port 0 takes any free port. Each server
// prints "listening on ADDRESS" with the real port once clients may connect.

#ifndef FAIRLEAD_BENCHMARKS_COMMON_SERVER_ARGUMENTS_HPP
#define FAIRLEAD_BENCHMARKS_COMMON_SERVER_ARGUMENTS_HPP

#include "common/loopback.hpp"

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bench
{
struct server_arguments
{
    /// Checked to be on the loopback network.
    std::string address = "127.0.0.1:7777";
    /// PEM files; empty: plain TCP.
    std::string certificate = {};
    std::string private_key = {};
    /// fairlead_echo only: wait in readable() before each read.
    bool readable = false;
    /// fairlead_echo only: frames of 64 bytes, by `framed`.
    bool framed = false;

    bool tls() const noexcept
    {
        return !certificate.empty();
    }
};

/// Throws std::invalid_argument for what it does not know.
inline server_arguments parse_server_arguments(int count, char** values)
{
    server_arguments arguments;
    for (int i = 1; i < count; ++i) {
        const std::string_view value = values[i];
        if (value == "--tls" && i + 2 < count) {
            arguments.certificate = values[++i];
            arguments.private_key = values[++i];
        } else if (value == "--readable") {
            arguments.readable = true;
        } else if (value == "--framed") {
            arguments.framed = true;
        } else if (value.starts_with("-")) {
            throw std::invalid_argument("unknown or incomplete option " + std::string(value));
        } else {
            arguments.address = value;
        }
    }
    parse_loopback(arguments.address);
    return arguments;
}

inline void announce(const std::string& address)
{
    std::printf("listening on %s\n", address.c_str());
    std::fflush(stdout);
}
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_COMMON_SERVER_ARGUMENTS_HPP
