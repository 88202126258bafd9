// fairlead: where somebody listens or talks from: an IP address and a port, a Unix path, or nowhere.
// Plain values. Ring 0: no Asio, though Asio's endpoints and addresses convert both ways.

#ifndef FAIRLEAD_ENDPOINT_HPP
#define FAIRLEAD_ENDPOINT_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/ip_address.hpp>
#include <fairlead/detail/util/shared_text.hpp>

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
namespace detail
{
/// Asio's `ip::tcp::endpoint`.
template <typename T>
concept foreign_ip_endpoint = requires(const T& endpoint)
{
    typename T::protocol_type;
    {
        endpoint.address()
        } -> foreign_ip_address;
    {
        endpoint.port()
        } -> std::convertible_to<std::uint16_t>;
};
} // namespace detail

/// Where a socket is bound, or who talks to it. Made of nothing it is `none`: nowhere. Copying it
/// does not fail.
class endpoint
{
public:
    enum class kind : std::uint8_t
    {
        none,
        ip,
        unix_path,
    };

    endpoint() noexcept = default;

    endpoint(const ip_address& address, std::uint16_t port) noexcept
        : address_(address), port_(port), kind_(kind::ip)
    {}

    /// Of a Unix socket; empty for one that has no name, as most clients have none. A path that
    /// begins with '\0' is Linux's abstract name.
    static endpoint of_unix(std::string_view path)
    {
        endpoint made;
        made.kind_ = kind::unix_path;
        made.path_ = detail::shared_text(path);
        return made;
    }

    template <detail::foreign_ip_endpoint Foreign>
    endpoint(const Foreign& other) noexcept : endpoint(ip_address(other.address()), other.port())
    {}

    /// Throws `std::system_error` (`std::errc::address_family_not_supported`) when it is not IP.
    template <detail::foreign_ip_endpoint Foreign>
    operator Foreign() const
    {
        if (!is_ip()) {
            throw std::system_error(
                std::make_error_code(std::errc::address_family_not_supported),
                to_string() + " is no IP endpoint");
        }
        using foreign_address = std::decay_t<decltype(std::declval<const Foreign&>().address())>;
        return Foreign(foreign_address(address_), port_);
    }

    constexpr kind what() const noexcept
    {
        return kind_;
    }

    constexpr bool is_ip() const noexcept
    {
        return kind_ == kind::ip;
    }

    constexpr bool is_unix() const noexcept
    {
        return kind_ == kind::unix_path;
    }

    /// Unspecified when it is not IP.
    constexpr const ip_address& address() const noexcept
    {
        return address_;
    }

    /// 0 when it is not IP.
    constexpr std::uint16_t port() const noexcept
    {
        return port_;
    }

    /// Makes it an IP endpoint, with the port that it had.
    void address(const ip_address& changed) noexcept
    {
        *this = endpoint(changed, port_);
    }

    /// The same, with the address that it had.
    void port(std::uint16_t changed) noexcept
    {
        *this = endpoint(address_, changed);
    }

    /// Empty when it is not a Unix path, or has no name.
    std::string_view path() const noexcept
    {
        return path_.view();
    }

    /// "127.0.0.1:80", "[::1]:80", "unix:/run/app.sock", "unix:" without a name, "unix:@name" for an
    /// abstract one; "none".
    std::string to_string() const;

    /// None, IP, Unix; then by their parts.
    friend std::strong_ordering operator<=>(const endpoint& left, const endpoint& right) noexcept
    {
        if (const auto order = left.kind_ <=> right.kind_; std::is_neq(order)) {
            return order;
        }
        if (const auto order = left.address_ <=> right.address_; std::is_neq(order)) {
            return order;
        }
        if (const auto order = left.port_ <=> right.port_; std::is_neq(order)) {
            return order;
        }
        return left.path() <=> right.path();
    }

    friend bool operator==(const endpoint& left, const endpoint& right) noexcept
    {
        return std::is_eq(left <=> right);
    }

    template <detail::foreign_ip_endpoint Foreign>
    friend bool operator==(const endpoint& left, const Foreign& right) noexcept
    {
        return left == endpoint(right);
    }

    template <typename Char, typename Traits>
    friend std::basic_ostream<Char, Traits>& operator<<(
        std::basic_ostream<Char, Traits>& out, const endpoint& where)
    {
        return out << where.to_string().c_str();
    }

private:
    ip_address address_;
    std::uint16_t port_ = 0;
    kind kind_ = kind::none;
    detail::shared_text path_;
};

inline std::string endpoint::to_string() const
{
    switch (kind_) {
    case kind::none:
        break;
    case kind::ip: {
        std::string text =
            address_.is_v4() ? address_.to_string() : "[" + address_.to_string() + "]";
        text += ':';
        detail::append_number(text, port_);
        return text;
    }
    case kind::unix_path: {
        std::string text = "unix:" + std::string(path());
        if (const std::size_t abstract = text.find('\0'); abstract != std::string::npos) {
            text[abstract] = '@';
        }
        return text;
    }
    }
    return "none";
}
} // namespace FAIRLEAD_NAMESPACE

template <>
struct std::hash<fairlead::endpoint>
{
    std::size_t operator()(const fairlead::endpoint& where) const noexcept
    {
        constexpr std::size_t spread = 0x9e3779b1U; // Knuth's, of the golden ratio
        return std::hash<fairlead::ip_address>()(where.address()) * spread ^
               std::hash<std::string_view>()(where.path()) ^ (where.port() * spread) ^
               static_cast<std::size_t>(where.what());
    }
};

#endif // FAIRLEAD_ENDPOINT_HPP
