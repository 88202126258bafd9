// fairlead: the connections of a server that are not over, and what is done with all of them.

#ifndef FAIRLEAD_DETAIL_SERVER_LIVE_CONNECTIONS_HPP
#define FAIRLEAD_DETAIL_SERVER_LIVE_CONNECTIONS_HPP

#include <fairlead/detail/connection/core.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/registry.hpp>
#include <fairlead/detail/util/intrusive_ref.hpp>
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Hooks may end any of them while all are gone through.
class live_connections
{
public:
    registry<connection_core> registered;

    /// Nobody is left, and nobody is gone through.
    bool are_gone() const noexcept
    {
        return registered.empty() && !is_sweeping_;
    }

    /// Visits every connection; what ends meanwhile is for the visitor to account for.
    template <typename Visitor>
    void sweep(Visitor&& visit)
    {
        is_sweeping_ = true;
        registered.for_each(visit);
        is_sweeping_ = false;
    }

    /// Closes the sockets. Handlers that are still running are not this run's concern any more, but
    /// they keep their places in the limit.
    void end(close_reason reason, errc code)
    {
        is_sweeping_ = true;
        while (!registered.empty()) {
            const intrusive_ref<connection_core> client(registered.front());
            registered.erase(*client);
            client->stop_now(reason, code);
        }
        is_sweeping_ = false;
    }

    /// In the order in which they came. Any thread.
    std::vector<connection_info> list() const
    {
        std::vector<connection_info> infos;
        registered.visit_all([&, now = std::chrono::steady_clock::now()](const auto& each) {
            if (each.is_open() || each.life().has_tasks()) {
                infos.push_back(each.info(now));
            }
        });
        std::sort(infos.begin(), infos.end(), [](const auto& one, const auto& other) {
            return one.id < other.id;
        });
        return infos;
    }

private:
    bool is_sweeping_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_LIVE_CONNECTIONS_HPP
