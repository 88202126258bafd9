// fairlead: the user's callbacks, and the one way to call them. A hook runs on its server's thread
// and must not block; one that throws is counted and reported, nothing more.

#ifndef FAIRLEAD_HOOKS_HPP
#define FAIRLEAD_HOOKS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/event.hpp>

#include <asio/ip/tcp.hpp>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
/// The callbacks of a server; each may be empty.
struct hooks
{
    /// Everything that failed and nobody else would hear of.
    std::function<void(const error_event&)> on_error = {};
    /// Each step of each connection.
    std::function<void(const connection_event&)> on_connection = {};
    /// Each step of the server.
    std::function<void(const server_event&)> on_server = {};
    /// Each accepted TCP socket, before anything else happens to it and after the options of
    /// `socket_config` are set: for options that fairlead does not know. Closing it drops the
    /// client. Not called for clients of Unix sockets.
    std::function<void(asio::ip::tcp::socket&)> on_socket = {};
};

namespace detail
{
/// Puts an exception into a code and words: the code of a `std::system_error`, else `fallback`.
struct described_exception
{
    std::error_code code;
    std::string what;
};

inline described_exception describe(const std::exception_ptr& exception, errc fallback)
{
    try {
        std::rethrow_exception(exception);
    } catch (const std::system_error& error) {
        return {error.code(), error.what()};
    } catch (const std::exception& error) {
        return {make_error_code(fallback), error.what()};
    } catch (...) {
        return {make_error_code(fallback), "an exception that is not a std::exception"};
    }
}

/// Calls hooks so that nothing they do can reach the server. One thread, except for the two
/// counters.
class hook_caller
{
public:
    hooks callbacks;

    void emit(const connection_event& event) noexcept
    {
        guarded(
            callbacks.on_connection, connection_reported_, "the hook on_connection threw", event);
    }

    void emit(const server_event& event) noexcept
    {
        const call_under_way call(calls_);
        guarded(callbacks.on_server, server_reported_, server_hook_threw, event);
    }

    void emit(const error_event& event) noexcept
    {
        errors_.fetch_add(1, std::memory_order_relaxed);
        const call_under_way call(calls_);
        bool reported = true; // nobody is left to be told that on_error itself throws
        guarded(callbacks.on_error, reported, "the hook on_error threw", event);
    }

    /// Tells `on_error` of an exception; `context` says where it was caught. Returns its code.
    std::error_code report(
        const std::exception_ptr& exception, errc fallback, const char* context,
        std::uint64_t connection_id = 0, const endpoint& remote = {}) noexcept
    {
        error_event event{
            .code = make_error_code(fallback),
            .what = context,
            .connection_id = connection_id,
            .remote = remote};
        try {
            const auto [code, what] = describe(exception, fallback);
            const std::string text = std::string(context) + ": " + what;
            event.code = code;
            event.what = text;
            emit(event);
        } catch (...) { // no memory for the words
            emit(event);
        }
        return event.code;
    }

    /// Tells `on_error` of an exception that belongs to no connection and no hook. Its code is one
    /// of its own, whatever the exception carries; the words are the exception's.
    void report_unhandled(const std::exception_ptr& exception) noexcept
    {
        error_event event{
            .code = make_error_code(errc::unhandled_exception),
            .what = "an exception left a shard's context"};
        try {
            const std::string text = std::string(event.what) + ": " +
                                     describe(exception, errc::unhandled_exception).what;
            event.what = text;
            emit(event);
        } catch (...) { // no memory for the words
            emit(event);
        }
    }

    void tune(asio::ip::tcp::socket& socket) noexcept
    {
        guarded(callbacks.on_socket, socket_reported_, "the hook on_socket threw", socket);
    }

    /// The server is gone, and with it perhaps what the hooks refer to; its last handlers are not.
    void mute() noexcept
    {
        is_muted_ = true;
    }

    /// For whoever calls the user's `on_server` in a function of his own.
    void server_hook_failed(const std::exception_ptr& exception) noexcept
    {
        failed(exception, server_reported_, server_hook_threw);
    }

    /// A hook runs that may run on a server that has stopped. The others do not, and cost nothing
    /// more.
    bool is_calling() const noexcept
    {
        return calls_ != 0;
    }

    std::uint64_t errors() const noexcept
    {
        return errors_.load(std::memory_order_relaxed);
    }

    std::uint64_t failures() const noexcept
    {
        return failures_.load(std::memory_order_relaxed);
    }

private:
    static constexpr const char* server_hook_threw = "the hook on_server threw";

    class call_under_way
    {
    public:
        explicit call_under_way(unsigned& calls) noexcept : calls_(calls)
        {
            ++calls_;
        }

        call_under_way(const call_under_way&) = delete;
        call_under_way& operator=(const call_under_way&) = delete;

        ~call_under_way()
        {
            --calls_;
        }

    private:
        unsigned& calls_;
    };

    template <typename Hook, typename Argument>
    void guarded(const Hook& hook, bool& reported, const char* name, Argument& argument) noexcept
    {
        if (!hook || is_muted_) {
            return;
        }
        try {
            hook(argument);
        } catch (...) {
            failed(std::current_exception(), reported, name);
        }
    }

    void failed(const std::exception_ptr& exception, bool& reported, const char* name) noexcept
    {
        failures_.fetch_add(1, std::memory_order_relaxed);
        if (std::exchange(reported, true)) {
            return;
        }
        report(exception, errc::hook_failed, name);
    }

    std::atomic<std::uint64_t> errors_ = 0;
    std::atomic<std::uint64_t> failures_ = 0;
    unsigned calls_ = 0;
    bool is_muted_ = false;
    bool connection_reported_ = false;
    bool server_reported_ = false;
    bool socket_reported_ = false;
};
} // namespace detail
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_HOOKS_HPP
