// What system calls answer: a table of small programs, each run on the simulated kernel and on the
// real one. This is what keeps the simulated kernel honest.

#ifndef FAIRLEAD_TESTS_SIMULATION_CONFORMANCE_HPP
#define FAIRLEAD_TESTS_SIMULATION_CONFORMANCE_HPP

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace conformance
{
/// What a program of calls got, in words: "accept: ok, recv: EAGAIN".
class transcript
{
public:
    /// An errno by name, or the number.
    void call(const char* name, long result)
    {
        add(name, result < 0 ? error_name(errno) : std::to_string(result));
    }

    /// Only whether it worked: the number is a descriptor, or differs for good reasons.
    void made(const char* name, long result)
    {
        add(name, result < 0 ? error_name(errno) : "ok");
    }

    void say(const char* name, const std::string& what)
    {
        add(name, what);
    }

    const std::string& text() const noexcept
    {
        return text_;
    }

    static std::string error_name(int error)
    {
        const char* const name = ::strerrorname_np(error);
        return name == nullptr ? std::to_string(error) : name;
    }

private:
    void add(const char* name, const std::string& what)
    {
        text_ += (text_.empty() ? "" : ", ") + std::string(name) + ": " + what;
    }

    std::string text_;
};

/// Closes what it holds.
class descriptor
{
public:
    descriptor() = default;
    explicit descriptor(int fd) noexcept : fd_(fd)
    {}

    descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1))
    {}

    descriptor& operator=(descriptor&& other) noexcept
    {
        close();
        fd_ = std::exchange(other.fd_, -1);
        return *this;
    }

    ~descriptor()
    {
        close();
    }

    operator int() const noexcept
    {
        return fd_;
    }

    void close() noexcept
    {
        if (fd_ >= 0) {
            ::close(std::exchange(fd_, -1));
        }
    }

private:
    int fd_ = -1;
};

/// EPOLL or POLL events by name.
inline std::string events(std::uint32_t set)
{
    static constexpr std::array<std::pair<std::uint32_t, const char*>, 5> names = {{
        {EPOLLIN, "IN"},
        {EPOLLOUT, "OUT"},
        {EPOLLRDHUP, "RDHUP"},
        {EPOLLHUP, "HUP"},
        {EPOLLERR, "ERR"},
    }};
    std::string text;
    for (const auto& [bit, name] : names) {
        if ((set & bit) != 0) {
            text += (text.empty() ? "" : "|") + std::string(name);
        }
    }
    return text.empty() ? "none" : text;
}

inline constexpr short every_event = POLLIN | POLLOUT | POLLRDHUP;

/// Waits until one of `wanted` holds; at most a second. Hang-ups and errors end it as well.
inline void wait_for(int fd, short wanted)
{
    pollfd asked{.fd = fd, .events = wanted, .revents = 0};
    ::poll(&asked, 1, 1000);
}

inline std::string state(int fd)
{
    pollfd asked{.fd = fd, .events = every_event, .revents = 0};
    ::poll(&asked, 1, 0);
    return events(static_cast<std::uint32_t>(static_cast<unsigned short>(asked.revents)));
}

/// Lets pass what two ends of a loopback connection still have to tell each other.
inline void settle()
{
    ::poll(nullptr, 0, 5);
}

inline sockaddr_in loopback(std::uint16_t port = 0)
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

inline const sockaddr* as_sockaddr(const sockaddr_in& address)
{
    return reinterpret_cast<const sockaddr*>(&address);
}

inline descriptor make_socket(int flags = SOCK_NONBLOCK)
{
    return descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

inline sockaddr_in name_of(int fd)
{
    sockaddr_in address = {};
    socklen_t size = sizeof address;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    return address;
}

inline descriptor make_listener(int backlog = 16)
{
    descriptor made = make_socket();
    const sockaddr_in address = loopback();
    ::bind(made, as_sockaddr(address), sizeof address);
    ::listen(made, backlog);
    return made;
}

template <typename Value>
int set(int fd, int level, int name, Value value)
{
    return ::setsockopt(fd, level, name, &value, sizeof value);
}

inline int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    ::getsockopt(fd, level, name, &value, &size);
    return value;
}

inline int resets_on_close(int fd)
{
    return set(fd, SOL_SOCKET, SO_LINGER, linger{.l_onoff = 1, .l_linger = 0});
}

/// Two connected sockets, neither of which blocks.
struct pair
{
    descriptor listener = make_listener();
    descriptor client = make_socket();
    descriptor server;

    pair()
    {
        const sockaddr_in address = name_of(listener);
        ::connect(client, as_sockaddr(address), sizeof address);
        wait_for(listener, POLLIN);
        server = descriptor(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
        wait_for(client, POLLOUT);
    }
};

inline long put(int fd, std::string_view bytes)
{
    return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

/// Up to 64 bytes, as text; the error's name; "end".
inline std::string take(int fd, std::size_t most = 64, int flags = 0)
{
    std::array<char, 64> buffer = {};
    const long n = ::recv(fd, buffer.data(), std::min(most, buffer.size()), flags);
    return n < 0    ? transcript::error_name(errno)
           : n == 0 ? "end"
                    : "'" + std::string(buffer.data(), static_cast<std::size_t>(n)) + "'";
}

/// Writes until the kernel takes no more.
inline std::size_t fill(int fd)
{
    const std::vector<char> block(65536, 'x');
    std::size_t all = 0;
    for (int rounds = 0; rounds < 10000; ++rounds) {
        const long n = ::send(fd, block.data(), block.size(), MSG_NOSIGNAL);
        if (n < 0) {
            pollfd asked{.fd = fd, .events = POLLOUT, .revents = 0};
            if (::poll(&asked, 1, 50) == 0) { // the other end's kernel takes no more either
                break;
            }
            continue;
        }
        all += static_cast<std::size_t>(n);
    }
    return all;
}

/// Reads until there is nothing.
inline std::size_t drain(int fd)
{
    std::vector<char> block(65536);
    std::size_t all = 0;
    long n = 0;
    while ((n = ::recv(fd, block.data(), block.size(), 0)) > 0) {
        all += static_cast<std::size_t>(n);
    }
    return all;
}

/// An epoll descriptor and what it says.
class waits
{
public:
    int add(int fd, std::uint32_t wanted)
    {
        epoll_event event{.events = wanted, .data = {.fd = fd}};
        return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }

    int modify(int fd, std::uint32_t wanted)
    {
        epoll_event event{.events = wanted, .data = {.fd = fd}};
        return ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
    }

    int remove(int fd)
    {
        return ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    }

    /// What is ready now, joined.
    std::string now(int timeout = 0)
    {
        std::array<epoll_event, 8> told = {};
        const int n = ::epoll_wait(epoll_, told.data(), told.size(), timeout);
        if (n < 0) {
            return transcript::error_name(errno);
        }
        std::string text;
        for (int index = 0; index < n; ++index) {
            text +=
                (index == 0 ? "" : " and ") + events(told[static_cast<std::size_t>(index)].events);
        }
        return n == 0 ? "nothing" : text;
    }

    std::string soon()
    {
        return now(1000);
    }

    int fd() const noexcept
    {
        return epoll_;
    }

private:
    descriptor epoll_{::epoll_create1(EPOLL_CLOEXEC)};
};

struct row
{
    const char* name;
    void (*run)(transcript&);
};

const std::vector<row>& connection_rows();
const std::vector<row>& waiting_rows();
} // namespace conformance

#endif // FAIRLEAD_TESTS_SIMULATION_CONFORMANCE_HPP
