// The process runs out of descriptors, for real: a child with a low RLIMIT_NOFILE serves, the test is its clients.

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/server.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using fairlead::connection_event_kind;
using fairlead::server_event_kind;
using test::child_process;
using test::reporter;

namespace
{
constexpr int descriptor_limit = 64;

void limit_descriptors()
{
    const rlimit limit{.rlim_cur = descriptor_limit, .rlim_max = descriptor_limit};
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Takes every descriptor that is left.
class descriptor_hoard
{
public:
    ~descriptor_hoard()
    {
        release();
    }

    /// Keeps at it for a while: others (a sanitizer's own thread) may hold one for a moment and give it back.
    void fill()
    {
        const auto end = std::chrono::steady_clock::now() + 300ms;
        while (std::chrono::steady_clock::now() < end) {
            for (int fd = ::dup(STDIN_FILENO); fd >= 0; fd = ::dup(STDIN_FILENO)) {
                held_.push_back(fd);
            }
            std::this_thread::sleep_for(1ms);
        }
    }

    void release()
    {
        for (const int fd : held_) {
            ::close(fd);
        }
        held_.clear();
    }

private:
    std::vector<int> held_;
};

/// In the child: waits for a signal that was blocked before the threads started.
int next_signal()
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    int number = 0;
    sigwait(&signals, &number);
    return number;
}

void block_signals()
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

template <typename Server>
void report_events(Server& server, const reporter& report)
{
    server.server.on_server([report](const fairlead::server_event& event) {
        report.say(std::string(to_string(event.kind)) + " " + event.code.message());
    });
    server.server.on_error([report](const fairlead::error_event& event) {
        report.say("error " + event.code.message() + ": " + std::string(event.what));
    });
}

fairlead::server_config unlimited()
{
    auto config = test::local_config();
    config.max_connections = 0; // the kernel's limit is the one to meet
    return config;
}

std::chrono::microseconds processor_time()
{
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto sum = [](const timeval& a, const timeval& b) {
        return std::chrono::seconds(a.tv_sec + b.tv_sec) +
               std::chrono::microseconds(a.tv_usec + b.tv_usec);
    };
    return sum(usage.ru_utime, usage.ru_stime);
}

/// What a client has met, as far as it knows within `patience`.
enum class fate
{
    served,
    refused,
    waiting,
};

fate fate_of(const test::client& client, std::chrono::milliseconds patience)
{
    pollfd waiting{.fd = client.fd(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) == 0) {
        return fate::waiting;
    }
    char byte = 0;
    return ::recv(client.fd(), &byte, 1, 0) == 1 ? fate::served : fate::refused;
}

const std::string out_of_descriptors =
    make_error_code(fairlead::errc::out_of_descriptors).message();
} // namespace

TEST_CASE(
    "at the descriptor limit the processor idles, clients are refused, and service resumes",
    "[descriptors]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    auto child = child_process::fork([](const reporter& report) {
        limit_descriptors();
        block_signals();
        {
            asio::io_context warm_up; // what stays open for good is opened now
        }
        const auto before = test::open_descriptors();
        {
            test::running_server server(test::echo, unlimited());
            report_events(server, report);
            server.start();
            report.say("port " + std::to_string(server.port()));
            next_signal(); // every client has come
            const auto busy_before = processor_time();
            std::this_thread::sleep_for(1s); // the time that is measured
            const auto busy = processor_time() - busy_before;
            report.say("busy " + std::to_string(busy.count()));
            next_signal(); // every client has gone
            const bool idle = test::wait_until_idle(server.server);
            const auto stats = server.server.stats();
            report.say(
                std::string(idle && stats.accepted == stats.closed ? "equal" : "different") +
                " refused=" + std::to_string(stats.refused));
            next_signal();
        }
        report.say("leaked " + std::to_string(test::open_descriptors() - before));
    });
    const auto port = static_cast<std::uint16_t>(std::stoi(child.expect("port ")));
    std::vector<test::client> clients;
    for (int i = 0; i < 2 * descriptor_limit; ++i) {
        clients.emplace_back(port);
        clients.back().try_send("x");
    }
    CHECK(child.expect("error ").find(out_of_descriptors) == 0);
    CHECK(child.expect("paused ") == out_of_descriptors);
    child.signal(SIGUSR1);
    CHECK(
        std::stol(child.expect("busy ")) <
        200'000); // of a second; a loop that spins takes all of it

    // One episode, told once; those who wait are let go one after the other, and nobody else suffers.
    CHECK(test::times(child.heard(), "error ") == 1);
    CHECK(test::times(child.heard(), "paused ") == 1);
    CHECK(test::times(child.heard(), "resumed ") == 0);
    std::vector<test::client> served;
    std::vector<test::client> waiting;
    int refused = 0;
    for (auto& client : clients) {
        switch (fate_of(client, 0ms)) {
        case fate::served:
            served.push_back(std::move(client));
            break;
        case fate::waiting:
            waiting.push_back(std::move(client));
            break;
        case fate::refused:
            ++refused;
        }
    }
    clients.clear();
    CHECK(served.size() > descriptor_limit / 4);
    CHECK(served.size() < descriptor_limit);
    CHECK(refused >= 3);
    CHECK(waiting.size() >= 10);
    CHECK(
        fate_of(waiting.front(), 5s) ==
        fate::refused); // the next one: the pause is a second at most

    for (int i = 0; i < 5; ++i) { // places become free: those who still wait get them
        served.back().close();
        served.pop_back();
    }
    child.expect("resumed ");
    const auto lucky = std::count_if(waiting.begin() + 1, waiting.end(), [](const auto& client) {
        return fate_of(client, 100ms) == fate::served;
    });
    CHECK(lucky >= 1);
    for (auto& client : served) {
        client.send("y");
        CHECK(client.receive(1) == "y");
    }

    served.clear();
    waiting.clear();
    test::client last(port); // in the end everybody is welcome again
    for (int attempt = 0; attempt < 10; ++attempt) {
        last.try_send("z");
        if (fate_of(last, 10s) == fate::served) {
            break;
        }
        last = test::client(port);
    }
    CHECK(last.try_send("last"));
    CHECK(last.receive(4) == "last");
    last.close();
    child.signal(SIGUSR1);
    CHECK(child.expect("equal refused=") != "0");
    child.signal(SIGUSR1);
    CHECK(child.expect("leaked ") == "0");
    CHECK(child.wait() == 0);
}

TEST_CASE(
    "service resumes without a connection that ends: whoever gives the descriptors back",
    "[descriptors]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    auto child = child_process::fork([](const reporter& report) {
        limit_descriptors();
        block_signals();
        test::running_server server(test::echo, unlimited());
        report_events(server, report);
        server.start();
        report.say("port " + std::to_string(server.port()));
        descriptor_hoard hoard; // somebody else in the process
        for (int number = next_signal(); number != SIGTERM; number = next_signal()) {
            if (number == SIGUSR1) {
                hoard.fill();
                report.say("full");
            } else {
                hoard.release();
                report.say("free");
            }
        }
    });
    const auto port = static_cast<std::uint16_t>(std::stoi(child.expect("port ")));
    for (std::size_t episode = 1; episode <= 3; ++episode) {
        child.signal(SIGUSR1);
        child.expect("full");
        for (int i = 0; i < 5; ++i) { // nobody waits for ever, and each is told at once or soon
            test::client client(port);
            CHECK(fate_of(client, 10s) == fate::refused);
        }
        child.signal(SIGUSR2);
        child.expect("free");
        test::client client(port);
        client.send("x");
        REQUIRE(client.receive(1) == "x");
        child.expect("resumed");
        CHECK(
            test::times(child.heard(), "error " + out_of_descriptors) ==
            episode); // once for each time
        CHECK(test::times(child.heard(), "paused " + out_of_descriptors) == episode);
        CHECK(test::times(child.heard(), "resumed ") == episode);
    }
    child.signal(SIGTERM);
    CHECK(child.wait() == 0);
}

TEST_CASE("a shortage leaves nothing behind that later clients pay for", "[descriptors]")
{
    if (test::sanitizer_needs_descriptors()) {
        SKIP_TEST("the sanitizer needs descriptors itself");
    }
    // The server's own steps are counted, in one thread: before the shortage, and after it and ten connections' ends.
    auto child = child_process::fork([](const reporter& report) {
        limit_descriptors();
        asio::io_context context(1);
        fairlead::tcp_server server(context, test::echo, unlimited());
        server.start();
        const auto port = server.local_endpoint().port();
        const auto steps_for_a_client = [&](test::client& client) {
            const auto open = server.open_connections();
            std::size_t steps = 0;
            client = test::client(port);
            while (server.open_connections() == open) {
                steps += context.run_one_for(1s);
            }
            return steps + context.poll();
        };
        std::vector<test::client> clients;
        for (int i = 0; i < 11; ++i) {
            clients.emplace_back(port);
        }
        while (server.open_connections() < 11) {
            context.run_one_for(1s);
        }
        test::client spare(port);
        const auto steps_before = steps_for_a_client(spare);

        test::client unlucky(port); // waits in the kernel: the context does not run just now
        descriptor_hoard hoard;
        hoard.fill();
        while (server.stats().refused == 0) {
            context.run_one_for(1s);
        }
        context.run_for(50ms); // the pause is over, and nobody is waiting
        hoard.release();
        for (auto& client : clients) {
            const auto open = server.open_connections();
            client.reset();
            while (server.open_connections() == open) {
                context.run_one_for(1s);
            }
            context.run_for(50ms); // and what follows from it
        }
        const auto steps_after = steps_for_a_client(spare);
        report.say("before " + std::to_string(steps_before));
        report.say("after " + std::to_string(steps_after));
        server.close();
        context.run_for(100ms);
    });
    const int before = std::stoi(child.expect("before "));
    const int after = std::stoi(child.expect("after "));
    CHECK(before >= 1);
    CHECK(after <= before + 5); // the former spare client's end is among them
    CHECK(child.wait() == 0);
}
