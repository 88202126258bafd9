// Our direction cannot be ended in order: nobody waits for what will not come, what has arrived and
// what was sent is kept, and one end has one error.
#include "simulation/wait_for.hpp"
#include "simulation/workload_servers.hpp"
#include "support/catch.hpp"
#include <fairlead/testing/catch2.hpp>
#include <fairlead/testing/tls_peer.hpp>

#include <asio/completion_condition.hpp>
#include <asio/error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <array>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection;
using fairlead::server_config;

namespace failed_ends
{
server_config without_timeouts(bool is_tls)
{
    server_config config{.idle_timeout = 0s, .write_timeout = 0s};
    if (is_tls) {
        config.tls = workload::tls_rules();
    }
    return config;
}

struct end_of_connection
{
    close_reason reason = {};
    std::error_code code;
    int errors = 0;
};

template <typename Server>
std::shared_ptr<end_of_connection> note_end(Server& server)
{
    auto noted = std::make_shared<end_of_connection>();
    server.on_error([noted](const fairlead::error_event&) { ++noted->errors; });
    server.on_connection([noted](const fairlead::connection_event& event) {
        if (event.kind == fairlead::connection_event_kind::closed) {
            noted->reason = event.reason;
            noted->code = event.code;
        }
    });
    return noted;
}

/// What an awaited end throws; null: nothing.
asio::awaitable<std::exception_ptr> failure_of_end(connection& client)
{
    try {
        co_await client.shutdown_send();
    } catch (const std::system_error&) {
        co_return std::current_exception();
    }
    co_return nullptr;
}

/// A TLS client of whose output no more than the first bytes leave, once that is asked for.
class cut_layer final : public fairlead::testing::stream_layer
{
public:
    explicit cut_layer(std::shared_ptr<const bool> cuts) : cuts_(std::move(cuts))
    {}

    bool receive(std::string_view wire, std::string& plain) override
    {
        return whole_.receive(wire, plain);
    }

    void send(std::string_view plain) override
    {
        whole_.send(plain);
    }

    void finish() override
    {
        whole_.finish();
    }

    std::string take_output() override
    {
        std::string output = whole_.take_output();
        return *cuts_ ? output.substr(0, 20) : output;
    }

    bool has_ended() const override
    {
        return whole_.has_ended();
    }

    bool is_ready() const override
    {
        return whole_.is_ready();
    }

    std::string problem() const override
    {
        return whole_.problem();
    }

private:
    fairlead::testing::tls_layer whole_{fairlead::testing::tls_peer_options{}};
    std::shared_ptr<const bool> cuts_;
};

asio::awaitable<std::error_code> read_to_the_end(connection& client, std::string& input)
{
    std::array<char, 64> buffer;
    std::error_code error;
    while (const auto bytes = co_await client.read_some(asio::buffer(buffer), error)) {
        input.append(buffer.data(), bytes);
    }
    co_return error;
}
} // namespace failed_ends

using namespace failed_ends;

FAIRLEAD_SIMULATION("when close_notify fails, nobody waits for the peer, who waits for it", sim)
{
    const auto way = GENERATE(0, 1, 2, 3);
    CAPTURE(way);
    std::error_code read = asio::error::would_block;
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            std::string input;
            if (way == 3) {
                client.spawn([](connection& of, auto& error) -> asio::awaitable<void> {
                    std::string nothing;
                    error = co_await read_to_the_end(of, nothing);
                }(client, read));
            }
            co_await test::wait_for(1s);
            sim.fail("send*", ENOBUFS);
            client.shutdown_send();
            if (way == 0) {
                co_await client.closed();
            } else if (way == 1) {
                read = co_await read_to_the_end(client, input);
            } else if (way == 2) {
                co_await client.readable(read);
            }
        },
        without_timeouts(true));
    const auto end = note_end(server);
    server.start();
    sim.connect_tls(server);
    sim.advance(1min);
    CHECK(server.open_connections() == 0);
    CHECK(end->reason == close_reason::transport_error);
    CHECK(end->code == asio::error::no_buffer_space);
    if (way != 0) {
        CHECK(read == asio::error::no_buffer_space);
    }
}

FAIRLEAD_SIMULATION("a reset that the end has met is a reset, whatever was read behind it", sim)
{
    const bool is_tls = GENERATE(false, true);
    CAPTURE(is_tls);
    std::string input;
    std::error_code read;
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            const auto failure = co_await failure_of_end(client);
            read = co_await read_to_the_end(client, input);
            if (failure) { // the first error, and not the last
                std::rethrow_exception(failure);
            }
        },
        without_timeouts(is_tls));
    const auto end = note_end(server);
    server.start();
    auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
    sim.advance(300ms);
    client.send("request");
    sim.advance(200ms);
    client.reset();
    sim.advance(10s);
    CHECK(input == "request");
    CHECK(read == asio::error::connection_reset);
    CHECK(end->reason == close_reason::peer_reset);
    CHECK(end->code == asio::error::connection_reset);
    CHECK(end->errors == 0);
}

FAIRLEAD_SIMULATION("a child that keeps the error of the end does not fail by it", sim)
{
    const bool is_tls = GENERATE(false, true);
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            client.spawn([](connection& of) -> asio::awaitable<void> {
                const auto failure = co_await failure_of_end(of);
                co_await test::wait_for(5ms);
                if (failure) {
                    std::rethrow_exception(failure);
                }
            }(client));
            std::array<char, 64> buffer;
            while (co_await client.read_some(asio::buffer(buffer)) != 0) {
            }
        },
        without_timeouts(is_tls));
    const auto end = note_end(server);
    server.start();
    auto& client = is_tls ? sim.connect_tls(server) : sim.connect(server);
    sim.advance(500ms);
    client.send("r");
    sim.advance(10ms);
    client.reset();
    sim.advance(10s);
    CHECK(end->reason == close_reason::peer_reset);
    CHECK(end->errors == 0);
}

FAIRLEAD_SIMULATION("a connection that timed out is not called the peer's reset", sim)
{
    const bool is_awaited = GENERATE(false, true);
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            std::error_code error;
            co_await client.write(asio::buffer("x", 1), error);
            co_await test::wait_for(2min);
            if (is_awaited) {
                co_await client.shutdown_send();
            } else {
                client.shutdown_send();
            }
        },
        without_timeouts(false));
    const auto end = note_end(server);
    server.start();
    auto& client = sim.connect(server);
    sim.advance(100ms);
    client.vanish();
    sim.advance(10min);
    CHECK(end->reason == close_reason::transport_error);
    CHECK(end->code == asio::error::timed_out);
}

FAIRLEAD_SIMULATION("a reply reaches its reader though close_notify failed behind it", sim)
{
    const bool asks = GENERATE(false, true);
    const bool reads = GENERATE(false, true); // beside it
    const std::string reply(200'000, 'r');
    auto& server = sim.add_server(
        [&](connection& client) -> asio::awaitable<void> {
            if (reads) {
                client.spawn([](connection& of) -> asio::awaitable<void> {
                    std::string input;
                    static_cast<void>(co_await read_to_the_end(of, input));
                }(client));
            }
            co_await test::wait_for(1s);
            co_await client.write(asio::buffer(reply));
            co_await test::wait_for(1s);
            sim.fail("send*", ENOBUFS);
            if (asks) {
                static_cast<void>(co_await failure_of_end(client));
            }
        },
        without_timeouts(true));
    server.start();
    auto& client = sim.connect_tls(server);
    sim.advance(500ms);
    client.stall();
    client.send("more and more");
    sim.advance(1600ms);
    client.send("and more"); // behind the end, which nobody reads
    sim.advance(400ms);
    client.resume();
    sim.advance(10s);
    CHECK(client.received().size() == reply.size());
    CHECK_FALSE(client.was_reset());
}

FAIRLEAD_SIMULATION("asio::async_write that has written enough is no cut", sim)
{
    const std::string large(1U << 20U, 'm');
    std::exception_ptr failure;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await asio::async_write(
                client, asio::buffer(large), asio::transfer_at_least(26'000), asio::use_awaitable);
            failure = co_await failure_of_end(client);
        },
        without_timeouts(true));
    auto& client = sim.connect_tls(server);
    sim.advance(1min);
    CHECK_FALSE(failure);
    CHECK(client.has_ended());
    CHECK_FALSE(client.was_reset());
}

FAIRLEAD_SIMULATION("half a record behind a failed end is not waited for", sim)
{
    const auto way = GENERATE(0, 1, 2);
    CAPTURE(way);
    std::error_code read = asio::error::would_block;
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            co_await test::wait_for(1s);
            sim.fail("send*", ENOBUFS);
            static_cast<void>(co_await failure_of_end(client));
            std::string input;
            if (way == 0) {
                read = co_await read_to_the_end(client, input);
            } else if (way == 1) {
                co_await client.readable(read);
            } else {
                co_await client.peek(20, read);
            }
        },
        without_timeouts(true));
    const auto cuts = std::make_shared<bool>(false);
    auto& client = sim.connect(server).wrap(std::make_unique<cut_layer>(cuts));
    sim.advance(500ms);
    *cuts = true;
    client.send("a record that does not come as a whole");
    sim.advance(1min);
    CHECK(read == asio::error::no_buffer_space);
    CHECK(server.open_connections() == 0);
}

FAIRLEAD_SIMULATION("nor is one that came just before the end failed", sim)
{
    const bool is_read = GENERATE(true, false);
    CAPTURE(is_read);
    std::error_code read = asio::error::would_block;
    const auto cuts = std::make_shared<bool>(false);
    fairlead::testing::peer* peer = nullptr;
    auto pending = [&read, is_read](connection& client) -> asio::awaitable<void> {
        std::string input;
        if (is_read) {
            read = co_await read_to_the_end(client, input);
        } else {
            co_await client.readable(read);
        }
    };
    auto& server = sim.serve(
        [&](connection& client) -> asio::awaitable<void> {
            client.spawn(pending(client));
            co_await test::wait_for(1s);
            *cuts = true;
            peer->send("a record that does not come as a whole");
            for (const auto until = sim.now() + 10ms; sim.now() < until;) { // a busy handler
                sim.kernel().pass(until);
            }
            sim.fail("send*", ENOBUFS);
            client.shutdown_send();
            co_await client.closed();
            co_await test::wait_for(1s); // or the wait were ended by the handler's return
        },
        without_timeouts(true));
    peer = &sim.connect(server).wrap(std::make_unique<cut_layer>(cuts));
    sim.advance(1min);
    CHECK(read == asio::error::no_buffer_space);
    CHECK(server.open_connections() == 0);
}

FAIRLEAD_SIMULATION("no write overtakes a message that waits for its neighbours", sim)
{
    std::error_code error;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{});
        co_await lines.next();
        co_await lines.send("first");
        co_await client.write(asio::buffer("second\n", 7), error);
        co_await lines.flush();
    });
    auto& client = sim.connect(server);
    client.send("a\nb\n").expect("first\n");
    CHECK(error == std::errc::operation_in_progress);
}
