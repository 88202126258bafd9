#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/server_fixture.hpp"
#include "support/subprocess.hpp"

#include <random>
#include <string>
#include <vector>

// Clients that others wrote, against the echo handler. What they send comes back byte for byte, they end without an
// error, and the server sees an orderly end.

using fairlead::close_reason;
using fairlead::connection_event_kind;

namespace test::foreign
{
/// The authority is in a file, so that the clients can verify.
struct tls_files
{
    test::certificate_authority authority;
    test::certificate server = authority.issue(
        {.common_name = "localhost", .dns_names = {"localhost"}, .ip_addresses = {"127.0.0.1"}});
    test::temporary_directory directory;
    std::string ca_file = directory.write("ca.pem", authority.certificate_pem);
};

inline fairlead::server_config config(const tls_files* files)
{
    auto config = test::local_config();
    if (files != nullptr) {
        config.tls.emplace();
        config.tls->certificate = files->server.certificate_pem;
        config.tls->private_key = files->server.key_pem;
    }
    return config;
}

/// Every byte value, more than any buffer on the way holds.
inline std::string payload()
{
    std::mt19937 random(7777);
    std::string bytes(300'000, '\0');
    for (char& byte : bytes) {
        byte = static_cast<char>(random() % 256);
    }
    return bytes;
}

/// Runs `command` against a server; `{port}` and `{ca}` in it are filled in. Its input ends when
/// it has printed `awaited` bytes. Where there is no such program the test is skipped.
template <typename Check>
void converse(
    const std::vector<std::string>& command, const tls_files* files, const std::string& input,
    Check check, std::size_t awaited = 0)
{
    if (!test::has_program(command.front())) {
        SKIP_TEST("needs " + command.front());
    }
    test::running_server running(&test::echo, config(files));
    running.start();
    std::vector<std::string> filled = command;
    for (std::string& word : filled) {
        const auto replace = [&](const std::string& from, const std::string& to) {
            for (auto at = word.find(from); at != std::string::npos; at = word.find(from, at)) {
                word.replace(at, from.size(), to);
            }
        };
        replace("{port}", std::to_string(running.port()));
        replace("{ca}", files != nullptr ? files->ca_file : "");
    }
    const auto result = test::subprocess::run(filled, input, awaited);
    INFO(command.front() << " said: " << result.errors);
    CHECK_FALSE(result.timed_out);
    CHECK(result.exit_code == 0);
    check(result.output);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::peer_closed);
    CHECK_FALSE(running.log.closed().front().code);
    CHECK(running.log.errors().empty());
}

// Echo while sending: neither side holds all of it.
constexpr const char* python_plain = R"(
import socket, sys, threading
data = sys.stdin.buffer.read()
s = socket.create_connection(("127.0.0.1", {port}), timeout=20)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send)
t.start()
while True:
    chunk = s.recv(65536)
    if not chunk:
        break
    sys.stdout.buffer.write(chunk)
t.join()
s.close()
)";

// unwrap() sends close_notify and insists on the server's; an end without it would be an SSLEOFError.
constexpr const char* python_tls = R"(
import socket, ssl, sys
data = sys.stdin.buffer.read()
context = ssl.create_default_context(cafile="{ca}")
context.minimum_version = ssl.TLSVersion.{version}
context.maximum_version = ssl.TLSVersion.{version}
raw = socket.create_connection(("127.0.0.1", {port}), timeout=20)
s = context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
sent = 0
while sent < len(data):
    block = data[sent:sent + 10000]
    s.sendall(block)
    sent += len(block)
    got = 0
    while got < len(block):
        chunk = s.recv(65536)
        if not chunk:
            sys.exit("the stream was cut")
        sys.stdout.buffer.write(chunk)
        got += len(chunk)
s.unwrap().close()
)";
} // namespace test::foreign

using namespace test::foreign;

TEST_CASE("python's socket is echoed exactly", "[foreign]")
{
    const std::string sent = payload();
    converse({"python3", "-c", python_plain}, nullptr, sent, [&](const std::string& got) {
        CHECK((got == sent));
    });
}

TEST_CASE(
    "python's ssl verifies the server, is echoed exactly, and both say goodbye", "[foreign][tls]")
{
    const std::string version = GENERATE(std::string("TLSv1_2"), std::string("TLSv1_3"));
    INFO(version);
    const tls_files files;
    std::string program = python_tls;
    for (auto at = program.find("{version}"); at != std::string::npos;
         at = program.find("{version}")) {
        program.replace(at, 9, version);
    }
    const std::string sent = payload();
    converse({"python3", "-c", program}, &files, sent, [&](const std::string& got) {
        CHECK((got == sent));
    });
}

TEST_CASE("nc is echoed exactly", "[foreign]")
{
    const std::string sent = payload();
    const std::vector<std::string> command = {"nc", "-N", "127.0.0.1", "{port}"};
    converse(command, nullptr, sent, [&](const std::string& got) { CHECK((got == sent)); });
}

TEST_CASE("socat is echoed exactly", "[foreign]")
{
    const std::string sent = payload();
    const std::vector<std::string> command = {"socat", "-t20", "-", "TCP4:127.0.0.1:{port}"};
    converse(command, nullptr, sent, [&](const std::string& got) { CHECK((got == sent)); });
}

TEST_CASE("socat over TLS is echoed exactly", "[foreign][tls]")
{
    const tls_files files;
    const std::string sent = payload();
    const std::vector<std::string> command = {
        "socat", "-t20", "-", "OPENSSL:localhost:{port},pf=ip4,cafile={ca}"};
    converse(command, &files, sent, [&](const std::string& got) { CHECK((got == sent)); });
}

TEST_CASE("openssl s_client is echoed exactly", "[foreign][tls]")
{
    const std::string version = GENERATE(std::string("-tls1_2"), std::string("-tls1_3"));
    INFO(version);
    const tls_files files;
    // At the end of its input s_client leaves, with close_notify, and does not wait for what is still to come.
    // It takes a letter at the beginning of what it reads for a command, so these are digits.
    std::string sent;
    for (int number = 0; sent.size() < 300'000; ++number) {
        sent += std::to_string(number) + '\n';
    }
    const std::vector<std::string> command = {
        "openssl",     "s_client", "-connect", "127.0.0.1:{port}",     "-servername",
        "localhost",   "-CAfile",  "{ca}",     "-verify_return_error", "-quiet",
        "-no_ign_eof", version};
    converse(
        command, &files, sent, [&](const std::string& got) { CHECK((got == sent)); }, sent.size());
}

TEST_CASE(
    "a bad certificate is refused by a client that looks, and the server lives on",
    "[foreign][tls]")
{
    const tls_files files;
    const tls_files stranger;
    if (!test::has_program("openssl")) {
        SKIP_TEST("needs openssl");
    }
    test::running_server running(&test::echo, config(&files));
    running.start();
    const auto result = test::subprocess::run(
        {"openssl", "s_client", "-connect", "127.0.0.1:" + std::to_string(running.port()),
         "-servername", "localhost", "-CAfile", stranger.ca_file, "-verify_return_error"});
    CHECK_FALSE(result.timed_out);
    CHECK(result.exit_code != 0);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.server.state() == fairlead::server_state::running);
}
