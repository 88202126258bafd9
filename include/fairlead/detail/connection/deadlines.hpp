// fairlead: when a connection's time is up, and why. Time and facts come in as arguments: no clock,
// no socket. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_DEADLINES_HPP
#define FAIRLEAD_DETAIL_CONNECTION_DEADLINES_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/published.hpp>
#include <fairlead/error.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

namespace FAIRLEAD_NAMESPACE::detail
{
/// `timeout` after `now`; a time that the clock cannot tell is `max()`, never.
inline std::chrono::steady_clock::time_point later(
    std::chrono::steady_clock::time_point now, std::chrono::milliseconds timeout) noexcept
{
    constexpr auto never = std::chrono::steady_clock::time_point::max();
    return timeout < std::chrono::duration_cast<std::chrono::milliseconds>(never - now)
               ? now + timeout
               : never;
}

/// Every deadline of one connection. Activity is one store; `look` is called when the wheel says
/// so, and says when it wants to be called again.
class deadlines
{
public:
    using time_point = std::chrono::steady_clock::time_point;
    using duration = std::chrono::steady_clock::duration;

    /// What has left this side, as the peer's kernel sees it.
    struct outgoing
    {
        /// Bytes acknowledged; another number when some more are.
        std::uint64_t acknowledged = 0;
        /// Some are not acknowledged yet.
        bool pending = false;
    };

    struct verdict
    {
        /// Time is up; empty: not yet.
        std::optional<close_reason> reason = {};
        /// When to look again; `max()`: when something new is set.
        time_point next = time_point::max();
    };

    enum class stage
    {
        pre_open,
        open,
        /// The handler is done, or the connection was stopped: only `closing_ends` counts.
        closing,
    };

    published<time_point> last_activity;
    time_point pre_open_ends = time_point::max();
    time_point closing_ends = time_point::max();
    time_point lifetime_ends = time_point::max();
    /// `connection::expires_after`
    time_point expires_at = time_point::max();
    /// A frame that has begun must be complete.
    time_point frame_ends = time_point::max();

    /// The lifetime, spread by a tenth either way: connections that came together do not go
    /// together.
    void begin_lifetime(time_point now, std::chrono::milliseconds lifetime, std::uint64_t seed)
    {
        if (lifetime.count() > 0) {
            const auto tenth = std::chrono::duration_cast<duration>(lifetime) / 10;
            const double share = static_cast<double>(mixed(seed) >> 11) * 0x1p-53;
            lifetime_ends = now + lifetime - tenth +
                            duration(static_cast<duration::rep>(
                                static_cast<double>(2 * tenth.count()) * share));
        }
    }

    /// A write starts or has moved bytes into the kernel: its clock starts again.
    void write_begins(time_point now) noexcept
    {
        write_progress_ = now;
        unchanged_since_ = time_point::max();
    }

    /// When the write that began must be looked at first: at half time, to see how far the peer has
    /// come, so that at the full time one can tell slow from stalled.
    time_point first_look(duration write_timeout) const noexcept
    {
        return write_progress_ + write_timeout / 2;
    }

    /// `facts()` is asked only when the answer matters: it costs a system call.
    template <typename Facts>
    verdict look(
        time_point now, stage where, bool writing, const server_config& config, Facts&& facts)
    {
        verdict result;
        const auto expect = [&](time_point when, close_reason reason) {
            if (when <= now && !result.reason) {
                result.reason = reason;
            }
            result.next = std::min(result.next, when);
        };
        switch (where) {
        case stage::closing:
            expect(closing_ends, close_reason::handler_returned);
            break;
        case stage::pre_open:
            expect(pre_open_ends, close_reason::pre_open_timeout);
            expect(lifetime_ends, close_reason::max_lifetime);
            break;
        case stage::open:
            expect(expires_at, close_reason::deadline_exceeded);
            expect(frame_ends, close_reason::deadline_exceeded);
            expect(pre_open_ends, close_reason::pre_open_timeout); // of a step taken late
            expect(lifetime_ends, close_reason::max_lifetime);
            if (writing && config.write_timeout.count() > 0) {
                expect(write_ends(now, config.write_timeout, facts), close_reason::write_timeout);
            }
            if (config.idle_timeout.count() > 0) {
                expect(idle_ends(now, config.idle_timeout, facts), close_reason::idle_timeout);
            }
            break;
        }
        return result;
    }

private:
    template <typename Facts>
    time_point write_ends(time_point now, duration timeout, Facts& facts)
    {
        if (now < first_look(timeout)) {
            return first_look(timeout);
        }
        return silence_ends(now, timeout, facts());
    }

    template <typename Facts>
    time_point idle_ends(time_point now, duration timeout, Facts& facts)
    {
        const time_point ends = last_activity.get() + timeout;
        if (now < ends) {
            return ends;
        }
        const outgoing state = facts();
        return state.pending ? silence_ends(now, timeout, state) : now;
    }

    /// Now: the peer took nothing for `timeout`. Later: the next look.
    time_point silence_ends(time_point now, duration timeout, const outgoing& state) noexcept
    {
        if (unchanged_since_ == time_point::max() || state.acknowledged != acknowledged_) {
            if (unchanged_since_ != time_point::max()) {
                last_activity = now;
            }
            acknowledged_ = state.acknowledged;
            unchanged_since_ = now;
        }
        const time_point ends = unchanged_since_ + timeout;
        return ends <= now ? now : std::min(ends, now + timeout / 2);
    }

    /// splitmix64: consecutive numbers become unrelated ones.
    static std::uint64_t mixed(std::uint64_t value) noexcept
    {
        value += 0x9e3779b97f4a7c15U;
        value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
        value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
        return value ^ (value >> 31U);
    }

    time_point write_progress_ = {};
    time_point unchanged_since_ = time_point::max();
    std::uint64_t acknowledged_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_DEADLINES_HPP
