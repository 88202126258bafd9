// fairlead: the way of a connection: admit > TLS > handler > deliver > close. Admitting is in
// reception.hpp; deliver and close are in connection/closing.hpp. What stands between them and the
// handler is listed here, a line each.

#ifndef FAIRLEAD_DETAIL_SERVER_PIPELINE_HPP
#define FAIRLEAD_DETAIL_SERVER_PIPELINE_HPP

#include <fairlead/connection.hpp>
#include <fairlead/detail/connection/session.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/handshake_gate.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>

#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What the stages of a connection go by: the rules when it came.
struct stage_rules
{
    /// Null: no TLS.
    std::shared_ptr<const tls_context> tls;
    handshake_gate* gate;
};

/// What has become of a stage at once. Empty: it is done, without a coroutine. Else the rest of it,
/// which completes with whether the connection goes on; where it does not, the reason is noted.
using stage_rest = std::optional<asio::awaitable<bool>>;

using stage = stage_rest (*)(connection_operations&, const stage_rules&);

inline stage_rest secure(connection_operations& client, const stage_rules& rules)
{
    return rules.tls ? stage_rest(pre_open(client, rules.tls, *rules.gate)) : std::nullopt;
}

/// Before the handler, in this order.
inline constexpr stage stages[] = {secure};

/// A part of its server; outlives the connections that it leads. Plain TCP, the common case, takes
/// one coroutine, the handler's own: a stage that has to wait, and a close that has to, are coroutines
/// beside it, gone when they are done.
class pipeline
{
public:
    pipeline() = default;
    pipeline(const pipeline&) = delete;
    pipeline& operator=(const pipeline&) = delete;
    virtual ~pipeline() = default;

    /// Leads on who was admitted. Throws when there is no memory; it is not begun then.
    void begin(connection_ref client, stage_rules rules)
    {
        go_on(std::move(client), std::move(rules), 0);
    }

private:
    /// Completes when the handler has returned.
    virtual void run_handler(connection_ref client) = 0;

    void go_on(connection_ref client, stage_rules rules, std::size_t from)
    {
        for (std::size_t index = from; index != std::size(stages); ++index) {
            if (auto rest = stages[index](*client, rules)) {
                asio::co_spawn(
                    client->get_executor(), std::move(*rest),
                    stage_over(client, *this, std::move(rules), index + 1));
                return;
            }
        }
        run_handler(std::move(client));
    }

    struct stage_over : stage_done
    {
        stage_over(
            connection_ref of, pipeline& leads, stage_rules then_by, std::size_t then_from) noexcept
            : stage_done(std::move(of)), line(&leads), rules(std::move(then_by)), next(then_from)
        {}

        void operator()(const std::exception_ptr& failure, bool goes_on)
        {
            if (!failure && goes_on && client->is_open() && !client->is_stopped()) {
                return go_on_or_end();
            }
            if (failure) {
                client->handler_ended(failure);
            }
            finish(std::move(client));
        }

        void go_on_or_end()
        {
            try {
                line->go_on(client, std::move(rules), next);
            } catch (...) { // no memory for a coroutine
                client->handler_ended(std::current_exception());
                client->close_socket();
            }
        }

        pipeline* line;
        stage_rules rules;
        std::size_t next;
    };
};

/// The one part of a server that knows its handler's type.
template <typename Handler>
class pipeline_of final : public pipeline
{
public:
    explicit pipeline_of(Handler handler) : handler_(std::move(handler))
    {}

private:
    struct call_handler
    {
        pipeline_of* line;
        connection_operations* client;

        asio::awaitable<void> operator()() const
        {
            return line->handler_(client->face);
        }
    };

    void run_handler(connection_ref client) override
    {
        client->open();
        const call_handler call{this, &*client};
        asio::co_spawn(client->get_executor(), call, handler_done(client));
    }

    Handler handler_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_PIPELINE_HPP
