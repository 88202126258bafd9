// One client of sql_proxy: its requests to the database, and the replies back.

#ifndef FAIRLEAD_EXAMPLES_SQL_PROXY_SESSION_HPP
#define FAIRLEAD_EXAMPLES_SQL_PROXY_SESSION_HPP

#include "../relay.hpp"
#include "backends.hpp"
#include "link.hpp"
#include "messages.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace sql
{
using namespace std::chrono_literals;
using fairlead::codec::text_of;
using message_stream = fairlead::framed<fairlead::codec::length_prefix>;

struct settings
{
    asio::ip::tcp::endpoint database;
    std::size_t connections = 8; // of each shard
    bool is_per_session = false;
    std::shared_ptr<const fairlead::tls_context> tls = {};
};

/// One client. It holds a connection to the database only while it needs one.
class session
{
public:
    session(fairlead::connection& conn, backend_pool& pool, const settings& rules)
        : conn_(conn), rules_(rules), database_(pool, conn.get_executor())
    {}

    asio::awaitable<void> run()
    {
        conn_.expires_after(10s);
        message_stream startup(conn_, startup_frames);
        const bool has_started = co_await read_startup(startup);
        if (!has_started) {
            co_return;
        }
        message_stream requests(startup, message_frames);
        std::optional<failure> problem;
        try {
            conn_.expires_after(0s);
            co_await greet();
            co_await example::both(carry_requests(requests), carry_replies());
        } catch (const failure& reason) {
            problem = reason;
        }
        if (problem) {
            co_await conn_.write(asio::buffer(problem->response()));
        }
    }

private:
    /// False: there is nothing to serve.
    asio::awaitable<bool> read_startup(message_stream& startup)
    {
        for (int round = 0; round < 3; ++round) { // TLS, GSS, and the start itself
            const auto frame = co_await startup.next();
            const std::string_view text = frame ? text_of(*frame) : "";
            const auto code = static_cast<startup_code>(read_number(text));
            if (code == startup_code::protocol_3_0) {
                parameters_ = text.substr(4);
                co_return true;
            }
            const bool wants_tls = code == startup_code::tls_request;
            if (!wants_tls && code != startup_code::gss_request) {
                break;
            }
            const bool has_tls = wants_tls && rules_.tls && conn_.tls() == nullptr;
            co_await conn_.write(asio::buffer(has_tls ? "S" : "N", 1));
            if (has_tls) {
                co_await startup.start_tls(*rules_.tls);
            }
        }
        co_return false;
    }

    asio::awaitable<void> greet()
    {
        co_await database_.hold(parameters_);
        const std::string hello = message('R', write_number(0)) + database_.greeting() +
                                  message('K', write_number(0) + write_number(0)) +
                                  message('Z', "I");
        if (!rules_.is_per_session) {
            database_.give_back();
        }
        co_await conn_.write(asio::buffer(hello));
    }

    asio::awaitable<void> carry_requests(message_stream& requests)
    {
        std::exception_ptr reason;
        try {
            co_await read_requests(requests);
            if (conn_.draining() && !is_done_) {
                message_stream rest(requests, message_frames, {.ends_in_drain = false});
                co_await example::both(read_requests(rest), dismiss_when_silent());
            }
        } catch (...) {
            reason = std::current_exception();
            database_.cut();
        }
        if (database_.is_held()) {
            co_await leave();
        }
        is_over_ = true;
        database_.notify();
        if (reason) {
            std::rethrow_exception(reason);
        }
    }

    /// Until the client finishes; the first time, also until a drain begins.
    asio::awaitable<void> read_requests(message_stream& requests)
    {
        const example::set_while reading(is_reading_);
        for (auto frame = co_await requests.next(); frame; frame = co_await requests.next()) {
            const std::string_view request = text_of(*frame);
            const char type = request.front();
            ++requests_;
            if (type == 'X') {
                is_done_ = true;
                break;
            }
            if (!database_.is_held()) {
                if (is_copy(type)) {
                    continue; // of a COPY that has failed
                }
                co_await database_.hold(parameters_);
            }
            co_await database_.ask(request);
        }
    }

    /// In a drain: a client that is silent for a second between two transactions has to go.
    asio::awaitable<void> dismiss_when_silent()
    {
        asio::steady_timer pause(conn_.get_executor());
        int quiet = 0;
        do {
            const auto before = requests_;
            pause.expires_after(50ms);
            co_await pause.async_wait(asio::use_awaitable);
            const bool is_active = requests_ != before || is_replying_ || !database_.is_idle();
            quiet = is_active ? 0 : quiet + 1;
        } while (is_reading_ && quiet < 20);
        if (is_reading_) {
            const failure farewell("57P01", "terminating connection due to administrator command");
            co_await conn_.write(asio::buffer(farewell.response()));
            conn_.close(); // and the wait for a request ends
        }
    }

    /// The client has finished: what it has asked is still answered.
    asio::awaitable<void> leave()
    {
        is_leaving_ = true;
        const auto limit = database_.limit(60s);
        while (database_.has_unanswered()) {
            co_await database_.change();
        }
        if (!database_.is_idle()) {
            database_.cut();
        } else if (database_.is_held() && rules_.is_per_session) {
            is_cleaning_ = true;
            const std::string forget = message('Q', std::string_view("DISCARD ALL", 12));
            co_await database_.ask(forget);
        }
        while (database_.is_held()) {
            co_await database_.change();
        }
    }

    asio::awaitable<void> carry_replies()
    {
        std::string buffer(16384, '\0');
        while (!is_over_) {
            if (!database_.is_held()) {
                co_await database_.change();
                continue;
            }
            std::error_code error;
            const std::string_view replies = co_await database_.read_replies(buffer, error);
            if (!error && !is_cleaning_) {
                const example::set_while replying(is_replying_);
                co_await conn_.write(asio::buffer(replies), error);
            }
            if (error) {
                database_.lose();
                if (!is_leaving_) {
                    conn_.close(); // and so the wait for a request ends
                }
                continue;
            }
            co_await database_.finish_writing();
            if (database_.is_idle() && (!rules_.is_per_session || is_cleaning_)) {
                database_.give_back();
            }
        }
    }

    fairlead::connection& conn_;
    const settings& rules_;
    database_link database_;
    std::string parameters_;
    std::uint64_t requests_ = 0;
    bool is_reading_ = false;  // requests
    bool is_replying_ = false; // a write to the client is under way
    bool is_done_ = false;     // it has said goodbye
    bool is_cleaning_ = false; // the session is over, and its connection is made as new
    bool is_leaving_ = false;  // no more requests
    bool is_over_ = false;     // no more replies, either
};
} // namespace sql

#endif // FAIRLEAD_EXAMPLES_SQL_PROXY_SESSION_HPP
