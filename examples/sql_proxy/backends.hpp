// sql_proxy's connections to the database: a bounded pool of them, and a line of sessions that wait.

#ifndef FAIRLEAD_EXAMPLES_SQL_PROXY_BACKENDS_HPP
#define FAIRLEAD_EXAMPLES_SQL_PROXY_BACKENDS_HPP

#include "../relay.hpp"
#include "messages.hpp"
#include <fairlead/codec/frame_reader.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <chrono>
#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace sql
{
/// One connection to the database, logged in.
struct backend
{
    example::shared_socket socket;
    /// The parameters it was started with: user, database, and so on.
    std::string parameters;
    /// What the database has said of itself since: ParameterStatus messages.
    std::string greeting = {};
    /// Of the last ReadyForQuery.
    char status = 'I';
    /// Messages whose ReadyForQuery is still to come.
    std::size_t unanswered = 0;
    reply_scanner scanner = {};
};

using backend_ptr = std::unique_ptr<backend>;

/// The connections of one shard. Everything here belongs to the shard's thread.
class backend_pool
{
public:
    /// At most `size` connections to `database`, idle ones included.
    backend_pool(asio::ip::tcp::endpoint database, std::size_t size)
        : database_(database), size_(size)
    {}

    backend_pool(const backend_pool&) = delete;
    backend_pool& operator=(const backend_pool&) = delete;

    ~backend_pool()
    {
        for (const backend_ptr& each : idle_) {
            say_goodbye(*each);
        }
    }

    /// A connection with these parameters, for this session alone until it is given back. Waits for
    /// its turn while all are in use. Throws `failure`.
    asio::awaitable<backend_ptr> take(std::string parameters)
    {
        if (!waiting_.empty() || in_use_ >= size_) {
            co_await wait_in_line();
        }
        ++in_use_;
        backend_ptr found = find_idle(parameters);
        if (found) {
            co_return found;
        }
        if (idle_.size() + in_use_ > size_) { // the oldest, of somebody else, makes room
            say_goodbye(*idle_.front());
            idle_.pop_front();
        }
        std::optional<failure> problem;
        try {
            found = co_await start(std::move(parameters));
        } catch (const failure& refusal) {
            problem = refusal;
        } catch (const std::system_error& error) {
            problem.emplace("08006", std::string("no connection to the database: ") + error.what());
        }
        if (problem) {
            give_back(nullptr);
            throw std::move(*problem);
        }
        co_return found;
    }

    /// Null: it is lost.
    void give_back(backend_ptr one)
    {
        --in_use_;
        if (one && one->socket->is_open()) {
            idle_.push_back(std::move(one));
        }
        call_next();
    }

private:
    static constexpr std::chrono::milliseconds start_limit = std::chrono::seconds(10);
    static constexpr std::chrono::milliseconds wait_limit = std::chrono::seconds(60);

    asio::awaitable<void> wait_in_line()
    {
        const auto executor = co_await asio::this_coro::executor;
        const auto place = waiting_.emplace(waiting_.end(), executor, wait_limit);
        std::error_code called;
        co_await place->async_wait(asio::redirect_error(asio::use_awaitable, called));
        waiting_.erase(place);
        const bool is_late = !called;
        if (in_use_ + (is_late ? 0 : 1) < size_) { // there is one for the next in line, too
            call_next();
        }
        if (is_late) {
            throw failure("53300", "all connections to the database are in use");
        }
    }

    /// The first in line may go on.
    void call_next()
    {
        if (!waiting_.empty()) {
            waiting_.front().cancel();
        }
    }

    /// One that is still good; the one used last.
    backend_ptr find_idle(std::string_view parameters)
    {
        for (auto it = idle_.end(); it != idle_.begin();) {
            --it;
            if ((*it)->parameters == parameters) {
                backend_ptr found = std::move(*it);
                it = idle_.erase(it);
                if (is_silent(*found)) {
                    return found;
                }
            }
        }
        return nullptr;
    }

    /// The database has said nothing while it was idle; what it would say is goodbye.
    static bool is_silent(backend& one)
    {
        std::error_code error;
        char byte = 0;
        one.socket->non_blocking(true, error);
        one.socket->receive(asio::buffer(&byte, 1), asio::socket_base::message_peek, error);
        return error == asio::error::would_block;
    }

    asio::awaitable<backend_ptr> start(std::string parameters)
    {
        auto one = std::make_unique<backend>();
        one->socket = co_await example::connect(database_, start_limit);
        one->parameters = std::move(parameters);
        const example::time_limit limit(one->socket, start_limit);
        const std::string hello = startup_message(one->parameters);
        co_await asio::async_write(*one->socket, asio::buffer(hello), asio::use_awaitable);
        fairlead::codec::frame_reader reader(message_frames);
        for (bool is_ready = false; !is_ready;) {
            const auto space = reader.prepare(4096);
            reader.commit(co_await one->socket->async_read_some(
                asio::buffer(space.data(), space.size()), asio::use_awaitable));
            std::error_code error;
            for (auto found = reader.next(error); found; found = reader.next(error)) {
                is_ready = note_greeting(*one, fairlead::codec::text_of(*found));
            }
            if (error) {
                throw std::system_error(error);
            }
        }
        co_return one;
    }

    /// True: it is ready for queries. Throws `failure`.
    static bool note_greeting(backend& one, std::string_view text)
    {
        switch (text.front()) {
        case 'E':
            throw failure(std::string(text));
        case 'R': // the proxy has no password to give
            if (read_number(text.substr(5)) != 0) {
                throw failure("28000", "the database does not trust the proxy");
            }
            return false;
        case 'S':
            one.greeting += text;
            return false;
        default:
            return text.front() == 'Z';
        }
    }

    /// As far as the kernel takes it at once.
    static void say_goodbye(backend& one)
    {
        std::error_code ignored;
        one.socket->non_blocking(true, ignored);
        one.socket->write_some(asio::buffer(message('X', "")), ignored);
    }

    asio::ip::tcp::endpoint database_;
    std::size_t size_;
    std::size_t in_use_ = 0;
    std::list<backend_ptr> idle_; // the one used last at the end
    std::list<asio::steady_timer> waiting_;
};
} // namespace sql

#endif // FAIRLEAD_EXAMPLES_SQL_PROXY_BACKENDS_HPP
