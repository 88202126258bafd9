// fairlead: the options of a simulated TCP socket: which there are, their defaults, and what Linux
// makes of what is set (socket(7), tcp(7), ipv6(7)).

#ifndef FAIRLEAD_TESTING_KERNEL_SOCKET_OPTIONS_HPP
#define FAIRLEAD_TESTING_KERNEL_SOCKET_OPTIONS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/file.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class socket_options
{
public:
    answer set(int level, int name, const void* value, socklen_t size)
    {
        if (level == SOL_SOCKET && name == SO_LINGER) {
            if (size < sizeof linger_) {
                return -EINVAL;
            }
            std::memcpy(&linger_, value, sizeof linger_);
            return 0;
        }
        const option* const known = find(level, name);
        if (known == nullptr || known->is_read_only) {
            return -ENOPROTOOPT;
        }
        int number = 0;
        if (size < sizeof number) {
            return -EINVAL;
        }
        if (value == nullptr) {
            return -EFAULT;
        }
        std::memcpy(&number, value, sizeof number);
        if (number < known->least || number > known->most) {
            return -EINVAL;
        }
        store(level, name, kept_value(level, name, number));
        return 0;
    }

    answer get(int level, int name, void* value, socklen_t* size) const
    {
        if (level == SOL_SOCKET && name == SO_LINGER) {
            return copy(linger_, value, size);
        }
        return find(level, name) == nullptr ? -ENOPROTOOPT : copy(at(level, name), value, size);
    }

    /// As set, or the default; 0: no such option.
    int at(int level, int name) const noexcept
    {
        for (const auto& [key, number] : set_) {
            if (key == std::pair(level, name)) {
                return number;
            }
        }
        const option* const known = find(level, name);
        return known == nullptr ? 0 : known->standard;
    }

    /// The next close is a reset.
    bool resets_on_close() const noexcept
    {
        return linger_.l_onoff != 0 && linger_.l_linger == 0;
    }

    std::size_t send_capacity() const noexcept
    {
        return capacity(SO_SNDBUF);
    }

    std::size_t receive_capacity() const noexcept
    {
        return capacity(SO_RCVBUF);
    }

    template <typename Value>
    static answer copy(const Value& from, void* into, socklen_t* size)
    {
        if (into == nullptr || size == nullptr) {
            return -EFAULT;
        }
        *size = std::min<socklen_t>(*size, sizeof from);
        std::memcpy(into, &from, *size);
        return 0;
    }

private:
    struct option
    {
        int level;
        int name;
        int standard;
        int least;
        int most;
        bool is_read_only = false;
    };

    static constexpr int any = 0x7fffffff;
    static constexpr int standard_send = 2 * 262144;
    static constexpr int standard_receive = 2 * 131072;

    static const option* find(int level, int name) noexcept
    {
        static constexpr std::array<option, 27> all = {{
            {SOL_SOCKET, SO_REUSEADDR, 0, -any, any},
            {SOL_SOCKET, SO_REUSEPORT, 0, -any, any},
            {SOL_SOCKET, SO_KEEPALIVE, 0, -any, any},
            {SOL_SOCKET, SO_SNDBUF, standard_send, -any, any},
            {SOL_SOCKET, SO_RCVBUF, standard_receive, -any, any},
            {SOL_SOCKET, SO_RCVLOWAT, 1, 1, any},
            {SOL_SOCKET, SO_BROADCAST, 0, -any, any},
            {SOL_SOCKET, SO_DONTROUTE, 0, -any, any},
            {SOL_SOCKET, SO_OOBINLINE, 0, -any, any},
            {SOL_SOCKET, SO_PRIORITY, 0, 0, 6},
            {SOL_SOCKET, SO_TYPE, SOCK_STREAM, 0, 0, true},
            {SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP, 0, 0, true},
            {SOL_SOCKET, SO_INCOMING_CPU, 0, 0, any},
            {IPPROTO_TCP, TCP_NODELAY, 0, -any, any},
            {IPPROTO_TCP, TCP_CORK, 0, -any, any},
            {IPPROTO_TCP, TCP_QUICKACK, 1, -any, any},
            {IPPROTO_TCP, TCP_MAXSEG, 536, 0, 32767},
            {IPPROTO_TCP, TCP_KEEPIDLE, 7200, 1, 32767},
            {IPPROTO_TCP, TCP_KEEPINTVL, 75, 1, 32767},
            {IPPROTO_TCP, TCP_KEEPCNT, 9, 1, 127},
            {IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 0, any},
            {IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, -any, any},
            {IPPROTO_TCP, TCP_FASTOPEN, 0, 0, any},
            {IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1, -any, any},
            {IPPROTO_IPV6, IPV6_V6ONLY, 0, -any, any},
            {IPPROTO_IP, IP_TOS, 0, 0, 255},
            {IPPROTO_IPV6, IPV6_TCLASS, 0, -1, 255},
        }};
        const auto* const found = std::find_if(all.begin(), all.end(), [&](const option& one) {
            return one.level == level && one.name == name;
        });
        return found == all.end() ? nullptr : found;
    }

    static bool is_switch(int level, int name) noexcept
    {
        return level == SOL_SOCKET
                   ? name == SO_REUSEADDR || name == SO_REUSEPORT || name == SO_KEEPALIVE
                   : (level == IPPROTO_TCP && name == TCP_NODELAY) ||
                         (level == IPPROTO_IPV6 && name == IPV6_V6ONLY);
    }

    static int kept_value(int level, int name, int number) noexcept
    {
        // Linux keeps twice what is asked for, for its own bookkeeping, and never less than this.
        if (level == SOL_SOCKET && name == SO_SNDBUF) {
            return std::max(2 * std::min(number, 1 << 22), 4608);
        }
        if (level == SOL_SOCKET && name == SO_RCVBUF) {
            return std::max(2 * std::min(number, 1 << 22), 2304);
        }
        return is_switch(level, name) ? int(number != 0) : number;
    }

    void store(int level, int name, int number)
    {
        for (auto& [key, kept] : set_) {
            if (key == std::pair(level, name)) {
                kept = number;
                return;
            }
        }
        set_.emplace_back(std::pair(level, name), number);
    }

    std::size_t capacity(int name) const noexcept
    {
        return static_cast<std::size_t>(at(SOL_SOCKET, name) / 2);
    }

    std::vector<std::pair<std::pair<int, int>, int>> set_;
    ::linger linger_ = {.l_onoff = 0, .l_linger = 0};
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_SOCKET_OPTIONS_HPP
