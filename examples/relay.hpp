// What the proxies among the examples have in common: two coroutines side by side, a time limit for
// a socket, and a relay that knows half-close.

#ifndef FAIRLEAD_EXAMPLES_RELAY_HPP
#define FAIRLEAD_EXAMPLES_RELAY_HPP

#include <fairlead/fairlead.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

namespace example
{
/// Where coroutines of one thread wait for something to change.
class change
{
public:
    explicit change(const asio::any_io_executor& executor)
        : timer_(executor, asio::steady_timer::time_point::max())
    {}

    /// Wakes everybody who waits.
    void notify()
    {
        timer_.cancel();
    }

    asio::awaitable<void> wait()
    {
        std::error_code ignored;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }

private:
    asio::steady_timer timer_;
};

/// Runs both on this thread, and ends when both have ended; then throws what the first, or else the
/// second, has thrown. Each must see for itself that the other one ends.
inline asio::awaitable<void> both(asio::awaitable<void> first, asio::awaitable<void> second)
{
    const auto executor = co_await asio::this_coro::executor;
    change ended(executor);
    bool is_second_done = false;
    std::exception_ptr failure_of_second;
    const auto on_end = [&](std::exception_ptr failure) {
        failure_of_second = std::move(failure);
        is_second_done = true;
        ended.notify();
    };
    asio::co_spawn(executor, std::move(second), on_end);
    std::exception_ptr failure;
    try {
        co_await std::move(first);
    } catch (...) {
        failure = std::current_exception();
    }
    while (!is_second_done) {
        co_await ended.wait();
    }
    if (failure = failure ? failure : failure_of_second; failure) {
        std::rethrow_exception(failure);
    }
}

/// A flag that is set as long as this lives.
class set_while
{
public:
    explicit set_while(bool& flag) : flag_(flag)
    {
        flag_ = true;
    }

    set_while(const set_while&) = delete;
    set_while& operator=(const set_while&) = delete;

    ~set_while()
    {
        flag_ = false;
    }

private:
    bool& flag_;
};

using shared_socket = std::shared_ptr<asio::ip::tcp::socket>;

/// Closes a socket when this has lived too long: what waits for it ends with
/// `asio::error::operation_aborted`.
class time_limit
{
public:
    time_limit(const shared_socket& socket, std::chrono::milliseconds limit)
        : timer_(socket->get_executor(), limit)
    {
        timer_.async_wait([socket](std::error_code cancelled) {
            if (!cancelled) {
                std::error_code ignored;
                socket->close(ignored);
            }
        });
    }

private:
    asio::steady_timer timer_;
};

/// Throws `std::system_error`.
inline asio::awaitable<shared_socket> connect(
    asio::ip::tcp::endpoint backend, std::chrono::milliseconds limit)
{
    auto socket = std::make_shared<asio::ip::tcp::socket>(co_await asio::this_coro::executor);
    const time_limit timer(socket, limit);
    co_await socket->async_connect(backend, asio::use_awaitable);
    socket->set_option(asio::ip::tcp::no_delay(true));
    co_return socket;
}

/// Carries bytes between a client and its backend until both directions have ended. When one side
/// finishes, the other is told, and may still answer; when one fails, the other is reset. In a
/// drain, a request under way is answered, and then silence ends it.
class relay
{
public:
    relay(fairlead::connection& client, shared_socket backend)
        : client_(client), backend_(std::move(backend))
    {}

    asio::awaitable<void> run()
    {
        return both(carry_requests(), carry_answers());
    }

private:
    static constexpr std::size_t buffer_size = std::size_t(16) << 10;
    /// In a drain: between an answer and the next request, or the rest of the answer.
    static constexpr std::chrono::milliseconds patience = std::chrono::seconds(1);

    asio::awaitable<void> carry_requests()
    {
        std::vector<char> buffer(buffer_size);
        std::error_code error;
        for (std::size_t size = co_await read_request(buffer, error); size != 0;
             size = co_await read_request(buffer, error)) {
            awaits_answer_ = true;
            mind_drain();
            co_await asio::async_write(
                *backend_, asio::buffer(buffer, size),
                asio::redirect_error(asio::use_awaitable, error));
            if (error) {
                break;
            }
        }
        std::error_code ignored;
        if (error) {
            backend_->set_option(asio::socket_base::linger(true, 0), ignored);
            backend_->close(ignored);
        } else {
            backend_->shutdown(asio::socket_base::shutdown_send, ignored);
        }
    }

    asio::awaitable<void> carry_answers()
    {
        std::vector<char> buffer(buffer_size);
        for (;;) {
            std::error_code error;
            const std::size_t size = co_await backend_->async_read_some(
                asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
            if (error == asio::error::eof) {
                co_await client_.shutdown_send();
                co_return;
            }
            if (!error) {
                co_await client_.write(asio::buffer(buffer, size), error);
            }
            if (error) {
                client_.abort();
                co_return;
            }
            awaits_answer_ = false;
            mind_drain();
        }
    }

    /// 0: the client has finished, or `error` says what happened.
    asio::awaitable<std::size_t> read_request(std::vector<char>& buffer, std::error_code& error)
    {
        const bool has_input = co_await client_.readable(error);
        if (error || (!has_input && !client_.draining())) {
            co_return 0;
        }
        mind_drain(); // it ends the wait in readable(); a read goes on
        co_return co_await client_.read_some(asio::buffer(buffer), error);
    }

    void mind_drain()
    {
        if (client_.draining()) {
            client_.expires_after(awaits_answer_ ? std::chrono::milliseconds(0) : patience);
        }
    }

    fairlead::connection& client_;
    shared_socket backend_;
    bool awaits_answer_ = false;
};
} // namespace example

#endif // FAIRLEAD_EXAMPLES_RELAY_HPP
