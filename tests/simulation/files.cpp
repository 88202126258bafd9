// connection::send_file, in virtual time: one write, whatever the peer and the file do.
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/server.hpp>
#include <fairlead/testing/catch2.hpp>

#include <asio/error.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::connection_event_kind;
using fairlead::errc;
using fairlead::testing::simulation;

namespace sent_files
{
/// Of the real kernel's, in memory.
class file
{
public:
    explicit file(const std::string& content) : fd_(::memfd_create("sent", MFD_CLOEXEC))
    {
        for (std::size_t done = 0; done < content.size();) {
            done += static_cast<std::size_t>(
                ::write(fd_, content.data() + done, content.size() - done));
        }
    }

    file(const file&) = delete;
    file& operator=(const file&) = delete;

    ~file()
    {
        ::close(fd_);
    }

    int fd() const noexcept
    {
        return fd_;
    }

private:
    int fd_;
};

/// No two pieces of it are alike.
inline std::string numbers(std::size_t size)
{
    std::string text;
    for (std::size_t number = 0; text.size() < size; ++number) {
        text += std::to_string(number) + ' ';
    }
    text.resize(size);
    return text;
}

/// A handler that sends a part of a file and remembers what came of it.
struct sender
{
    int fd;
    std::uint64_t offset;
    std::uint64_t size;
    std::uint64_t sent = 0;
    std::error_code code = asio::error::would_block;
};

struct sends
{
    sender* what;

    asio::awaitable<void> operator()(connection& conn) const
    {
        what->sent = co_await conn.send_file(what->fd, what->offset, what->size, what->code);
    }
};

inline fairlead::server_config rules(bool is_tls)
{
    fairlead::server_config config{.idle_timeout = 0s, .write_timeout = 20s, .io_events = true};
    config.socket.user_timeout = 0s;
    if (is_tls) {
        config.tls = workload::tls_rules();
    }
    return config;
}

template <typename Server>
fairlead::testing::peer& client_of(simulation& sim, const Server& server, bool is_tls)
{
    return is_tls ? sim.connect_tls(server) : sim.connect(server);
}
} // namespace sent_files

using namespace sent_files;

FAIRLEAD_SIMULATION("a file arrives as it is, from its offset on", sim)
{
    const bool is_tls = GENERATE(false, true);
    const auto fault = GENERATE(as<std::string>{}, "none", "interrupted", "refused", "busy");
    CAPTURE(is_tls, fault);
    const std::string content = numbers(std::size_t(3) << 20);
    const file source(content);
    sender of{source.fd(), 1000, content.size() - 3000};
    auto& server = sim.add_server(sends{&of}, rules(is_tls));
    std::uint64_t told = 0;
    std::size_t events = 0;
    server.on_connection([&](const fairlead::connection_event& event) {
        if (event.kind == connection_event_kind::write) {
            ++events;
            told = event.bytes_written;
        }
    });
    server.start();
    if (fault == "interrupted") {
        sim.fail("send*", EINTR, {.nth = 2, .times = 5});
    } else if (fault == "refused") { // as a file system does that cannot
        sim.fail("sendfile", EINVAL, {.nth = 2});
    } else if (fault == "busy") {
        sim.fail("send*", EAGAIN, {.nth = 3, .times = 4});
    }
    auto& client = client_of(sim, server, is_tls);
    client.expect(content.substr(1000, content.size() - 3000)).expect_end().close();
    REQUIRE(sim.settles_within(10s));
    CHECK(!of.code);
    CHECK(of.sent == of.size);
    CHECK(told == of.size);
    CHECK(events > 0);
    CHECK(server.stats().bytes_written == of.size);
    CHECK(server.stats().closed_by(close_reason::handler_returned) == 1);
}

FAIRLEAD_SIMULATION("a file that is shorter than was said ends in a reset", sim)
{
    const bool is_tls = GENERATE(false, true);
    const std::size_t size = GENERATE(std::size_t(5000), std::size_t(1) << 20);
    CAPTURE(is_tls, size);
    const file source(numbers(size));
    sender of{source.fd(), 0, size + 1};
    auto& server = sim.serve(sends{&of}, rules(is_tls));
    auto& client = client_of(sim, server, is_tls);
    client.expect(numbers(size)).expect_reset();
    CHECK(of.code == asio::error::eof);
    CHECK(of.sent == size);
    client.close();
    REQUIRE(sim.settles_within(10s));
    CHECK(server.stats().closed_by(close_reason::peer_closed) == 0); // it is not the peer's end
}

FAIRLEAD_SIMULATION("of a file of which nothing can be sent nothing is cut", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    const file source(numbers(100));
    std::vector<std::error_code> codes;
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            std::error_code error;
            co_await conn.send_file(-1, 0, 10, error);
            codes.push_back(error);
            co_await conn.send_file(source.fd(), 100, 10, error);
            codes.push_back(error);
            co_await conn.send_file(source.fd(), UINT64_MAX, 10, error);
            codes.push_back(error);
            co_await conn.send_file(source.fd(), 50, 0, error);
            codes.push_back(error);
            co_await conn.write(asio::buffer("still here", 10));
        },
        rules(is_tls));
    client_of(sim, server, is_tls).expect("still here").expect_end();
    REQUIRE(codes.size() == 4);
    CHECK(codes[0] == asio::error::bad_descriptor);
    CHECK(codes[1] == asio::error::eof);
    CHECK(codes[2] == std::errc::invalid_argument);
    CHECK(!codes[3]);
}

FAIRLEAD_SIMULATION(
    "a file that nobody takes ends with the write timeout, a slow reader's does not", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    const std::string content = numbers(std::size_t(8) << 20);
    const file source(content);
    sender of{source.fd(), 0, content.size()};
    auto& server = sim.serve(sends{&of}, rules(is_tls));
    auto& client = client_of(sim, server, is_tls);
    client.expect_connection();
    client.drip(std::size_t(64) << 10, 500ms);
    sim.advance(45s); // longer than twice the timeout
    CHECK(server.stats().closed == 0);
    CHECK(of.code == asio::error::would_block);
    client.stall();
    const auto since = sim.now();
    REQUIRE(sim.run_until([&] { return server.stats().closed == 1; }, 1h));
    CHECK(sim.now() - since <= 31s);
    sim.advance(1ms);
    CHECK(of.code == errc::write_timeout);
    CHECK(of.sent < content.size());
    CHECK(server.stats().closed_by(close_reason::write_timeout) == 1);
    client.resume().expect_reset();
}

FAIRLEAD_SIMULATION(
    "a file is not cut by a drain, and ends in a reset when its connection is stopped", sim)
{
    const bool is_tls = GENERATE(false, true);
    const auto how = GENERATE(as<std::string>{}, "drain", "close", "expires_after");
    CAPTURE(is_tls, how);
    const std::string content = numbers(std::size_t(8) << 20);
    const file source(content);
    sender of{source.fd(), 0, content.size()};
    connection* sending = nullptr;
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            sending = &conn;
            if (how == "expires_after") {
                conn.expires_after(2s);
            }
            of.sent = co_await conn.send_file(of.fd, of.offset, of.size, of.code);
            sending = nullptr;
        },
        rules(is_tls));
    auto& client = client_of(sim, server, is_tls);
    client.expect_connection().drip(std::size_t(256) << 10, 200ms);
    sim.advance(1s);
    REQUIRE(sending != nullptr);
    const auto drain = [&]() -> asio::awaitable<void> { co_await server.shutdown(1min); };
    if (how == "drain") {
        sim.spawn(drain());
    } else if (how == "close") {
        sending->close();
    }
    sim.advance(2s);
    client.resume();
    if (how == "drain") {
        client.expect(content).expect_end();
        CHECK(!of.code);
    } else {
        client.expect_reset();
        CHECK(of.code == (how == "close" ? errc::connection_closed : errc::deadline_exceeded));
        CHECK(of.sent < content.size());
    }
}

FAIRLEAD_SIMULATION(
    "beside a file that is being sent there is no other write, and a read goes on", sim)
{
    const std::string content = numbers(std::size_t(4) << 20);
    const file source(content);
    sender of{source.fd(), 0, content.size()};
    std::error_code beside;
    std::error_code file_beside;
    std::string read;
    const std::function<asio::awaitable<void>(connection&)> reader =
        [&](connection& conn) -> asio::awaitable<void> {
        std::array<char, 1> byte;
        while (co_await conn.read_some(asio::buffer(byte)) != 0) {
            read += byte[0];
            co_await conn.write(asio::buffer(byte), beside);
            co_await conn.send_file(source.fd(), 0, 1, file_beside);
        }
    };
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            conn.spawn(reader(conn));
            of.sent = co_await conn.send_file(of.fd, of.offset, of.size, of.code);
        },
        rules(false));
    auto& client = sim.connect(server);
    client.stall().send("r");
    sim.advance(1s);
    CHECK(read == "r");
    CHECK(beside == std::errc::operation_in_progress);
    CHECK(file_beside == std::errc::operation_in_progress);
    client.resume().half_close().expect(content).expect_end();
    CHECK(!of.code);
}

FAIRLEAD_SIMULATION("a file and the messages of a framed keep their order", sim)
{
    const std::string content = numbers(std::size_t(1) << 20);
    const file source(content);
    auto& server = sim.serve(
        [&](connection& conn) -> asio::awaitable<void> {
            fairlead::framed lines(conn, fairlead::codec::line{});
            co_await lines.send("head");
            co_await lines.flush();
            co_await conn.send_file(source.fd(), 0, content.size());
            co_await lines.send("tail");
        },
        rules(false));
    sim.connect(server).expect("head\n").expect(content).expect("tail\n").expect_end();
}

FAIRLEAD_SIMULATION(
    "a peer that resets while a file is sent is told to the handler, by no signal", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    const std::string content = numbers(std::size_t(8) << 20);
    const file source(content);
    sender of{source.fd(), 0, content.size()};
    auto& server = sim.serve(sends{&of}, rules(is_tls));
    auto& client = client_of(sim, server, is_tls);
    client.expect_connection().drip(std::size_t(16) << 10, 100ms);
    sim.advance(1s);
    client.reset();
    REQUIRE(sim.settles_within(10s));
    CHECK((of.code == asio::error::connection_reset || of.code == asio::error::broken_pipe));
    CHECK(server.stats().closed_by(close_reason::peer_reset) == 1);
}
