// fairlead: an endpoint as the kernel has it: IPv4, IPv6, Unix.

#ifndef FAIRLEAD_DETAIL_IO_SOCKET_ADDRESS_HPP
#define FAIRLEAD_DETAIL_IO_SOCKET_ADDRESS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/endpoint.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Room for any address, which the kernel fills in.
class socket_address
{
public:
    socket_address() noexcept
    {
        bytes_.ss_family = AF_UNSPEC; // the rest is the kernel's
    }

    /// A Unix path is one that `parse_address` has found short enough.
    explicit socket_address(const endpoint& where) noexcept
    {
        bytes_ = {};
        if (where.is_unix()) {
            set_path(where.path());
        } else if (where.address().is_v4()) {
            ::sockaddr_in in = {};
            in.sin_family = AF_INET;
            in.sin_port = htons(where.port());
            const auto address = where.address().to_v4_bytes();
            std::memcpy(&in.sin_addr, address.data(), address.size());
            set(in);
        } else {
            ::sockaddr_in6 in = {};
            in.sin6_family = AF_INET6;
            in.sin6_port = htons(where.port());
            in.sin6_scope_id = where.address().scope();
            const auto& address = where.address().to_v6_bytes();
            std::memcpy(&in.sin6_addr, address.data(), address.size());
            set(in);
        }
    }

    ::sockaddr* data() noexcept
    {
        return reinterpret_cast<::sockaddr*>(&bytes_);
    }

    const ::sockaddr* data() const noexcept
    {
        return reinterpret_cast<const ::sockaddr*>(&bytes_);
    }

    /// To be told to the kernel, which makes it the size of what it has written.
    socklen_t& size() noexcept
    {
        return size_;
    }

    socklen_t size() const noexcept
    {
        return size_;
    }

    int family() const noexcept
    {
        return size_ < sizeof(sa_family_t) ? AF_UNSPEC : bytes_.ss_family;
    }

    /// None when it is of another family. Where there is no memory for a path, it has no name.
    endpoint to_endpoint() const noexcept
    {
        switch (family()) {
        case AF_INET: {
            const auto in = get<::sockaddr_in>();
            ip_address::v4_bytes address = {};
            std::memcpy(address.data(), &in.sin_addr, address.size());
            return {ip_address(address), ntohs(in.sin_port)};
        }
        case AF_INET6: {
            const auto in = get<::sockaddr_in6>();
            ip_address::v6_bytes address = {};
            std::memcpy(address.data(), &in.sin6_addr, address.size());
            return {ip_address(address, in.sin6_scope_id), ntohs(in.sin6_port)};
        }
        case AF_UNIX:
            return unix_endpoint();
        default:
            return {};
        }
    }

private:
    static constexpr std::size_t path_begins = offsetof(::sockaddr_un, sun_path);

    template <typename Address>
    void set(const Address& address) noexcept
    {
        std::memcpy(&bytes_, &address, sizeof address);
        size_ = sizeof address;
    }

    template <typename Address>
    Address get() const noexcept
    {
        Address address = {};
        std::memcpy(&address, &bytes_, sizeof address);
        return address;
    }

    void set_path(std::string_view path) noexcept
    {
        const bool is_abstract = path.starts_with('\0');
        const std::size_t size = std::min(path.size(), sizeof(::sockaddr_un::sun_path));
        bytes_.ss_family = AF_UNIX;
        std::memcpy(reinterpret_cast<char*>(&bytes_) + path_begins, path.data(), size);
        // Of an abstract name every byte counts; a path ends with a zero.
        size_ = static_cast<socklen_t>(path_begins + size + (is_abstract ? 0 : 1));
    }

    endpoint unix_endpoint() const noexcept
    {
        std::string_view path;
        if (size_ > path_begins) {
            path = {reinterpret_cast<const char*>(&bytes_) + path_begins, size_ - path_begins};
        }
        // A name that begins with a zero is abstract; of zeros alone it is how other systems than
        // Linux write that there is none.
        path = path.starts_with('\0') ? path : path.substr(0, path.find('\0'));
        path = path.find_first_not_of('\0') == std::string_view::npos ? std::string_view() : path;
        try {
            return endpoint::of_unix(path);
        } catch (...) {
            return endpoint::of_unix({});
        }
    }

    ::sockaddr_storage
        bytes_; // NOLINT(cppcoreguidelines-pro-type-member-init): the kernel fills it
    socklen_t size_ = sizeof bytes_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_SOCKET_ADDRESS_HPP
