// fairlead: what the faces of a server (tcp_server, sharded_server) ask of its core, and the one
// part of the core that knows the handler's type.

#ifndef FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP
#define FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP

#include <fairlead/detail/server_core.hpp>
#include <fairlead/handler.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace fairlead::detail
{
/// One connection from accept to close. The parameters are copies in the coroutine's frame: they
/// live as long as it.
template <typename Handler>
asio::awaitable<void> session(
    std::shared_ptr<server_core> server, std::unique_ptr<connection> client, Handler& handler)
{
    connection_core& core = core_of(*client);
    bool may_open = core.is_open();
    if (const auto tls = server->tls()) {
        may_open = co_await handshake(core, tls, server->gate());
    }
    if (may_open) {
        core.open();
        std::exception_ptr failure;
        try {
            co_await handler(*client);
        } catch (...) {
            failure = std::current_exception();
        }
        core.handler_ended(failure);
    }
    if (!close_at_once(core)) {
        co_await close_in_order(core);
    }
}

/// A server's core, with the handler.
template <typename Handler>
class server_core_of final : public server_core
{
public:
    server_core_of(
        asio::io_context& io_context, Handler handler, server_config options,
        std::shared_ptr<connection_limit> limit, std::shared_ptr<const tls_context> tls)
        : server_core(io_context, std::move(options), std::move(limit), std::move(tls)),
          handler_(std::move(handler))
    {}

    void spawn(std::unique_ptr<connection> client) override
    {
        auto self = std::static_pointer_cast<server_core>(this->shared_from_this());
        asio::co_spawn(
            this->get_executor(), session(std::move(self), std::move(client), handler_),
            report{this});
    }

private:
    /// A session lets nothing out that its user could throw; what remains is a failure of our own.
    struct report
    {
        server_core* server;

        void operator()(const std::exception_ptr& exception) const
        {
            if (exception) {
                const auto [code, what] = describe(exception, errc::out_of_memory);
                server->hooks.emit(error_event{.code = code, .what = what});
            }
        }
    };

    Handler handler_;
};

inline server_config checked(server_config config)
{
    throw_first_problem(config);
    return config;
}

inline void check_address(const std::string& address)
{
    if (const auto parsed = parse_address(address); !parsed.value) {
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
        server.request_report(error.code(), error.what());
        throw;
    }
}

struct initiate_shutdown
{
    std::shared_ptr<server_core> server;
    std::chrono::milliseconds deadline;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        server->request_drain(
            deadline, wait_queue<drain_report>::make_waiter(
                          server->get_executor(), std::forward<Handler>(handler)));
    }
};

inline asio::awaitable<drain_report> shutdown(
    std::shared_ptr<server_core> server, std::chrono::milliseconds deadline)
{
    return asio::async_initiate<const asio::use_awaitable_t<>, void(drain_report)>(
        initiate_shutdown{std::move(server), deadline}, asio::use_awaitable);
}

struct initiate_listen
{
    std::shared_ptr<server_core> server;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        auto waiter = wait_queue<std::exception_ptr>::make_waiter(
            server->get_executor(), std::forward<Handler>(handler));
        asio::post(server->get_executor(), [to = server, waiter = std::move(waiter)]() mutable {
            try {
                to->start();
                to->notify_when_stopped(std::move(waiter));
            } catch (...) {
                waiter->complete(std::current_exception());
            }
        });
    }
};

inline asio::awaitable<void> listen(std::shared_ptr<server_core> server)
{
    return asio::async_initiate<const asio::use_awaitable_t<>, void(std::exception_ptr)>(
        initiate_listen{std::move(server)}, asio::use_awaitable);
}

inline std::vector<connection_info> list_connections(server_core& server)
{
    if (server.counters.open.get() == 0) {
        return {};
    }
    if (server.get_executor().running_in_this_thread()) {
        return server.list();
    }
    std::promise<std::vector<connection_info>> promise;
    auto answer = promise.get_future();
    asio::post(
        server.get_executor(),
        [self = server.shared_from_this(), &server, promise = std::move(promise)]() mutable {
            promise.set_value(server.list());
        });
    // A context that was stopped with the question in it would never answer.
    while (answer.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
        if (server.context.stopped()) {
            return {};
        }
    }
    return answer.get();
}
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_SERVER_OPERATIONS_HPP
