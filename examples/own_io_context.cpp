// Shows: the server inside a program that already has Asio: one context, one thread, and the
//        program's own timers and coroutines beside the server. The handler is an object: its
//        members belong to that thread, and need no lock.
// Run:   own_io_context [ADDRESS]          (127.0.0.1:7780 unless told otherwise); ends by itself
//                                          after a minute
// Poke:  nc 127.0.0.1 7780                 ask for "time", "who" or anything else, a line each

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/read_until.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;

/// What the rest of the program works on and the server tells its clients.
struct application
{
    std::chrono::seconds up{0};
    std::uint64_t questions = 0;
};

/// Answers questions about the application. One object serves every connection.
class desk
{
public:
    explicit desk(application& subject) : application_(subject)
    {}

    asio::awaitable<void> operator()(fairlead::connection& conn)
    {
        std::string input;
        for (;;) {
            if (input.empty()) { // else the next line is here already
                const bool more = co_await conn.readable();
                if (!more) {
                    co_return;
                }
            }
            conn.expires_after(10s); // a question once begun must be complete within ten seconds
            const std::size_t size = co_await asio::async_read_until(
                conn, asio::dynamic_buffer(input, 256), '\n', asio::use_awaitable);
            conn.expires_after(0s);
            const std::string reply = answer(std::string_view(input).substr(0, size - 1), conn);
            input.erase(0, size);
            co_await conn.write(asio::buffer(reply));
        }
    }

private:
    std::string answer(std::string_view question, const fairlead::connection& conn)
    {
        ++application_.questions;
        if (question == "time") {
            return std::to_string(application_.up.count()) + " s\n";
        }
        if (question == "who") {
            return "you are connection " + std::to_string(conn.id()) + '\n';
        }
        return "ask for \"time\" or \"who\"\n";
    }

    application& application_;
};

/// The program's own work: here, a clock.
asio::awaitable<void> work(application& self, std::chrono::seconds life)
{
    asio::steady_timer timer(co_await asio::this_coro::executor);
    while (self.up < life) {
        timer.expires_after(1s);
        co_await timer.async_wait(asio::use_awaitable);
        ++self.up;
    }
}

/// The program's life, with the server as one of its parts.
asio::awaitable<void> run(application& self, fairlead::tcp_server<desk>& server)
{
    server.start();
    co_await work(self, 60s);
    example::print(co_await server.shutdown(5s));
    std::printf("%llu questions\n", static_cast<unsigned long long>(self.questions));
}

int main(int argc, char** argv)
{
    try {
        asio::io_context context(1);
        application self;
        fairlead::tcp_server server(
            context, desk(self), {.address = argc > 1 ? argv[1] : "127.0.0.1:7780"});
        server.on_server([](const fairlead::server_event& event) { example::print(event); });
        server.on_connection(
            [](const fairlead::connection_event& event) { example::print(event); });
        server.on_error([](const fairlead::error_event& event) { example::print(event); });

        asio::co_spawn(context, run(self, server), [](const std::exception_ptr& failure) {
            if (failure) {
                std::rethrow_exception(failure);
            }
        });
        context.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "own_io_context: %s\n", error.what());
        return 1;
    }
}
