// Files on the real kernel: what it takes from a file itself, and what is read and encrypted.

#include "tests/support/catch.hpp"
#include "tests/support/peer.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::files
{
struct closer
{
    void operator()(std::FILE* file) const noexcept
    {
        std::fclose(file);
    }
};

struct sending
{
    explicit sending(const std::string& content) : file(std::tmpfile())
    {
        REQUIRE(file != nullptr);
        REQUIRE(std::fwrite(content.data(), 1, content.size(), file.get()) == content.size());
        REQUIRE(std::fflush(file.get()) == 0);
    }

    std::unique_ptr<std::FILE, closer> file;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    test::mailbox<std::pair<std::error_code, std::uint64_t>> ends;
};

inline std::string numbers(std::size_t size)
{
    std::string text;
    for (std::size_t number = 0; text.size() < size; ++number) {
        text += std::to_string(number) + ' ';
    }
    text.resize(size);
    return text;
}

inline asio::awaitable<void> send(connection& conn, sending& state)
{
    std::error_code error;
    const auto bytes =
        co_await conn.send_file(::fileno(state.file.get()), state.offset, state.size, error);
    state.ends.put({error, bytes});
}

inline asio::awaitable<void> send_or_throw(connection& conn, sending& state)
{
    co_await conn.send_file(::fileno(state.file.get()), state.offset, state.size);
}

/// How often SIGPIPE came.
inline volatile std::sig_atomic_t broken_pipes = 0;

inline void count_broken_pipe(int)
{
    broken_pipes = broken_pipes + 1;
}
} // namespace test::files

TEST_CASE("a part of a file is sent, and counted as one write", "[file]")
{
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    const std::string content = test::files::numbers(std::size_t(24) << 20);
    test::files::sending state(content);
    state.offset = 12345;
    state.size = content.size() - 20000;
    auto config = test::local_config(protocol);
    config.io_events = true;
    test::running_server running(test::scripted{test::files::send, &state}, config);
    running.start();
    test::peer client(running.port(), protocol);
    const auto got = client.receive_rest();
    CHECK((got.bytes == content.substr(12345, content.size() - 20000)));
    CHECK(got.end == test::stream_end::finished);
    client.tcp().close();
    const auto [error, bytes] = state.ends.take();
    CHECK(!error);
    CHECK(bytes == state.size);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_written == state.size);
    CHECK(running.log.count(connection_event_kind::write) > 0);
    CHECK(std::ftell(state.file.get()) == static_cast<long>(content.size())); // not moved
}

TEST_CASE("a file that ends too early is a failure, and ends in a reset", "[file][cut]")
{
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    const std::string content = test::files::numbers(100'000);
    test::files::sending state(content);
    state.size = content.size() + 1;
    test::running_server running(
        test::scripted{test::files::send_or_throw, &state}, test::local_config(protocol));
    running.start();
    test::peer client(running.port(), protocol);
    const auto got = client.receive_rest();
    CHECK(got.bytes.size() <= content.size());
    CHECK(got.end == test::stream_end::reset);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::handler_failed);
    REQUIRE(running.log.wait_for_errors());
    CHECK(running.log.errors().front().code == asio::error::eof);
}

TEST_CASE("a client that leaves while it is sent a file raises no signal", "[file]")
{
    test::files::broken_pipes = 0;
    const auto before = std::signal(SIGPIPE, test::files::count_broken_pipe);
    const auto protocol = test::either();
    CAPTURE(test::name_of(protocol));
    const std::string content = test::files::numbers(std::size_t(24) << 20);
    test::files::sending state(content);
    state.size = content.size();
    {
        test::running_server running(
            test::scripted{test::files::send, &state}, test::local_config(protocol));
        running.start();
        for (int round = 0; round < 20; ++round) {
            test::peer client(running.port(), protocol);
            CHECK(client.receive(10) == content.substr(0, 10));
            client.tcp().close();
            const auto [error, bytes] = state.ends.take();
            CHECK(error);
            CHECK(bytes < content.size());
        }
    }
    std::signal(SIGPIPE, before);
    CHECK(test::files::broken_pipes == 0);
}
