// accept(2) fails in every way that the kernel knows: strace injects the errors into a real server, which is this
// program again, in a process of its own.

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/child_process.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/server.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <thread>
#include <vector>

using fairlead::errc;
using test::child_process;

namespace
{
constexpr const char* server_test = "the server that strace runs";

/// Of setsockopt before bind: SO_REUSEADDR, TCP_NODELAY, four of keep-alive, TCP_USER_TIMEOUT.
constexpr int first_options = 7;

/// Echoes, and ends the server when it is told to.
asio::awaitable<void> echo_until_quit(fairlead::connection& connection, std::promise<void>& quit)
{
    std::array<char, 64> buffer;
    while (const auto n = co_await connection.read_some(asio::buffer(buffer))) {
        co_await connection.write(asio::buffer(buffer, n));
        if (std::string_view(buffer.data(), n) == "quit") {
            quit.set_value();
            co_return;
        }
    }
}

std::string contents(const std::string& file)
{
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// Why strace cannot be used here; empty: it can.
std::string obstacle()
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "a sanitizer does not get on with ptrace";
#else
    const int code = child_process::execute({"strace", "-qq", "-o", "/dev/null", "-e",
                                             "inject=accept4:error=EPERM:when=1", "true"})
                         .wait();
    return code == 127 ? "strace is not installed" : code != 0 ? "strace may not trace here" : "";
#endif
}

/// A server under strace.
class traced_server
{
public:
    /// Of accept.
    explicit traced_server(const std::string& injection) : traced_server("accept4", injection)
    {}

    traced_server(const std::string& call, const std::string& injection)
        : trace_((directory_.path() / "trace").string()),
          process_(child_process::execute(
              {"strace", "-f", "-qq", "-o", trace_, "-e", "trace=" + call, "-e",
               "inject=" + call + ":" + injection,
               std::filesystem::read_symlink("/proc/self/exe").string(), server_test})),
          port_(static_cast<std::uint16_t>(std::stoi(process_.expect("port "))))
    {}

    std::uint16_t port() const
    {
        return port_;
    }

    child_process& process()
    {
        return process_;
    }

    /// Ends it in order; returns what it has said.
    std::string quit()
    {
        test::client client(port_);
        client.send("quit");
        CHECK(client.receive(4) == "quit");
        client.close();
        process_.expect("bye");
        CHECK(process_.wait() == 0);
        return process_.heard();
    }

    std::string trace() const
    {
        return contents(trace_);
    }

private:
    test::temporary_directory directory_;
    std::string trace_;
    child_process process_;
    std::uint16_t port_;
};

/// The client is served in the end, and so are those after it.
void require_service(std::uint16_t port)
{
    for (int i = 0; i < 3; ++i) {
        test::client client(port);
        client.send("x");
        REQUIRE(client.receive(1) == "x");
    }
}
} // namespace

namespace syscalls_test
{
struct quitting_echo
{
    std::promise<void>* quit;

    asio::awaitable<void> operator()(fairlead::connection& connection)
    {
        return echo_until_quit(connection, *quit);
    }
};
} // namespace syscalls_test

TEST_CASE("the server that strace runs", "[.child]")
{
    const char* const variable = std::getenv(child_process::report_variable);
    if (variable == nullptr) {
        return; // nothing for a test run
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // strace does not outlive its test, nor this one strace
    const test::reporter report(std::stoi(variable));
    std::promise<void> quit;
    test::running_server server(syscalls_test::quitting_echo{&quit});
    server.server.on_server([&](const fairlead::server_event& event) {
        report.say(
            std::string(to_string(event.kind)) + " " + event.code.message() + ": " +
            std::string(event.what));
    });
    server.server.on_error([&](const fairlead::error_event& event) {
        report.say("error " + event.code.message() + ": " + std::string(event.what));
    });
    try {
        server.start();
    } catch (const std::system_error& error) {
        report.say(std::string("no start: ") + error.what());
        report.say("port 0");
        return;
    }
    report.say("port " + std::to_string(server.port()));
    quit.get_future().wait();
    REQUIRE(test::wait_until_idle(server.server));
    report.say("accept_errors " + std::to_string(server.server.stats().accept_errors));
    server.stop();
    report.say("bye");
}

TEST_CASE("a client that is lost before it is accepted is passed over in silence", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    const std::string error =
        GENERATE(as<std::string>{}, "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "EHOSTUNREACH");
    INFO(error);
    traced_server server("error=" + error + ":when=1..4");
    require_service(server.port());
    const auto heard = server.quit();
    CHECK(test::times(server.trace(), "(INJECTED)") == 4);
    CHECK(heard.find("accept_errors 4") != std::string::npos);
    CHECK(test::times(heard, "error ") == 0); // nobody could do anything about it
    CHECK(test::times(heard, "paused") == 0);
}

TEST_CASE("a shortage pauses accepting, says so once, and passes", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    struct shortage
    {
        const char* error;
        errc code;
    };
    const auto [error, code] = GENERATE(
        shortage{"EMFILE", errc::out_of_descriptors}, shortage{"ENFILE", errc::out_of_descriptors},
        shortage{"ENOBUFS", errc::out_of_memory}, shortage{"ENOMEM", errc::out_of_memory});
    INFO(error);
    // Each time two calls: for the client, and for the one that the reserve is to refuse.
    traced_server server("error=" + std::string(error) + ":when=1..4");
    require_service(server.port());
    const auto heard = server.quit();
    CHECK(test::times(server.trace(), "(INJECTED)") == 4);
    const std::string message = make_error_code(code).message();
    CHECK(test::times(heard, "error " + message) == 1);
    CHECK(test::times(heard, "paused " + message) == 1);
    CHECK(test::times(heard, "resumed") == 1);
    CHECK(heard.find("paused") < heard.find("resumed"));
}

TEST_CASE("a shortage resets the client that waits longest, through the reserve", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    traced_server server("error=EMFILE:when=1"); // the reserve's own accept succeeds
    test::client refused(server.port());
    CHECK(refused.receive_rest().end == test::stream_end::reset);
    require_service(server.port());
    server.quit();
    CHECK(test::times(server.trace(), "(INJECTED)") == 1);
}

TEST_CASE("an error that nobody knows is told once, and tried again", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    const std::string error = GENERATE(as<std::string>{}, "EINVAL", "EBADF", "ENOSYS", "EXDEV");
    INFO(error);
    traced_server server("error=" + error + ":when=1..4");
    require_service(server.port());
    const auto heard = server.quit();
    CHECK(test::times(server.trace(), "(INJECTED)") == 4);
    CHECK(test::times(heard, "error ") == 1);
    CHECK(test::times(heard, "paused") == 1);
    CHECK(test::times(heard, "resumed") == 1);
}

TEST_CASE("an interrupted accept is simply repeated", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    traced_server server("error=EINTR:when=1..4");
    require_service(server.port());
    const auto heard = server.quit();
    CHECK(test::times(server.trace(), "(INJECTED)") == 4);
    CHECK(heard.find("accept_errors 0") != std::string::npos);
}

TEST_CASE("accept that fails for ever neither spins nor stays secret", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    // EPERM is what a sandbox says, for each client and without end; ENETDOWN lasts as long as the network is down.
    const std::string error = GENERATE(as<std::string>{}, "EPERM", "ENETDOWN", "EMFILE", "EINVAL");
    INFO(error);
    traced_server server("error=" + error);
    test::client client(server.port());
    server.process().expect("paused ");
    CHECK(test::times(server.process().heard(), "error ") == 1);
    const auto calls = test::times(server.trace(), "(INJECTED)");
    CHECK(calls >= 1);
    CHECK(
        calls < 1'000); // a batch or two; without a pause there were tens of thousands in a second
    server.process().signal(SIGKILL);
}

TEST_CASE("an option that the kernel refuses does not refuse the start", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    traced_server server("setsockopt", "error=EACCES:when=1.." + std::to_string(first_options));
    require_service(server.port());
    const auto heard = server.quit();
    CHECK(heard.find("listening") < heard.find("option_refused"));
    for (const char* const name :
         {"SO_REUSEADDR", "TCP_NODELAY", "SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL",
          "TCP_KEEPCNT", "TCP_USER_TIMEOUT"}) {
        INFO(name);
        CHECK(
            test::times(
                heard, "option_refused Permission denied: " + std::string(name) + ": Permission") ==
            1);
    }
    CHECK(test::times(heard, "error ") == 0);
}

TEST_CASE("a listening socket that does not know its address is no server", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    traced_server server("getsockname", "error=ENOBUFS");
    CHECK(server.port() == 0);
    server.process().wait();
    const auto heard = server.process().heard();
    CHECK(
        heard.find("no start: cannot listen on \"127.0.0.1:0\": getsockname: ") !=
        std::string::npos);
    CHECK(test::times(heard, "error ") == 1);
    CHECK(test::times(heard, "listening") == 0);
}

TEST_CASE("a socket that cannot listen is no server", "[syscalls]")
{
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    const std::string call = GENERATE(as<std::string>{}, "bind", "listen");
    INFO(call);
    traced_server server(call, "error=EACCES");
    CHECK(server.port() == 0);
    server.process().wait();
    CHECK(server.process().heard().find("no start: cannot listen on") != std::string::npos);
}
