// serve(): a whole server process, its signals and what it leaves behind. Each test serves in a process of its own.

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/child_process.hpp"
#include "support/client.hpp"
#include "support/tls_client.hpp"
#include <fairlead/serve.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using fairlead::connection_event_kind;
using fairlead::server_event_kind;
using test::child_process;
using test::reporter;

namespace
{
/// Echoes; a connection that waits for its next request goes home when the server drains.
asio::awaitable<void> polite_echo(fairlead::connection& connection)
{
    std::array<char, 4096> buffer;
    while (co_await connection.readable()) {
        const auto n = co_await connection.read_some(asio::buffer(buffer));
        if (n == 0) {
            co_return;
        }
        co_await connection.write(asio::buffer(buffer, n));
    }
}

/// Echoes, and takes no notice of a drain.
asio::awaitable<void> obstinate_echo(fairlead::connection& connection)
{
    std::array<char, 4096> buffer;
    while (const auto n = co_await connection.read_some(asio::buffer(buffer))) {
        co_await connection.write(asio::buffer(buffer, n));
    }
}

using handler = asio::awaitable<void> (*)(fairlead::connection&);

fairlead::serve_config reporting_to(const reporter& report)
{
    return {
        .shards = {.threads = 2},
        .hooks = {
            .on_error =
                [report](const fairlead::error_event& event) {
                    report.say("error " + event.code.message() + ": " + std::string(event.what));
                },
            .on_connection =
                [report](const fairlead::connection_event& event) {
                    report.say(
                        std::string(to_string(event.kind)) + " " +
                        (event.kind == connection_event_kind::closed
                             ? std::string(to_string(event.reason))
                             : ""));
                },
            .on_server =
                [report](const fairlead::server_event& event) {
                    report.say(
                        std::string(to_string(event.kind)) + " " +
                        std::to_string(event.local.port()));
                }}};
}

void serve_and_report(const reporter& report, handler serving, fairlead::server_config config)
{
    const auto drain = fairlead::serve(serving, std::move(config), reporting_to(report));
    report.say(
        "report drained=" + std::to_string(drain.drained) +
        " closed_idle=" + std::to_string(drain.closed_idle) +
        " stragglers=" + std::to_string(drain.stragglers.size()) +
        (drain.took >= 200ms ? " after a while" : " at once"));
}

fairlead::server_config local(std::chrono::milliseconds drain_timeout)
{
    return {.address = "127.0.0.1:0", .drain_timeout = drain_timeout};
}

child_process serving(handler serving, std::chrono::milliseconds drain_timeout)
{
    return child_process::fork(
        [=](const reporter& report) { serve_and_report(report, serving, local(drain_timeout)); });
}

std::uint16_t port_of(child_process& child)
{
    return static_cast<std::uint16_t>(std::stoi(child.expect("listening ")));
}

test::client served_by(std::uint16_t port)
{
    test::client client(port);
    client.send("hi");
    REQUIRE(client.receive(2) == "hi");
    return client;
}

test::tls_client secured(std::uint16_t port)
{
    return test::tls_client(test::client(port));
}

/// The common name in the server's certificate.
std::string peer_name(const test::tls_client& client)
{
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(
        SSL_get_peer_certificate(client.ssl()), &X509_free);
    std::array<char, 64> name{};
    X509_NAME_get_text_by_NID(
        X509_get_subject_name(certificate.get()), NID_commonName, name.data(),
        static_cast<int>(name.size()));
    return name.data();
}

bool echoes(test::tls_client& client, const std::string& text)
{
    client.send(text);
    return client.receive(text.size()) == text;
}

std::atomic<int> custom_calls = 0;

void custom_handler(int)
{
    ++custom_calls;
}

std::string disposition_of(int signal)
{
    struct sigaction action = {};
    ::sigaction(signal, nullptr, &action);
    return action.sa_handler == SIG_DFL          ? "default"
           : action.sa_handler == SIG_IGN        ? "ignore"
           : action.sa_handler == custom_handler ? "custom"
                                                 : "other";
}

std::string dispositions()
{
    return disposition_of(SIGINT) + " " + disposition_of(SIGTERM) + " " + disposition_of(SIGHUP);
}
} // namespace

TEST_CASE("SIGINT and SIGTERM drain, and serve returns the report", "[serve][signals]")
{
    const int signal = GENERATE(SIGINT, SIGTERM);
    auto child = serving(polite_echo, 10s);
    const auto port = port_of(child);
    auto first = served_by(port);
    auto second = served_by(port);
    child.signal(signal);
    CHECK(first.receive_rest().end == test::stream_end::finished); // not a reset
    CHECK(second.receive_rest().end == test::stream_end::finished);
    first.close();
    second.close();
    child.expect("draining");
    child.expect("stopped");
    const auto report = child.expect("report ");
    INFO(report);
    // One whose handler had not come back to waiting when the drain began counts as drained.
    CHECK(
        (report.find("drained=0 closed_idle=2 stragglers=0") == 0 ||
         report.find("drained=1 closed_idle=1 stragglers=0") == 0 ||
         report.find("drained=2 closed_idle=0 stragglers=0") == 0));
    CHECK(child.wait() == 0);
    CHECK(child.heard().find("error") == std::string::npos);
}

TEST_CASE("a drain lasts drain_timeout, and names who is still there", "[serve][signals]")
{
    auto child = serving(obstinate_echo, 300ms);
    auto client = served_by(port_of(child));
    child.signal(SIGTERM);
    CHECK(child.expect("report ") == "drained=0 closed_idle=0 stragglers=1 after a while");
    CHECK(child.wait() == 0);
    CHECK(client.receive_rest().end != test::stream_end::timed_out);
}

TEST_CASE("a second signal closes everything at once", "[serve][signals]")
{
    auto child = serving(obstinate_echo, 1h);
    auto client = served_by(port_of(child));
    child.signal(SIGTERM);
    child.expect("draining"); // every shard is: one that had not begun would have no straggler
    client.send("still served");
    CHECK(client.receive(12) == "still served");
    child.signal(GENERATE(SIGINT, SIGTERM)); // the same or the other
    const auto report = child.expect("report ");
    INFO(report);
    CHECK(report.find("drained=0 closed_idle=0 stragglers=1") == 0);
    CHECK(child.heard().find("closed server_closed") != std::string::npos);
    CHECK(child.wait() == 0);
    CHECK(client.receive_rest().end != test::stream_end::timed_out);
}

TEST_CASE("a burst of signals is as good as two", "[serve][signals]")
{
    auto child = serving(obstinate_echo, 1h);
    auto client = served_by(port_of(child));
    child.signal(SIGINT);
    child.expect("draining");
    for (int i = 0; i < 20; ++i) {
        child.signal(i % 2 == 0 ? SIGINT : SIGTERM);
    }
    child.expect("report ");
    // One that comes after serve() has returned ends the process, as it would have before it.
    const int code = child.wait();
    CHECK((code == 0 || code == -SIGINT || code == -SIGTERM));
}

TEST_CASE("a signal that comes while the server starts is not lost", "[serve][signals]")
{
    for (int round = 0; round < 10; ++round) {
        auto child = serving(polite_echo, 10s);
        port_of(child); // every shard listens, no thread runs yet
        child.signal(SIGTERM);
        child.expect("report ");
        CHECK(child.wait() == 0);
    }
}

TEST_CASE("the signals' dispositions are afterwards as they were", "[serve][signals]")
{
    auto child = child_process::fork([](const reporter& report) {
        std::signal(SIGINT, SIG_IGN);
        std::signal(SIGTERM, custom_handler);
        std::signal(SIGHUP, SIG_DFL);
        report.say("before " + dispositions());
        serve_and_report(report, polite_echo, local(10s));
        report.say("after " + dispositions());
        std::raise(SIGINT);
        std::raise(SIGTERM);
        report.say("calls " + std::to_string(custom_calls));
        serve_and_report(report, polite_echo, local(10s)); // and it works a second time
        report.say("again " + dispositions());
    });
    const auto before = child.expect("before ");
    CHECK(before == "ignore custom default");
    port_of(child);
    child.signal(SIGINT); // ignored by the program, but not while it serves
    CHECK(child.expect("after ") == before);
    CHECK(child.expect("calls ") == "1");
    port_of(child);
    child.signal(SIGTERM);
    CHECK(child.expect("again ") == before);
    CHECK(child.wait() == 0);
}

TEST_CASE("serve throws before it serves, and the signals stay as they were", "[serve][signals]")
{
    auto child = child_process::fork([](const reporter& report) {
        std::signal(SIGINT, custom_handler);
        std::signal(SIGTERM, SIG_IGN);
        const auto attempt = [&](fairlead::server_config config) {
            try {
                serve_and_report(report, polite_echo, std::move(config));
            } catch (const std::system_error& error) {
                report.say(
                    "thrown " + std::string(error.code().category().name()) + " " +
                    error.code().message());
            }
            report.say("then " + dispositions());
        };
        attempt({.address = "nonsense"});
        attempt({.address = "192.0.2.1:0"}); // not an address of this machine
        attempt({.address = "127.0.0.1:0", .idle_timeout = -1s});
        std::raise(SIGINT);
        report.say("calls " + std::to_string(custom_calls));
    });
    CHECK(child.expect("thrown ") == "fairlead invalid address");
    CHECK(child.expect("then ") == "custom ignore default");
    CHECK(
        child.expect("thrown ") ==
        "system " + std::make_error_code(std::errc::address_not_available).message());
    CHECK(child.expect("then ") == "custom ignore default");
    CHECK(child.expect("thrown ") == "fairlead invalid configuration");
    CHECK(child.expect("then ") == "custom ignore default");
    CHECK(child.expect("calls ") == "1");
    CHECK(child.wait() == 0);
}

TEST_CASE("without TLS, SIGHUP keeps its disposition", "[serve][signals]")
{
    auto child = serving(polite_echo, 10s);
    port_of(child);
    child.signal(SIGHUP);
    CHECK(child.wait() == -SIGHUP);
}

TEST_CASE(
    "SIGHUP reads the TLS files again, and a broken one changes nothing", "[serve][signals][tls]")
{
    const test::certificate_authority authority;
    const test::temporary_directory directory;
    const auto install = [&](const std::string& name) {
        const auto issued = authority.issue({.common_name = name});
        directory.write("key.pem", issued.key_pem);
        return directory.write("certificate.pem", issued.certificate_pem);
    };
    const auto file = install("first");
    auto child = child_process::fork([&](const reporter& report) {
        auto config = local(10s);
        config.tls = fairlead::tls_config{
            .certificate = file, .private_key = (directory.path() / "key.pem").string()};
        serve_and_report(report, polite_echo, std::move(config));
    });
    const auto port = port_of(child);

    auto old = secured(port);
    CHECK(peer_name(old) == "first");
    install("second");
    child.signal(SIGHUP);
    child.expect("tls_reloaded"); // by every shard
    auto renewed = secured(port);
    CHECK(peer_name(renewed) == "second");

    directory.write("certificate.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    child.signal(SIGHUP);
    const auto error = child.expect("error ");
    CHECK(error.find(file) != std::string::npos); // it names the file
    std::filesystem::remove(file);
    child.signal(SIGHUP);
    CHECK(child.expect("error ").find(file) != std::string::npos);
    auto unchanged = secured(port);
    CHECK(peer_name(unchanged) == "second");
    CHECK(echoes(unchanged, "alive"));
    CHECK(echoes(old, "still here")); // the old connection lives on
    CHECK(echoes(renewed, "and here"));

    install("third"); // a failure is not the end of reloading
    child.signal(SIGHUP);
    child.expect("tls_reloaded");
    CHECK(peer_name(secured(port)) == "third");
    child.signal(SIGTERM);
    child.expect("report ");
    CHECK(child.wait() == 0);
}

TEST_CASE("on_start gets a handle with which any thread looks at the server", "[serve][on_start]")
{
    auto child = child_process::fork([](const reporter& report) {
        auto options = reporting_to(report);
        const auto caller = std::this_thread::get_id();
        options.on_start = [&report, caller](fairlead::running_server& server) {
            const bool is_caller = std::this_thread::get_id() == caller;
            report.say(
                std::string("started ") + (is_caller ? "here " : "elsewhere ") +
                std::string(to_string(server.state())));
            report.say("port " + std::to_string(server.local_endpoint().port()));
            while (server.stats().bytes_written < 2) { // clients are served meanwhile
                std::this_thread::yield();
            }
            const auto all = server.connections();
            report.say("connections " + std::to_string(all.size()));
            report.say(server.close_connection(all.at(0).id) ? "closes it" : "does not know it");
            report.say(server.close_connection(0) ? "closes nobody" : "knows nobody");
        };
        fairlead::serve(obstinate_echo, local(10s), options);
    });
    CHECK(child.expect("started ") == "here running");
    auto client = served_by(static_cast<std::uint16_t>(std::stoi(child.expect("port "))));
    CHECK(child.expect("connections ") == "1");
    CHECK(child.expect("closes").empty() == false);
    CHECK(child.expect("knows ") == "nobody");
    CHECK(client.receive_rest().end == test::stream_end::finished);
    client.close();
    child.signal(SIGTERM);
    CHECK(child.wait() == 0);
    CHECK(test::times(child.heard(), "started ") == 1);
    CHECK(test::times(child.heard(), "listening ") == 1);
}

TEST_CASE("the handle stops the server, and serve returns the report", "[serve][on_start]")
{
    const bool drains = GENERATE(true, false);
    auto child = child_process::fork([=](const reporter& report) {
        auto options = reporting_to(report);
        std::atomic<fairlead::running_server*> handle = nullptr; // valid until serve returns
        options.on_start = [&](fairlead::running_server& server) {
            handle = &server;
            report.say("port " + std::to_string(server.local_endpoint().port()));
        };
        const auto serving = [&](fairlead::connection& connection) -> asio::awaitable<void> {
            std::array<char, 1> order{};
            co_await connection.read(asio::buffer(order));
            if (drains) { // from a shard's own thread
                handle.load()->shutdown(10s);
                co_await connection.drain_begun();
            } else {
                handle.load()->close();
            }
        };
        const auto drain = fairlead::serve(serving, local(1h), options);
        report.say(
            "report drained=" + std::to_string(drain.drained) +
            " stragglers=" + std::to_string(drain.stragglers.size()));
    });
    test::client client(static_cast<std::uint16_t>(std::stoi(child.expect("port "))));
    client.send("x");
    CHECK(client.receive_rest().end != test::stream_end::timed_out);
    client.close();
    CHECK(
        child.expect("report ") == (drains ? "drained=1 stragglers=0" : "drained=0 stragglers=0"));
    CHECK(child.wait() == 0);
}

TEST_CASE("what on_start throws leaves serve, with everything closed", "[serve][on_start][signals]")
{
    auto child = child_process::fork([](const reporter& report) {
        std::signal(SIGINT, custom_handler);
        auto options = reporting_to(report);
        options.on_start = [&](fairlead::running_server&) { throw std::runtime_error("no"); };
        try {
            fairlead::serve(polite_echo, local(10s), options);
        } catch (const std::runtime_error& error) {
            report.say(std::string("thrown ") + error.what() + " " + disposition_of(SIGINT));
        }
    });
    CHECK(child.expect("thrown ") == "no custom");
    CHECK(child.wait() == 0);
    CHECK(child.heard().find("stopped ") != std::string::npos);
}

TEST_CASE("serve prints nothing", "[serve]")
{
    auto child = child_process::fork([](const reporter& report) {
        const test::temporary_directory directory;
        const auto file = (directory.path() / "output").string();
        const int output = ::open(file.c_str(), O_CREAT | O_RDWR, 0600);
        std::cout.flush(); // what the test framework had to say is not what serve prints
        std::fflush(nullptr);
        ::dup2(output, STDOUT_FILENO);
        ::dup2(output, STDERR_FILENO);
        fairlead::serve(polite_echo, local(10s), {.on_start = [](fairlead::running_server& server) {
                            server.shutdown(1s);
                        }});
        std::fflush(nullptr);
        report.say("printed " + std::to_string(std::filesystem::file_size(file)));
    });
    CHECK(child.expect("printed ") == "0");
    CHECK(child.wait() == 0);
}

TEST_CASE("a hook of listening may close the server, and ask it where it listens", "[serve]")
{
    auto child = child_process::fork([](const reporter& report) {
        fairlead::sharded_server server(polite_echo, local(10s), {.threads = 2});
        server.on_server([&](const fairlead::server_event& event) {
            if (event.kind == server_event_kind::listening) {
                report.say(event.local == server.local_endpoint() ? "asked" : "told otherwise");
                server.close();
            }
        });
        server.start();
        server.join();
        report.say(server.is_running() ? "runs" : "does not run");
    });
    child.expect("asked");
    child.expect("does not run");
    CHECK(child.wait() == 0);
}

TEST_CASE("a missing certificate is said to be missing, once", "[serve][tls]")
{
    auto config = local(10s);
    config.tls = fairlead::tls_config{
        .certificate = "no-such-directory/certificate.pem",
        .private_key = "no-such-directory/key.pem"};
    std::string message;
    try {
        fairlead::serve(polite_echo, std::move(config));
    } catch (const std::system_error& error) {
        message = error.what();
    }
    const std::string missing =
        std::make_error_code(std::errc::no_such_file_or_directory).message();
    INFO(message);
    CHECK(test::times(message, missing) == 1);
    CHECK(test::times(message, "no-such-directory/certificate.pem") == 1);
    CHECK(test::times(message, "no such file") == 0); // OpenSSL's word for the same
}
