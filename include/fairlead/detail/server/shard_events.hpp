// fairlead: makes one server's events of those of its shards: each step once, and not once per
// shard.

#ifndef FAIRLEAD_DETAIL_SERVER_SHARD_EVENTS_HPP
#define FAIRLEAD_DETAIL_SERVER_SHARD_EVENTS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/event.hpp>

#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What holds for the server when it holds for every shard (listening, draining, stopped,
/// tls_reloaded, resumed) is told with the last of them; what holds when it holds for one (paused,
/// limit_reached), with the first.
///
/// Threads: any; the hook is called by one at a time, on the thread of the shard whose step it was.
class shard_events
{
public:
    using hook = std::function<void(const server_event&)>;
    using time_point = std::chrono::steady_clock::time_point;

    /// How often a limit is worth a word.
    static constexpr std::chrono::seconds limit_interval{1};

    /// The shards from `listeners` on have no listening socket.
    shard_events(std::size_t shards, std::size_t listeners) : listeners_(listeners), shards_(shards)
    {}

    /// The same, as the next opening has it.
    void will_listen(std::size_t listeners)
    {
        const std::lock_guard lock(mutex_);
        listeners_ = listeners;
    }

    void set_hook(hook called)
    {
        const std::lock_guard lock(mutex_);
        hook_ = std::move(called);
    }

    /// From now on the shards run, until the last of them has stopped.
    void begin_run()
    {
        const std::lock_guard lock(mutex_);
        for (auto& each : shards_) {
            each.is_draining = each.has_stopped = false;
            each.pause = {};
        }
        is_running_ = true;
        is_drain_told_ = false;
    }

    /// Where the server listens, or did last.
    endpoint local_endpoint() const
    {
        const std::lock_guard lock(mutex_);
        return local_;
    }

    /// What the hook threw; one event of a shard may be two of the server.
    using failures = std::array<std::exception_ptr, 2>;

    /// One shard's event. `index`: below the number of shards. Whatever the hook throws, nothing of
    /// what it is to be told is lost.
    [[nodiscard]] failures add(std::size_t index, const server_event& event, time_point now)
    {
        failures thrown;
        const std::lock_guard lock(mutex_);
        const auto tell = [&](const server_event& step) { tell_hook(step, thrown); };
        shard_state& shard = shards_[index];
        switch (event.kind) {
        case server_event_kind::listening:
            if (index + 1 == listeners_) { // they open in this order
                local_ = event.local;
                tell(event);
            }
            break;
        case server_event_kind::
            option_refused: // while opening, by every listening socket of one cause
        case server_event_kind::limit_reached:
            if ((is_running_ || index + 1 == listeners_) && is_news(event, now)) {
                tell(event);
            }
            break;
        case server_event_kind::paused:
            shard.pause = event.code;
            if (!others_pause(index, event.code)) {
                tell(event);
            }
            break;
        case server_event_kind::resumed:
            shard.pause = {};
            if (!anybody_pauses()) {
                tell(event);
            }
            break;
        case server_event_kind::draining:
            shard.is_draining = true;
            shard.pause = {};
            tell_of_ends(event, thrown);
            break;
        case server_event_kind::stopped:
            shard.has_stopped = true;
            shard.pause = {};
            tell_of_ends(event, thrown);
            break;
        case server_event_kind::tls_reloaded:
            ++shard.reloads;
            if (least_reloads() > reloads_told_) {
                ++reloads_told_;
                tell(event);
            }
            break;
        }
        return thrown;
    }

private:
    struct shard_state
    {
        bool is_draining = false;
        bool has_stopped = false;
        std::error_code pause; // why it does not accept; none: it does
        std::uint64_t reloads = 0;
    };

    void tell_hook(server_event event, failures& thrown) noexcept
    {
        event.local = local_;
        try {
            if (hook_) {
                hook_(event);
            }
        } catch (...) {
            thrown[thrown[0] ? 1 : 0] = std::current_exception();
        }
    }

    /// A shard that stops without a drain does not accept either.
    void tell_of_ends(const server_event& event, failures& thrown)
    {
        if (!is_running_) {
            return;
        }
        const auto ends = [](const shard_state& each) {
            return each.is_draining || each.has_stopped;
        };
        const auto drains = [](const shard_state& each) { return each.is_draining; };
        const auto has_stopped = [](const shard_state& each) { return each.has_stopped; };
        const bool is_drained = std::any_of(shards_.begin(), shards_.end(), drains) &&
                                std::all_of(shards_.begin(), shards_.end(), ends);
        if (is_drained && !std::exchange(is_drain_told_, true)) {
            server_event draining = event;
            if (event.kind != server_event_kind::draining) {
                draining.kind = server_event_kind::draining;
                draining.what = {};
            }
            tell_hook(draining, thrown);
        }
        if (std::all_of(shards_.begin(), shards_.end(), has_stopped)) {
            is_running_ = false;
            tell_hook(event, thrown);
        }
    }

    bool is_news(const server_event& event, time_point now)
    {
        if (event.what == limit_ && now - limit_told_at_ < limit_interval) {
            return false;
        }
        limit_ = event.what;
        limit_told_at_ = now;
        return true;
    }

    bool anybody_pauses() const noexcept
    {
        return std::any_of(shards_.begin(), shards_.end(), [](const shard_state& each) {
            return static_cast<bool>(each.pause);
        });
    }

    bool others_pause(std::size_t index, const std::error_code& cause) const noexcept
    {
        for (std::size_t other = 0; other < shards_.size(); ++other) {
            if (other != index && shards_[other].pause == cause) {
                return true;
            }
        }
        return false;
    }

    std::uint64_t least_reloads() const noexcept
    {
        std::uint64_t least = shards_.front().reloads;
        for (const auto& each : shards_) {
            least = std::min(least, each.reloads);
        }
        return least;
    }

    mutable std::recursive_mutex mutex_; // the hook may ask, and close
    std::size_t listeners_;
    std::vector<shard_state> shards_;
    hook hook_;
    endpoint local_;
    bool is_running_ = false;
    bool is_drain_told_ = false;
    std::uint64_t reloads_told_ = 0;
    std::string limit_; // the one that was told last
    time_point limit_told_at_ = {};
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SHARD_EVENTS_HPP
