// The kernel takes nothing for a moment, at each send of a TLS connection in turn: strace injects it into a real
// server, which is this program again, in a process of its own. No client may notice.

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/server.hpp>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <utility>

namespace tls_syscalls_test
{
constexpr const char* server_test = "the TLS server that strace runs";

/// One question, one answer; "half" ends its own direction first, and waits for the client to end the other.
inline asio::awaitable<void> answer(fairlead::connection& connection)
{
    std::array<char, 4> question;
    co_await connection.read(asio::buffer(question));
    co_await connection.write(asio::buffer("the answer", 10));
    if (std::string_view(question.data(), question.size()) == "half") {
        co_await connection.shutdown_send();
        co_await connection.read_some(asio::buffer(question));
    }
}

/// Why strace cannot be used here; empty: it can.
inline std::string obstacle()
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return "a sanitizer does not get on with ptrace";
#else
    const int code = test::child_process::execute({"strace", "-qq", "-o", "/dev/null", "-e",
                                                   "inject=sendto:error=EAGAIN:when=1", "true"})
                         .wait();
    return code == 127 ? "strace is not installed" : code != 0 ? "strace may not trace here" : "";
#endif
}

inline std::string contents(const std::string& file)
{
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}
} // namespace tls_syscalls_test

TEST_CASE("the TLS server that strace runs", "[.child]")
{
    const char* const variable = std::getenv(test::child_process::report_variable);
    if (variable == nullptr) {
        return; // nothing for a test run
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // strace does not outlive its test, nor this one strace
    const test::reporter report(std::stoi(variable));
    auto config = test::local_config();
    config.tls = test::make_tls();
    test::running_server running(&tls_syscalls_test::answer, config);
    running.start();
    report.say("port " + std::to_string(running.port()));
    if (!running.log.wait_for(fairlead::connection_event_kind::closed)) {
        return;
    }
    const auto end = running.log.closed().front();
    report.say("closed " + std::string(to_string(end.reason)) + " " + end.code.message());
    running.stop();
    report.say("bye");
}

TEST_CASE("a send that would block once takes nothing from a TLS client", "[syscalls][tls]")
{
    using namespace tls_syscalls_test;
    if (const auto reason = obstacle(); !reason.empty()) {
        SKIP_TEST(reason);
    }
    const std::string question = GENERATE(as<std::string>{}, "full", "half");
    const test::temporary_directory directory;
    const auto trace = (directory.path() / "trace").string();
    bool was_hit = true;
    int hits = 0;
    // Until a conversation is over before its send of this number: then each was hit, that of close_notify included.
    for (int number = 1; was_hit && number < 20; ++number) {
        INFO(question << ", send " << number);
        auto server = test::child_process::execute(
            {"strace", "-f", "-qq", "-o", trace, "-e", "trace=sendto", "-e",
             "inject=sendto:error=EAGAIN:when=" + std::to_string(number),
             std::filesystem::read_symlink("/proc/self/exe").string(), server_test});
        const int port = std::stoi(server.expect("port "));
        test::tls_client client{test::client(static_cast<std::uint16_t>(port))};
        client.send(question);
        CHECK(client.receive(10) == "the answer");
        const bool is_half = question == "half";
        char byte = 0;
        const int after = SSL_read(client.ssl(), &byte, 1);
        CHECK(SSL_get_error(client.ssl(), after) == SSL_ERROR_ZERO_RETURN);
        client.finish();
        const auto below = client.tcp().receive_rest();
        CHECK(below.bytes.empty());
        CHECK(below.end == test::stream_end::finished);
        client.tcp().close();
        const std::string end = server.expect("closed ");
        CHECK(end.find(is_half ? "peer_closed" : "handler_returned") == 0);
        server.expect("bye");
        CHECK(server.wait() == 0);
        was_hit = test::times(contents(trace), "(INJECTED)") != 0;
        hits += was_hit ? 1 : 0;
    }
    CHECK_FALSE(was_hit);
    CHECK(hits >= 4); // the handshake's flight, tickets, the answer, close_notify
}
