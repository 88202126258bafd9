// The core tests of the server run twice: on TCP, and with FAIRLEAD_TEST_NETWORK=unix in the environment on Unix sockets.
// They say "127.0.0.1:0" and port() in either case: on Unix sockets a number stands for a path, and a client that is given
// it connects there.

#ifndef FAIRLEAD_TESTS_SUPPORT_NETWORKS_HPP
#define FAIRLEAD_TESTS_SUPPORT_NETWORKS_HPP

#include <atomic>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>

namespace test
{
class unix_network
{
public:
    static bool is_on()
    {
        const char* const chosen = std::getenv("FAIRLEAD_TEST_NETWORK");
        return chosen != nullptr && std::string_view(chosen) == "unix";
    }

    /// For the next server. Below every port that the kernel chooses.
    static std::string next_address()
    {
        return "unix:" + path_of(++last());
    }

    /// Whether somebody was given `number` for a port.
    static bool knows(std::uint16_t number)
    {
        return number != 0 && number <= last();
    }

    static std::string path_of(std::uint16_t number)
    {
        return (directory() / std::to_string(number)).string();
    }

    static std::uint16_t number_of(std::string_view path)
    {
        path.remove_prefix(path.rfind('/') + 1);
        std::uint16_t number = 0;
        std::from_chars(path.data(), path.data() + path.size(), number);
        return number;
    }

private:
    class temporary
    {
    public:
        temporary()
        {
            std::string name =
                (std::filesystem::temp_directory_path() / "fairlead-XXXXXX").string();
            if (::mkdtemp(name.data()) == nullptr) {
                throw std::runtime_error("no temporary directory");
            }
            path = name;
        }

        temporary(const temporary&) = delete;
        temporary& operator=(const temporary&) = delete;

        ~temporary()
        {
            std::error_code ignored;
            std::filesystem::remove_all(path, ignored);
        }

        std::filesystem::path path;
    };

    static const std::filesystem::path& directory()
    {
        static const temporary one;
        return one.path;
    }

    static std::atomic<std::uint16_t>& last()
    {
        static std::atomic<std::uint16_t> number = 0;
        return number;
    }
};

/// The address of a Unix socket for the kernel; '@' in front: an abstract name.
struct unix_address
{
    explicit unix_address(const std::string& path)
    {
        where.sun_family = AF_UNIX;
        std::memcpy(where.sun_path, path.data(), path.size());
        if (path.front() == '@') {
            where.sun_path[0] = '\0';
        }
        size = static_cast<socklen_t>(
            offsetof(sockaddr_un, sun_path) + path.size() + (path.front() == '@' ? 0 : 1));
    }

    const sockaddr* data() const noexcept
    {
        return reinterpret_cast<const sockaddr*>(&where);
    }

    sockaddr_un where = {};
    socklen_t size = 0;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_NETWORKS_HPP
