// fairlead: the addresses of simulated sockets, as sockaddr_in and sockaddr_in6 carry them.

#ifndef FAIRLEAD_TESTING_KERNEL_ADDRESS_HPP
#define FAIRLEAD_TESTING_KERNEL_ADDRESS_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/socket.h>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// IPv6, or IPv4 mapped into it (RFC 4291, 2.5.5.2), and a port.
struct address
{
    std::array<unsigned char, 16> bytes = {};
    std::uint16_t port = 0;
    bool is_v6 = false; // which family its socket has

    auto operator<=>(const address&) const = default;

    bool is_v4() const noexcept
    {
        constexpr std::array<unsigned char, 12> prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        return std::equal(prefix.begin(), prefix.end(), bytes.begin());
    }

    bool is_any() const noexcept
    {
        const auto first = bytes.begin() + (is_v4() ? 12 : 0);
        return std::all_of(first, bytes.end(), [](unsigned char byte) { return byte == 0; });
    }

    bool is_loopback() const noexcept
    {
        return is_v4()
                   ? bytes[12] == 127
                   : bytes[15] == 1 && std::all_of(bytes.begin(), bytes.end() - 1, [](auto byte) {
                         return byte == 0;
                     });
    }

    bool has_same_host(const address& other) const noexcept
    {
        return bytes == other.bytes;
    }

    /// As the programs that list connections write it.
    std::string text() const
    {
        std::array<char, INET6_ADDRSTRLEN> host = {};
        if (is_v4()) {
            ::inet_ntop(AF_INET, bytes.data() + 12, host.data(), host.size());
            return std::string(host.data()).append(":").append(std::to_string(port));
        }
        ::inet_ntop(AF_INET6, bytes.data(), host.data(), host.size());
        return std::string("[").append(host.data()).append("]:").append(std::to_string(port));
    }

    static address v4(std::uint32_t host, std::uint16_t port) noexcept
    {
        address made;
        made.port = port;
        made.bytes[10] = made.bytes[11] = 0xff;
        for (std::size_t index = 0; index < 4; ++index) {
            made.bytes[12 + index] = static_cast<unsigned char>(host >> (24 - 8 * index));
        }
        return made;
    }

    /// Throws `std::invalid_argument`: "host" is no address.
    static address parse(const std::string& host, std::uint16_t port)
    {
        std::uint32_t number = 0;
        if (::inet_pton(AF_INET, host.c_str(), &number) == 1) {
            return v4(ntohl(number), port);
        }
        address made;
        made.port = port;
        made.is_v6 = true;
        if (::inet_pton(AF_INET6, host.c_str(), made.bytes.data()) != 1) {
            throw std::invalid_argument("\"" + host + "\" is no IPv4 or IPv6 address");
        }
        return made;
    }

    /// Empty: of another family, or too short.
    static std::optional<address> from(const sockaddr* told, socklen_t size) noexcept
    {
        if (told != nullptr && size >= sizeof(sockaddr_in) && told->sa_family == AF_INET) {
            sockaddr_in in = {};
            std::memcpy(&in, told, sizeof in);
            return v4(ntohl(in.sin_addr.s_addr), ntohs(in.sin_port));
        }
        if (told != nullptr && size >= sizeof(sockaddr_in6) && told->sa_family == AF_INET6) {
            sockaddr_in6 in = {};
            std::memcpy(&in, told, sizeof in);
            address made;
            made.is_v6 = true;
            made.port = ntohs(in.sin6_port);
            std::memcpy(made.bytes.data(), &in.sin6_addr, made.bytes.size());
            return made;
        }
        return std::nullopt;
    }

    /// Writes what fits, and tells the whole size, as getsockname(2).
    void write(sockaddr* into, socklen_t* size) const noexcept
    {
        if (into == nullptr || size == nullptr) {
            return;
        }
        sockaddr_in6 six = {};
        sockaddr_in four = {};
        const void* from = &four;
        socklen_t whole = sizeof four;
        if (is_v6) {
            six.sin6_family = AF_INET6;
            six.sin6_port = htons(port);
            std::memcpy(&six.sin6_addr, bytes.data(), bytes.size());
            from = &six;
            whole = sizeof six;
        } else {
            four.sin_family = AF_INET;
            four.sin_port = htons(port);
            std::memcpy(&four.sin_addr, bytes.data() + 12, 4);
        }
        std::memcpy(into, from, std::min(whole, *size));
        *size = whole;
    }
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_ADDRESS_HPP
