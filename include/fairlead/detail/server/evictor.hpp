// fairlead: who gives up a place for the next client: those first of whom no byte has reached a
// handler, on whatever shard they are, then whoever has been silent longest. When that is asked for
// is in acceptor.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_EVICTOR_HPP
#define FAIRLEAD_DETAIL_SERVER_EVICTOR_HPP

#include <fairlead/detail/connection/core.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/acceptor.hpp>
#include <fairlead/detail/server/registry.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>

#include <asio/post.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One for each shard. A victim gives its place back when its handler has returned, as anybody: the
/// places are never more than there are.
class evictor
{
public:
    evictor(
        environment& home, registry<connection_core>& connections, acceptor& asker,
        std::shared_ptr<connection_limit> limit)
        : home_(home), connections_(connections), acceptor_(asker), limit_(std::move(limit))
    {}

    evictor(const evictor&) = delete;
    evictor& operator=(const evictor&) = delete;

    /// The other shards may ask from now on.
    void join()
    {
        limit_->evictors.join(shared());
    }

    void leave() noexcept
    {
        run_.fetch_add(1, std::memory_order_relaxed);
        limit_->evictors.leave(std::weak_ptr<evictor>(shared()));
    }

    void arrived(connection_core& newcomer) noexcept
    {
        newcomers_.push_back(newcomer);
        count(1);
    }

    /// It is no newcomer any more: a handler has read from it, or it is closed.
    void settled(connection_core& client) noexcept
    {
        newcomer_hook& hook = client;
        if (hook.is_linked()) {
            hook.unlink();
            count(-1);
        }
    }

    /// Closes a connection here, or asks the other shards to. False: there is none to be closed.
    /// The acceptor is told when the others had none.
    bool make_room(eviction cause) noexcept
    {
        ++search_;
        if (evict(find_newcomer(), cause)) {
            return true;
        }
        try {
            auto members = limit_->evictors.members();
            if (members.size() > 1) {
                look_everywhere(std::move(members), cause);
                return true;
            }
        } catch (...) { // no memory for asking
        }
        return evict(find_quietest(), cause);
    }

private:
    using time_point = environment::time_point;

    /// How many are looked at for one client: bounded work, and as those go to the back, in a few
    /// rounds everybody is looked at.
    static constexpr std::size_t longest_look = 256;

    /// How often one search goes round, when others are faster.
    static constexpr int most_rounds = 8;

    /// A shard in one of its runs: who comes in the next has nothing to do with it.
    struct member
    {
        std::weak_ptr<evictor> shard;
        unsigned run = 0;
    };

    /// From shard to shard, those first that have most newcomers; then to the one that has the
    /// longest silent. Owns no shard: one that is gone or stands still ends it, and the acceptor
    /// asks again.
    struct search
    {
        std::shared_ptr<connection_limit> limit; // which the cause refers to
        eviction cause;
        std::weak_ptr<evictor> asker;
        unsigned number;
        std::vector<member> route;
        std::size_t next = 0;
        member best = {};
        time_point silent_since = time_point::max();
        int rounds = 0;
    };

    std::shared_ptr<evictor> shared()
    {
        return {home_.keep(), this};
    }

    void count(int change) noexcept // one writer
    {
        const auto before = newcomer_count_.load(std::memory_order_relaxed);
        newcomer_count_.store(before + static_cast<std::size_t>(change), std::memory_order_relaxed);
    }

    connection_core* find_newcomer() noexcept
    {
        const std::size_t count = newcomer_count_.load(std::memory_order_relaxed);
        for (std::size_t left = std::min(count, longest_look); left != 0; --left) {
            connection_core& eldest = newcomers_.front();
            if (eldest.may_be_evicted()) {
                return &eldest;
            }
            static_cast<newcomer_hook&>(eldest).unlink();
            newcomers_.push_back(eldest);
        }
        return nullptr;
    }

    connection_core* find_quietest() noexcept
    {
        connection_core* quietest = nullptr;
        for (std::size_t left = std::min(connections_.size(), longest_look); left != 0; --left) {
            connection_core& each = connections_.front();
            connections_.move_to_back(each);
            if (each.may_be_evicted() &&
                (quietest == nullptr || each.last_activity() < quietest->last_activity())) {
                quietest = &each;
            }
        }
        return quietest;
    }

    bool evict(connection_core* victim, eviction& cause) noexcept
    {
        if (victim == nullptr) {
            return false;
        }
        acceptor_.report_limit("max_connections");
        victim->place.is_to_be_free(cause);
        victim->stop_now(close_reason::evicted, errc::connection_refused_by_limit);
        return true;
    }

    member this_run()
    {
        return {shared(), run_.load(std::memory_order_relaxed)};
    }

    void look_everywhere(std::vector<std::weak_ptr<evictor>> members, eviction& cause)
    {
        std::vector<std::pair<std::size_t, member>> order;
        for (auto& each : members) {
            if (const auto found = each.lock()) {
                order.emplace_back(
                    found->newcomer_count_.load(std::memory_order_relaxed), found->this_run());
            }
        }
        std::sort(order.begin(), order.end(), [](const auto& left, const auto& right) {
            return left.first > right.first;
        });
        std::vector<member> route;
        route.reserve(order.size());
        for (auto& each : order) {
            route.push_back(std::move(each.second));
        }
        go_on(std::make_shared<search>(search{
            .limit = limit_,
            .cause = std::move(cause),
            .asker = shared(),
            .number = search_,
            .route = std::move(route)}));
    }

    static void go_on(const std::shared_ptr<search>& under_way)
    {
        while (under_way->next < under_way->route.size()) {
            const auto stop = under_way->route[under_way->next++];
            if (post_to(stop.shard, [under_way, run = stop.run](evictor& self) {
                    self.look(under_way, run);
                })) {
                return;
            }
        }
        const auto best = under_way->best;
        if (!post_to(best.shard, [under_way, run = best.run](evictor& self) {
                if (!self.is_in(run) || !self.evict(self.find_quietest(), under_way->cause)) {
                    begin_again(under_way); // another search was faster
                }
            })) {
            give_up(under_way);
        }
    }

    static void begin_again(const std::shared_ptr<search>& under_way)
    {
        if (++under_way->rounds == most_rounds) {
            return give_up(under_way);
        }
        under_way->next = 0;
        under_way->best = {};
        under_way->silent_since = time_point::max();
        go_on(under_way);
    }

    static void give_up(const std::shared_ptr<search>& under_way)
    {
        post_to(under_way->asker, [number = under_way->number](evictor& self) {
            if (number == self.search_) {
                self.acceptor_.no_room();
            }
        });
    }

    /// False: it is gone, or there is no memory.
    template <typename Function>
    static bool post_to(const std::weak_ptr<evictor>& target, Function function) noexcept
    {
        const auto found = target.lock();
        if (!found) {
            return false;
        }
        try {
            asio::post(found->home_.get_executor(), [target, function = std::move(function)] {
                if (const auto self = target.lock()) {
                    function(*self);
                }
            });
        } catch (...) {
            return false;
        }
        return true;
    }

    bool is_in(unsigned run) const noexcept
    {
        return run == run_.load(std::memory_order_relaxed);
    }

    void look(const std::shared_ptr<search>& under_way, unsigned run)
    {
        if (!is_in(run)) {
            return go_on(under_way);
        }
        if (evict(find_newcomer(), under_way->cause)) {
            return;
        }
        const connection_core* const quietest = find_quietest();
        if (quietest != nullptr && quietest->last_activity() < under_way->silent_since) {
            under_way->best = this_run();
            under_way->silent_since = quietest->last_activity();
        }
        go_on(under_way);
    }

    environment& home_;
    registry<connection_core>& connections_;
    acceptor& acceptor_;
    const std::shared_ptr<connection_limit> limit_;
    intrusive_list<connection_core, newcomer_tag> newcomers_; // those that came first in front
    std::atomic<std::size_t> newcomer_count_ = 0;             // read by other shards
    std::atomic<unsigned> run_ = 0;                           // so is this
    unsigned search_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_EVICTOR_HPP
