// Shows: a drain, seen from all sides: a handler that finishes its message, hooks that count,
//        signals taken by hand, and the report that says what became of whom.
// Run:   graceful_shutdown [ADDRESS]                      (127.0.0.1:7779 unless told otherwise)
// Poke:  (printf 'slow\n'; sleep 5) | nc 127.0.0.1 7779   and Ctrl-C here within two seconds: the
//                                                         answer still comes
//        nc 127.0.0.1 7779                                says nothing: is sent home at once
//        A second Ctrl-C ends everything.

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/read_until.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <string>

using namespace std::chrono_literals;

/// Answers lines; "slow" takes two seconds, which a drain waits for. A connection works with Asio's
/// own algorithms.
asio::awaitable<void> answer(fairlead::connection& conn)
{
    std::string input;
    for (;;) {
        if (input.empty()) { // else the next line is here already
            const bool more = co_await conn.readable();
            if (!more) {
                co_return;
            }
        }
        const std::size_t size = co_await asio::async_read_until(
            conn, asio::dynamic_buffer(input, 1024), '\n', asio::use_awaitable);
        const std::string line = input.substr(0, size);
        input.erase(0, size);
        if (line == "slow\n") {
            asio::steady_timer timer(conn.get_executor(), 2s);
            co_await timer.async_wait(asio::use_awaitable);
        }
        const std::string reply = (conn.draining() ? "goodbye: " : "you said: ") + line;
        co_await conn.write(asio::buffer(reply));
    }
}

/// What a metrics system would be told: hooks run on the server's thread, so plain members do.
struct metrics
{
    std::map<std::string, int> ends;
    std::uint64_t bytes = 0;

    void count(const fairlead::connection_event& event)
    {
        if (event.kind == fairlead::connection_event_kind::closed) {
            ++ends[std::string(to_string(event.reason))];
            bytes += event.bytes_read + event.bytes_written;
        }
        example::print(event);
    }

    void print() const
    {
        for (const auto& [reason, count] : ends) {
            std::printf("%6d ended by %s\n", count, reason.c_str());
        }
        std::printf("%6llu bytes in and out\n", static_cast<unsigned long long>(bytes));
    }
};

template <typename Server>
asio::awaitable<void> drain(Server& server, fairlead::signal_watch& signals)
{
    const fairlead::drain_report report = co_await server.shutdown(10s);
    example::print(report);
    for (const auto& straggler : report.stragglers) {
        std::printf("cut off: connection %llu\n", static_cast<unsigned long long>(straggler.id));
    }
    signals.cancel(); // the last thing that keeps the context running
}

void spawn_failed(const std::exception_ptr& failure)
{
    if (failure) {
        std::rethrow_exception(failure);
    }
}

int main(int argc, char** argv)
{
    try {
        asio::io_context context(1);
        metrics numbers;
        fairlead::tcp_server server(
            context, answer, {.address = argc > 1 ? argv[1] : "127.0.0.1:7779"});
        server.on_connection(
            [&](const fairlead::connection_event& event) { numbers.count(event); });
        server.on_server([](const fairlead::server_event& event) { example::print(event); });
        server.on_error([](const fairlead::error_event& event) { example::print(event); });

        fairlead::signal_watch* watch = nullptr;
        fairlead::signal_watch signals(
            context,
            {.drain = [&] { asio::co_spawn(context, drain(server, *watch), spawn_failed); },
             .close = [&] { server.close(); }});
        watch = &signals;

        server.start();
        context.run();
        numbers.print();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "graceful_shutdown: %s\n", error.what());
        return 1;
    }
}
