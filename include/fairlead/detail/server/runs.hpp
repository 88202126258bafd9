// fairlead: which run of a server a stop is for. Starts and stops are asked for from any thread and
// take effect later. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_RUNS_HPP
#define FAIRLEAD_DETAIL_SERVER_RUNS_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <atomic>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Stops refer to the run that was the last to be announced; one that comes too late, after the
/// next start was announced, is void. `announce`, `ask_to_stop` and `is_stop_asked` are for any
/// thread, the others for the server's.
class server_runs
{
public:
    /// A start was decided upon: what was asked of earlier runs does not concern this one. Returns
    /// its number.
    unsigned announce() noexcept
    {
        return ++announced_;
    }

    /// Returns the number of the run that is to stop.
    unsigned ask_to_stop() noexcept
    {
        const unsigned run = announced_.load();
        asked_ = run;
        return run;
    }

    bool is_stop_asked() const noexcept
    {
        const unsigned asked = asked_.load();
        return asked == announced_.load() || asked == running_.load();
    }

    /// A start that was announced and then refused does not void what was asked of the run that
    /// goes on (`is_up`).
    bool concerns(unsigned run, bool is_up) const noexcept
    {
        return run == announced_.load() || (is_up && run == running_.load());
    }

    void begin(unsigned run) noexcept
    {
        running_ = run;
    }

    /// A stop that was asked of `run` takes effect: none begins any more that was announced until
    /// then. Those announced since are not meant.
    void stop(unsigned run) noexcept
    {
        stopped_ = std::max(stopped_, run);
    }

    void stop_all() noexcept
    {
        stop(announced_.load());
    }

    bool has_stopped(unsigned run) const noexcept
    {
        return run <= stopped_;
    }

private:
    std::atomic<unsigned> announced_ = 1;
    std::atomic<unsigned> asked_ = 0;
    std::atomic<unsigned> running_ = 0;
    unsigned stopped_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_RUNS_HPP
