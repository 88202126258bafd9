// What one client of sql_proxy has of the database: nothing, or a connection from the pool and what
// is under way on it.

#ifndef FAIRLEAD_EXAMPLES_SQL_PROXY_LINK_HPP
#define FAIRLEAD_EXAMPLES_SQL_PROXY_LINK_HPP

#include "../relay.hpp"
#include "backends.hpp"
#include "messages.hpp"

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace sql
{
/// Of one thread. One coroutine asks, another one reads the replies; only that one lets go of the
/// connection.
class database_link
{
public:
    database_link(backend_pool& pool, const asio::any_io_executor& executor)
        : pool_(pool), changed_(executor)
    {}

    database_link(const database_link&) = delete;
    database_link& operator=(const database_link&) = delete;

    ~database_link()
    {
        lose();
    }

    bool is_held() const
    {
        return backend_ != nullptr;
    }

    /// Between two transactions: nothing is under way.
    bool is_idle() const
    {
        return !backend_ || (backend_->status == 'I' && backend_->unanswered == 0 && !is_unsynced_);
    }

    bool has_unanswered() const
    {
        return backend_ && backend_->unanswered != 0;
    }

    /// Until the next change of what the above say.
    asio::awaitable<void> change()
    {
        return changed_.wait();
    }

    /// Something else has changed.
    void notify()
    {
        changed_.notify();
    }

    /// Takes a connection, when there is one. Throws `failure`.
    asio::awaitable<void> hold(const std::string& parameters)
    {
        backend_ = co_await pool_.take(parameters);
        changed_.notify();
    }

    /// What the database said at the start. Only while it is held.
    const std::string& greeting() const
    {
        return backend_->greeting;
    }

    /// Sends a client's message, together with those that follow when an answer needs them. Only
    /// while it is held. An error shows in what is read.
    asio::awaitable<void> ask(std::string_view request)
    {
        const char type = request.front();
        batch_ += request;
        backend_->unanswered += is_answered(type) ? 1 : 0;
        is_unsynced_ = needs_sync(type) || (is_unsynced_ && !is_answered(type));
        if (!needs_sync(type) || type == 'H' || batch_.size() >= largest_batch) {
            const example::shared_socket socket = backend_->socket;
            is_writing_ = true;
            std::error_code ignored;
            co_await asio::async_write(
                *socket, asio::buffer(batch_), asio::redirect_error(asio::use_awaitable, ignored));
            is_writing_ = false;
            batch_.clear();
            changed_.notify();
        }
    }

    /// Reads what has come. Only while it is held.
    asio::awaitable<std::string_view> read_replies(std::string& buffer, std::error_code& error)
    {
        const example::shared_socket socket = backend_->socket;
        const std::size_t size = co_await socket->async_read_some(
            asio::buffer(buffer), asio::redirect_error(asio::use_awaitable, error));
        const std::string_view replies(buffer.data(), size);
        const auto on_ready = [this](char status) {
            backend_->status = status;
            backend_->unanswered -= std::min<std::size_t>(backend_->unanswered, 1);
            changed_.notify();
        };
        if (!error && !backend_->scanner.scan(replies, on_ready)) {
            error = std::make_error_code(std::errc::bad_message);
        }
        co_return replies;
    }

    /// The database may answer before it has read everything, after a COPY that fails.
    asio::awaitable<void> finish_writing()
    {
        while (is_writing_ && is_idle()) {
            co_await changed_.wait();
        }
    }

    /// Between two transactions.
    void give_back()
    {
        pool_.give_back(std::move(backend_));
        changed_.notify();
    }

    void lose()
    {
        if (std::exchange(backend_, nullptr)) {
            pool_.give_back(nullptr);
            changed_.notify();
        }
    }

    /// The read ends, and with it the connection: the database rolls back.
    void cut()
    {
        if (backend_) {
            std::error_code ignored;
            backend_->socket->close(ignored);
        }
    }

    /// Cuts after so long.
    example::time_limit limit(std::chrono::milliseconds time) const
    {
        return {backend_->socket, time};
    }

private:
    static constexpr std::size_t largest_batch = std::size_t(64) << 10;

    backend_pool& pool_;
    example::change changed_;
    backend_ptr backend_;
    std::string batch_;        // on its way to the database
    bool is_writing_ = false;  // the batch is being written
    bool is_unsynced_ = false; // messages were sent that only a Sync completes
};
} // namespace sql

#endif // FAIRLEAD_EXAMPLES_SQL_PROXY_LINK_HPP
