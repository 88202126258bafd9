// fairlead: what the faces of a server (tcp_server, sharded_server) ask of its core.

#ifndef FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP
#define FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/core.hpp>
#include <fairlead/detail/server/requests.hpp>
#include <fairlead/handler.hpp>

#include <asio/associated_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/dispatch.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The state of a server, which lives on while something of it is posted. Its owner closes everything
/// when it goes.
template <typename Handler>
class server_owner
{
public:
    /// `limit` and `tls` where they are shared with others; null: its own, as `config` says.
    server_owner(
        asio::io_context& context, Handler handler, server_config config,
        std::shared_ptr<connection_limit> limit = nullptr,
        std::shared_ptr<const tls_context> tls = nullptr)
    {
        if (is_empty_handler(handler)) {
            throw std::system_error(make_error_code(errc::invalid_handler), "the handler is null");
        }
        if (!limit) {
            limit = std::make_shared<connection_limit>(config.max_connections);
        }
        if (!tls && config.tls) {
            tls = std::make_shared<tls_context>(*config.tls);
        }
        core_ = std::make_shared<server_core>(
            context, std::move(config), limit, std::move(tls),
            std::make_unique<pipeline_of<Handler>>(std::move(handler)));
        core_->home.is_part_of(std::shared_ptr<environment>(core_, &core_->home));
    }

    server_owner(const server_owner&) = delete;
    server_owner& operator=(const server_owner&) = delete;

    ~server_owner()
    {
        core_->close_everything();
        core_->home.hooks.mute();
        core_->close_everything(); // a hook may have started it again
    }

    server_core* operator->() const noexcept
    {
        return core_.get();
    }

    server_core& operator*() const noexcept
    {
        return *core_;
    }

    std::shared_ptr<server_core> shared() const noexcept
    {
        return core_;
    }

private:
    std::shared_ptr<server_core> core_;
};

inline server_config checked(server_config config)
{
    throw_first_problem(config);
    return config;
}

inline void check_address(const std::string& address)
{
    if (const auto parsed = parse_address(address); !parsed.problem.empty()) {
        throw std::system_error(make_error_code(errc::invalid_address), parsed.problem);
    }
}

/// Null for an empty configuration. A failure is thrown, and told to the error hook.
inline std::shared_ptr<const tls_context> load_tls(
    server_core& server, const std::optional<tls_config>& config)
{
    if (!config) {
        return nullptr;
    }
    try {
        return std::make_shared<tls_context>(*config);
    } catch (const std::system_error& error) {
        request_report(server, error.code(), error.what());
        throw;
    }
}

/// Completes the handler of somebody whose server is gone.
template <typename... Args, typename Handler>
void complete_without_server(Handler&& handler, Args... args)
{
    const auto executor = asio::get_associated_executor(handler);
    wait_queue<Args...>::complete(
        wait_queue<Args...>::make_waiter(executor, std::forward<Handler>(handler)),
        std::move(args)...);
}

/// What is awaited lives in the awaiting coroutine, from before it begins until it ends, and that
/// perhaps in another context, which may outlive the server's: so it only refers to the server.
struct initiate_shutdown
{
    std::weak_ptr<server_core> server;
    std::chrono::milliseconds deadline;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        auto core = server.lock();
        if (!core) {
            return complete_without_server(std::forward<Handler>(handler), drain_report());
        }
        auto waiter = wait_queue<drain_report>::make_waiter(
            core->get_executor(), std::forward<Handler>(handler));
        request_drain(std::move(core), deadline, std::move(waiter));
    }
};

inline asio::awaitable<drain_report> shutdown(
    const std::shared_ptr<server_core>& server, std::chrono::milliseconds deadline)
{
    return asio::async_initiate<const asio::use_awaitable_t<>, void(drain_report)>(
        initiate_shutdown{server, deadline}, asio::use_awaitable);
}

struct initiate_listen
{
    std::weak_ptr<server_core> server;
    unsigned run;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        auto core = server.lock();
        if (!core) {
            return complete_without_server(std::forward<Handler>(handler), std::exception_ptr());
        }
        const auto executor = core->get_executor();
        auto waiter =
            wait_queue<std::exception_ptr>::make_waiter(executor, std::forward<Handler>(handler));
        asio::dispatch(
            executor, [to = std::move(core), number = run, waiter = std::move(waiter)]() mutable {
                try {
                    if (to->start(number)) {
                        to->notify_when_stopped(std::move(waiter));
                    } else {
                        wait_queue<std::exception_ptr>::complete(std::move(waiter), nullptr);
                    }
                } catch (...) {
                    wait_queue<std::exception_ptr>::complete(
                        std::move(waiter), std::current_exception());
                }
            });
    }
};

/// The run is announced now, when it is called, and not when it is awaited: a `close()` in between
/// counts.
inline asio::awaitable<void> listen(const std::shared_ptr<server_core>& server)
{
    const unsigned run = server->announce_run();
    return asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr)>(
        initiate_listen{server, run}, asio::use_awaitable);
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP
