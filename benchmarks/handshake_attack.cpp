// What it is: how long an honest TLS handshake takes beside a crowd of clients that do not finish theirs.
// How to run it: handshake_attack 127.0.0.1:7777 [CROWD] [SECONDS], against any TLS server that is running there, for
// instance fairlead_echo 127.0.0.1:7777 --tls CERTIFICATE KEY. 1500 clients and 5 seconds for each row by default; the
// descriptor limits of both must allow the crowd.
// What the figures mean: one honest client after the other connects, shakes hands (TLS 1.3, nothing resumed) and leaves.
// Ratios compare with the median at rest, which is measured before each attack anew.

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace
{
using clock_type = std::chrono::steady_clock;
using namespace std::chrono_literals;
using context_ptr = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using ssl_ptr = std::unique_ptr<SSL, decltype(&SSL_free)>;

class connection
{
public:
    explicit connection(const sockaddr_in& server)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))
    {
        const timeval patience{.tv_sec = 15, .tv_usec = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        const int on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fd_ < 0 ||
            ::connect(fd_, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
            ::close(fd_);
            throw std::runtime_error("cannot connect");
        }
    }

    connection(connection&& other) noexcept : fd_(std::exchange(other.fd_, -1))
    {}

    connection& operator=(connection&& other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }

    ~connection()
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }

    int fd() const noexcept
    {
        return fd_;
    }

    void send(std::string_view bytes) const noexcept
    {
        [[maybe_unused]] const auto sent =
            ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    /// Drops what has come; true when the server has closed.
    bool has_ended() const noexcept
    {
        char dropped[4096];
        ssize_t n = 0;
        do {
            n = ::recv(fd_, dropped, sizeof dropped, MSG_DONTWAIT);
        } while (n > 0);
        return n == 0 || errno != EAGAIN;
    }

private:
    int fd_;
};

std::string client_hello()
{
    const context_ptr context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const ssl_ptr ssl(SSL_new(context.get()), &SSL_free);
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_connect(ssl.get());
    char* data = nullptr;
    const long size = BIO_get_mem_data(SSL_get_wbio(ssl.get()), &data);
    return {data, static_cast<std::size_t>(size)};
}

struct attack
{
    const char* name;
    std::string first;
    bool drips;
};

/// The crowd, on a thread of its own. Who is closed by the server comes again at once.
class crowd
{
public:
    crowd(const sockaddr_in& server, attack how, std::size_t size)
        : server_(server), how_(std::move(how))
    {
        for (std::size_t n = 0; n < size; ++n) {
            clients_.emplace_back(server_);
            clients_.back().send(how_.first);
        }
        thread_ = std::thread([this] { run(); });
    }

    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;

    ~crowd()
    {
        ends_ = true;
        thread_.join();
    }

    std::size_t came_again() const noexcept
    {
        return came_again_;
    }

private:
    /// Each client has its turn every 0.8 s.
    void run()
    {
        constexpr std::size_t slices = 80;
        try {
            for (std::size_t slice = 0; !ends_; slice = (slice + 1) % slices) {
                for (std::size_t n = slice; n < clients_.size(); n += slices) {
                    if (clients_[n].has_ended()) {
                        clients_[n] = connection(server_);
                        clients_[n].send(how_.first);
                        ++came_again_;
                    } else if (how_.drips) {
                        clients_[n].send("x");
                    }
                }
                std::this_thread::sleep_for(10ms);
            }
        } catch (const std::exception& error) {
            std::fprintf(stderr, "the crowd: %s\n", error.what());
        }
    }

    sockaddr_in server_;
    attack how_;
    std::vector<connection> clients_;
    std::atomic<bool> ends_ = false;
    std::atomic<std::size_t> came_again_ = 0;
    std::thread thread_;
};

struct figures
{
    double p50 = 0;
    double p99 = 0;
    std::size_t done = 0;
    std::size_t failed = 0;
};

figures measure(const sockaddr_in& server, SSL_CTX* context, std::chrono::seconds time)
{
    std::vector<double> milliseconds;
    figures result;
    const auto ends = clock_type::now() + time;
    do {
        const auto begin = clock_type::now();
        try {
            const connection tcp(server);
            const ssl_ptr ssl(SSL_new(context), &SSL_free);
            SSL_set_fd(ssl.get(), tcp.fd());
            // The echo tells that the server has finished too.
            char byte = 0;
            const bool is_done = SSL_connect(ssl.get()) == 1;
            if (is_done) {
                SSL_write(ssl.get(), "x", 1);
            }
            if (is_done && SSL_read(ssl.get(), &byte, 1) == 1) {
                milliseconds.push_back(
                    std::chrono::duration<double, std::milli>(clock_type::now() - begin).count());
            } else {
                ++result.failed;
            }
        } catch (const std::exception&) {
            ++result.failed;
        }
        ERR_clear_error();
        std::this_thread::sleep_for(2ms);
    } while (clock_type::now() < ends);
    std::sort(milliseconds.begin(), milliseconds.end());
    result.done = milliseconds.size();
    if (result.done != 0) {
        result.p50 = milliseconds[result.done / 2];
        result.p99 = milliseconds[result.done * 99 / 100];
    }
    return result;
}

void print(const std::string& name, const figures& seen, double rest, std::size_t came_again)
{
    std::printf(
        "%-34s p50 %9.2f ms  p99 %9.2f ms  %5zu done %3zu failed  %6.2f x rest  %6zu came again\n",
        name.c_str(), seen.p50, seen.p99, seen.done, seen.failed, seen.p50 / rest, came_again);
    std::fflush(stdout);
}

int run(const std::string& address, std::size_t size, std::chrono::seconds time)
{
    const auto colon = address.rfind(':');
    sockaddr_in server{};
    server.sin_family = AF_INET;
    if (colon == std::string::npos ||
        ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &server.sin_addr) != 1) {
        throw std::runtime_error("an IPv4 address and a port, please: 127.0.0.1:7777");
    }
    server.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
    const context_ptr context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const std::string hello = client_hello();
    const std::vector<attack> attacks{
        {"hellos that drip", {"\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03", 11}, true},
        {"whole hellos, then silence", hello, false},
        {"whole hellos, then dripping", hello + std::string("\x17\x03\x03\x40\x00", 5), true}};
    for (const auto& how : attacks) {
        const auto rest = measure(server, context.get(), time);
        print("at rest", rest, rest.p50, 0);
        crowd beside(server, how, size);
        const auto first = measure(server, context.get(), 1s);
        print("first second of " + std::to_string(size) + ":", first, rest.p50, 0);
        const auto seen = measure(server, context.get(), time);
        print(how.name, seen, rest.p50, beside.came_again());
    }
    return EXIT_SUCCESS;
}
} // namespace

int main(int argc, char** argv)
{
    std::signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
    try {
        if (argc < 2) {
            throw std::runtime_error("usage: handshake_attack 127.0.0.1:7777 [CROWD] [SECONDS]");
        }
        return run(
            argv[1], argc > 2 ? std::stoul(argv[2]) : 1500,
            std::chrono::seconds(argc > 3 ? std::stol(argv[3]) : 5));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return EXIT_FAILURE;
    }
}
