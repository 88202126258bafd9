// A server on its own thread, everything that its hooks are told, and a way to wait for it. No test
// sleeps: it waits for the event that it is about, for ten seconds at most.

#ifndef FAIRLEAD_TESTS_SUPPORT_SERVER_FIXTURE_HPP
#define FAIRLEAD_TESTS_SUPPORT_SERVER_FIXTURE_HPP

#include "tests/support/networks.hpp"
#include <fairlead/server.hpp>

#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/use_future.hpp>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace test
{
inline constexpr std::chrono::seconds patience{10};

/// How a drain went that is under way.
inline fairlead::drain_report report_of(std::future<fairlead::drain_report>& drain)
{
    if (drain.wait_for(patience) != std::future_status::ready) {
        throw std::runtime_error("the drain does not end");
    }
    return drain.get();
}

/// Descriptors of this process; one too many, always the same, is that of the look itself.
inline std::size_t open_descriptors()
{
    const auto listed = std::filesystem::directory_iterator("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(listed), end(listed)));
}

/// What hooks were told, in order, from any thread.
class event_log
{
public:
    struct error
    {
        std::error_code code;
        std::string what;
        std::uint64_t connection_id;
        fairlead::endpoint remote;
    };

    struct server_step
    {
        fairlead::server_event_kind kind;
        std::error_code code;
        std::string what;
    };

    template <typename Server>
    void attach(Server& server)
    {
        server.on_connection(
            [this](const fairlead::connection_event& event) { add(connections_, event); });
        server.on_server([this](const fairlead::server_event& event) {
            add(servers_, {event.kind, event.code, std::string(event.what)});
        });
        server.on_error([this](const fairlead::error_event& event) {
            add(errors_, {event.code, std::string(event.what), event.connection_id, event.remote});
        });
    }

    std::vector<fairlead::connection_event> connections() const
    {
        const std::lock_guard lock(mutex_);
        return connections_;
    }

    std::vector<server_step> servers() const
    {
        const std::lock_guard lock(mutex_);
        return servers_;
    }

    std::vector<error> errors() const
    {
        const std::lock_guard lock(mutex_);
        return errors_;
    }

    std::size_t count(fairlead::connection_event_kind kind) const
    {
        const std::lock_guard lock(mutex_);
        return count_locked(kind);
    }

    std::size_t count(fairlead::server_event_kind kind) const
    {
        const std::lock_guard lock(mutex_);
        return count_locked(kind);
    }

    /// The steps of one connection, in order.
    std::vector<fairlead::connection_event> of(std::uint64_t id) const
    {
        std::vector<fairlead::connection_event> steps;
        for (const auto& event : connections()) {
            if (event.id == id) {
                steps.push_back(event);
            }
        }
        return steps;
    }

    /// Waits until `kind` (of a connection or of the server) was seen `times` times. False: it was
    /// not.
    template <typename Kind>
    bool wait_for(Kind kind, std::size_t times = 1) const
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return count_locked(kind) >= times; });
    }

    bool wait_for_errors(std::size_t times = 1) const
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return errors_.size() >= times; });
    }

    /// The closed events, in order.
    std::vector<fairlead::connection_event> closed() const
    {
        std::vector<fairlead::connection_event> ends;
        for (const auto& event : connections()) {
            if (event.kind == fairlead::connection_event_kind::closed) {
                ends.push_back(event);
            }
        }
        return ends;
    }

private:
    template <typename Event>
    void add(std::vector<Event>& log, Event event)
    {
        const std::lock_guard lock(mutex_);
        log.push_back(std::move(event));
        changed_.notify_all();
    }

    std::size_t count_locked(fairlead::connection_event_kind kind) const
    {
        std::size_t n = 0;
        for (const auto& event : connections_) {
            n += event.kind == kind ? 1 : 0;
        }
        return n;
    }

    std::size_t count_locked(fairlead::server_event_kind kind) const
    {
        std::size_t n = 0;
        for (const auto& event : servers_) {
            n += event.kind == kind ? 1 : 0;
        }
        return n;
    }

    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::vector<fairlead::connection_event> connections_;
    std::vector<server_step> servers_;
    std::vector<error> errors_;
};

/// Waits until every shard has got to the end of its queue five times: whoever has sent something has by then also come
/// to what it does next. The server reports to `log`.
template <typename Server>
void let_handlers_go_on(Server& server, const event_log& log)
{
    constexpr auto step = fairlead::server_event_kind::tls_reloaded; // plain TCP stays plain TCP
    for (int round = 0; round < 5; ++round) {
        const std::size_t before = log.count(step);
        server.set_tls({});
        if (!log.wait_for(step, before + 1)) {
            throw std::runtime_error("a shard does not come to the end of its queue");
        }
    }
}

/// `config` as the tests run now: on Unix sockets a free port of 127.0.0.1 is a path.
inline fairlead::server_config on_network(fairlead::server_config config)
{
    if (unix_network::is_on() && config.address == "127.0.0.1:0") {
        config.address = unix_network::next_address();
    }
    return config;
}

/// What stands for the port of a server in the tests.
inline std::uint16_t port_of(const fairlead::endpoint& server)
{
    return server.is_unix() ? unix_network::number_of(server.path()) : server.port();
}

/// A configuration for tests: a free port of 127.0.0.1.
inline fairlead::server_config local_config()
{
    return {.address = "127.0.0.1:0"};
}

/// `tcp_server` on a thread of its own. `server` and `log` are to be used from the test's thread;
/// what belongs to the server's thread goes through `on_shard`.
template <typename Handler>
class running_server
{
public:
    explicit running_server(Handler handler, fairlead::server_config config = local_config())
        : server(context, std::move(handler), on_network(std::move(config)))
    {
        log.attach(server);
    }

    running_server(const running_server&) = delete;
    running_server& operator=(const running_server&) = delete;

    ~running_server()
    {
        stop();
    }

    /// Before `start()`: more hooks, other settings.
    running_server& start()
    {
        server.start();
        run();
        return *this;
    }

    /// Runs the context without starting the server.
    void run()
    {
        thread_ = std::thread([this] {
            const auto work = asio::make_work_guard(context);
            context.run();
        });
    }

    std::uint16_t port() const
    {
        return port_of(server.local_endpoint());
    }

    /// Runs `function()` on the server's thread and returns what it returns, or throws what it throws.
    template <typename Function>
    auto on_shard(Function function)
    {
        using result = decltype(function());
        std::optional<std::conditional_t<std::is_void_v<result>, bool, result>> returned;
        std::exception_ptr thrown;
        const auto done = std::make_shared<std::promise<void>>();
        asio::post(context, [&, done] {
            // What is thrown is let go here before the other thread hears of it: ThreadSanitizer
            // does not see how libstdc++ counts the references of an exception.
            try {
                if constexpr (std::is_void_v<result>) {
                    function();
                } else {
                    returned.emplace(function());
                }
            } catch (...) {
                thrown = std::current_exception();
            }
            done->set_value();
        });
        done->get_future().wait();
        if (thrown) {
            std::rethrow_exception(thrown);
        }
        if constexpr (!std::is_void_v<result>) {
            return std::move(*returned);
        }
    }

    /// Starts a drain; the report comes when it is over.
    std::future<fairlead::drain_report> shutdown(std::chrono::milliseconds deadline)
    {
        return asio::co_spawn(context, server.shutdown(deadline), asio::use_future);
    }

    /// Closes the server and ends its thread.
    void stop()
    {
        if (thread_.joinable()) {
            server.close();
            asio::post(context, [this] { asio::post(context, [this] { context.stop(); }); });
            thread_.join();
        }
    }

    asio::io_context context{1};
    event_log log;
    fairlead::tcp_server<Handler> server;

private:
    std::thread thread_;
};

template <typename Handler>
running_server(Handler, fairlead::server_config) -> running_server<Handler>;
template <typename Handler>
running_server(Handler) -> running_server<Handler>;

/// The handler that most tests use.
inline asio::awaitable<void> echo(fairlead::connection& connection)
{
    std::array<char, 16 * 1024> buffer;
    while (const std::size_t n = co_await connection.read_some(asio::buffer(buffer))) {
        co_await connection.write(asio::buffer(buffer, n));
    }
}

/// Waits until the server has no open connection. False: it still has.
template <typename Server>
bool wait_until_idle(const Server& server)
{
    const auto limit = std::chrono::steady_clock::now() + patience;
    while (server.open_connections() != 0) {
        if (std::chrono::steady_clock::now() > limit) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_SERVER_FIXTURE_HPP
