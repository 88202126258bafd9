// fairlead: an IP address. Ring 0: no Asio, though Asio's addresses convert both ways.

#ifndef FAIRLEAD_DETAIL_UTIL_IP_ADDRESS_HPP
#define FAIRLEAD_DETAIL_UTIL_IP_ADDRESS_HPP

#include <fairlead/detail/namespace.hpp>

#include <array>
#include <charconv>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
namespace detail
{
/// Asio's `ip::address_v4`, or one that looks like it.
template <typename T>
concept foreign_v4_address = requires(const T& address)
{
    {
        address.to_bytes()
        } -> std::convertible_to<std::array<unsigned char, 4>>;
};

/// Asio's `ip::address_v6`.
template <typename T>
concept foreign_v6_address = requires(const T& address)
{
    {
        address.to_bytes()
        } -> std::convertible_to<std::array<unsigned char, 16>>;
    {
        address.scope_id()
        } -> std::convertible_to<unsigned long>;
};

/// Asio's `ip::address`.
template <typename T>
concept foreign_ip_address = requires(const T& address)
{
    {
        address.is_v4()
        } -> std::convertible_to<bool>;
    {
        address.to_v4()
        } -> foreign_v4_address;
    {
        address.to_v6()
        } -> foreign_v6_address;
};
} // namespace detail

/// An IPv4 or IPv6 address. Unspecified ("0.0.0.0") when it is made of nothing.
class ip_address
{
public:
    using v4_bytes = std::array<unsigned char, 4>;
    using v6_bytes = std::array<unsigned char, 16>;

    constexpr ip_address() noexcept = default;

    explicit constexpr ip_address(const v4_bytes& bytes) noexcept
    {
        for (std::size_t at = 0; at < bytes.size(); ++at) {
            bytes_[at] = bytes[at];
        }
    }

    /// `scope` is the interface of a link-local address; 0: none.
    explicit constexpr ip_address(const v6_bytes& bytes, std::uint32_t scope = 0) noexcept
        : bytes_(bytes), scope_(scope), is_v6_(true)
    {}

    template <detail::foreign_v4_address Foreign>
    ip_address(const Foreign& other) noexcept : ip_address(v4_bytes(other.to_bytes()))
    {}

    template <detail::foreign_v6_address Foreign>
    ip_address(const Foreign& other) noexcept
        : ip_address(v6_bytes(other.to_bytes()), static_cast<std::uint32_t>(other.scope_id()))
    {}

    template <detail::foreign_ip_address Foreign>
    ip_address(const Foreign& other) noexcept
        : ip_address(other.is_v4() ? ip_address(other.to_v4()) : ip_address(other.to_v6()))
    {}

    template <detail::foreign_ip_address Foreign>
    operator Foreign() const
    {
        using v4 = decltype(std::declval<const Foreign&>().to_v4());
        using v6 = decltype(std::declval<const Foreign&>().to_v6());
        return is_v4() ? Foreign(v4(to_v4_bytes())) : Foreign(v6(bytes_, scope_));
    }

    constexpr bool is_v4() const noexcept
    {
        return !is_v6_;
    }

    constexpr bool is_v6() const noexcept
    {
        return is_v6_;
    }

    /// "0.0.0.0" or "::".
    constexpr bool is_unspecified() const noexcept
    {
        return bytes_ == v6_bytes{};
    }

    /// 127.0.0.0/8 or "::1".
    constexpr bool is_loopback() const noexcept
    {
        v6_bytes one{};
        one.back() = 1;
        return is_v6_ ? bytes_ == one : bytes_.front() == 127;
    }

    /// In network order. Of an IPv6 address: the first four of its bytes.
    constexpr v4_bytes to_v4_bytes() const noexcept
    {
        return {bytes_[0], bytes_[1], bytes_[2], bytes_[3]};
    }

    /// In network order. Of an IPv4 address: its four bytes, then zeros.
    constexpr const v6_bytes& to_v6_bytes() const noexcept
    {
        return bytes_;
    }

    constexpr std::uint32_t scope() const noexcept
    {
        return scope_;
    }

    /// As RFC 5952 writes it; a scope behind '%', as a number.
    std::string to_string() const;

    /// IPv4 before IPv6, then byte by byte.
    friend constexpr std::strong_ordering operator<=>(
        const ip_address& left, const ip_address& right) noexcept
    {
        if (const auto order = left.is_v6_ <=> right.is_v6_; std::is_neq(order)) {
            return order;
        }
        if (const auto order = left.bytes_ <=> right.bytes_; std::is_neq(order)) {
            return order;
        }
        return left.scope_ <=> right.scope_;
    }

    friend constexpr bool operator==(const ip_address&, const ip_address&) noexcept = default;

    template <typename Foreign>
        requires detail::foreign_ip_address<Foreign> || detail::foreign_v4_address<Foreign> ||
            detail::foreign_v6_address<Foreign>
    friend bool operator==(const ip_address& left, const Foreign& right) noexcept
    {
        return left == ip_address(right);
    }

    template <typename Char, typename Traits>
    friend std::basic_ostream<Char, Traits>& operator<<(
        std::basic_ostream<Char, Traits>& out, const ip_address& address)
    {
        return out << address.to_string().c_str();
    }

private:
    v6_bytes bytes_ = {};
    std::uint32_t scope_ = 0;
    bool is_v6_ = false;
};

namespace detail
{
inline void append_number(std::string& to, std::uint32_t value, int base = 10)
{
    std::array<char, 10> digits = {};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, base).ptr;
    to.append(digits.data(), end);
}

/// RFC 5952: without leading zeros, and with "::" for the longest run of zeros, the first of two.
inline void append_v6(std::string& to, const ip_address::v6_bytes& bytes)
{
    constexpr std::size_t count = 8;
    std::array<std::uint32_t, count> groups = {};
    for (std::size_t at = 0; at < count; ++at) {
        groups[at] = static_cast<std::uint32_t>(bytes[2 * at] << 8U | bytes[2 * at + 1]);
    }
    std::size_t zeros_begin = count;
    std::size_t zeros = 1; // one alone is written
    for (std::size_t at = 0; at < count;) {
        std::size_t end = at;
        while (end < count && groups[end] == 0) {
            ++end;
        }
        if (end - at > zeros) {
            zeros_begin = at;
            zeros = end - at;
        }
        at = end + 1;
    }
    for (std::size_t at = 0; at < count; ++at) {
        if (at == zeros_begin) {
            to += "::";
            at += zeros - 1;
            continue;
        }
        if (at != 0 && to.back() != ':') {
            to += ':';
        }
        append_number(to, groups[at], 16);
    }
}
} // namespace detail

inline std::string ip_address::to_string() const
{
    std::string text;
    if (is_v4()) {
        for (const unsigned char byte : to_v4_bytes()) {
            text.append(text.empty() ? 0 : 1, '.');
            detail::append_number(text, byte);
        }
        return text;
    }
    detail::append_v6(text, bytes_);
    if (scope_ != 0) {
        text += '%';
        detail::append_number(text, scope_);
    }
    return text;
}
} // namespace FAIRLEAD_NAMESPACE

template <>
struct std::hash<fairlead::ip_address>
{
    std::size_t operator()(const fairlead::ip_address& address) const noexcept
    {
        const auto& bytes = address.to_v6_bytes();
        const std::string_view view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return std::hash<std::string_view>()(view) ^ (address.is_v6() ? ~address.scope() : 0U);
    }
};

#endif // FAIRLEAD_DETAIL_UTIL_IP_ADDRESS_HPP
