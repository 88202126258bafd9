// fairlead: what an acceptor tells: of its pauses, their ends, and the limits that it meets.

#ifndef FAIRLEAD_DETAIL_SERVER_ACCEPT_EVENTS_HPP
#define FAIRLEAD_DETAIL_SERVER_ACCEPT_EVENTS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/accept_failure.hpp>
#include <fairlead/detail/server/environment.hpp>

#include <chrono>
#include <string>
#include <string_view>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A part of its acceptor. `local` is where nobody is accepted, or where somebody is again.
class accept_events
{
public:
    explicit accept_events(environment& home) noexcept : home_(home)
    {}

    void emit(
        server_event_kind kind, std::error_code code, std::string_view what,
        const endpoint& local) noexcept
    {
        home_.hooks.emit(server_event{.kind = kind, .local = local, .code = code, .what = what});
    }

    /// A failure of accept(2) has begun.
    void failing(const std::error_code& error, const endpoint& local) noexcept
    {
        const std::error_code code = told_accept_failure(error);
        home_.counters.pauses.add();
        const auto tell = [&](std::string_view what) {
            home_.hooks.emit(error_event{.code = code, .what = what});
            emit(server_event_kind::paused, code, what, local);
        };
        std::string what;
        try {
            what = "accept: " + error.message();
        } catch (...) { // no memory for the words
            return tell("accept");
        }
        tell(what);
    }

    void pausing_at_limit(const endpoint& local) noexcept
    {
        home_.counters.pauses.add();
        limit_reached("max_connections", local);
        emit(
            server_event_kind::paused, errc::too_many_connections,
            "max_connections are open; clients wait in the kernel's queue", local);
    }

    void accepting_again(const endpoint& local) noexcept
    {
        emit(server_event_kind::resumed, {}, "accepting again", local);
    }

    /// At most once a second.
    void limit_reached(std::string_view what, const endpoint& local) noexcept
    {
        const auto now = environment::clock::now();
        if (now - limit_told_at_ >= std::chrono::seconds(1)) {
            limit_told_at_ = now;
            emit(server_event_kind::limit_reached, errc::too_many_connections, what, local);
        }
    }

private:
    environment& home_;
    environment::time_point limit_told_at_ = {};
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ACCEPT_EVENTS_HPP
