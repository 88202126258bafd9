// fairlead: a hierarchical timing wheel: any number of deadlines behind one timer. Ring 0: time is
// an argument. Not a timer itself: its owner arms one for next_wakeup() and then calls advance().

#ifndef FAIRLEAD_DEADLINE_WHEEL_HPP
#define FAIRLEAD_DEADLINE_WHEEL_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace FAIRLEAD_NAMESPACE
{
/// Keeps deadlines and calls a function for each that has passed.
///
/// A deadline is rounded up to ticks of 10 ms and written as a number of seven digits, base 64. A
/// level holds one slot for each value of its digit, and a node hangs in the slot of the highest
/// digit in which it differs from the wheel's present. When the present reaches a slot above level
/// 0, its nodes move down ("cascade"), at most six times between schedule and expiry:
/// \code
///                  present             deadline of the node       where it hangs
///   level 2          7                   7
///   level 1         12                  15  ---- differs here --> level 1, slot 15
///   level 0         40                   3                        then level 0, slot 3
///
///   level 2  [ ][ ][ ][ ][ ][ ][ ][ ][ ] ... 64 slots of 4096 ticks (41 s)
///   level 1  [ ][ ][ ][x][ ][ ][ ][ ][ ] ... 64 slots of 64 ticks (640 ms)
///   level 0  [ ][ ][ ][ ][x][ ][ ][x][ ] ... 64 slots of one tick (10 ms)
/// \endcode
/// One bit per slot says where nodes are, so empty time costs nothing, however long it is.
///
/// `schedule`, `cancel` and `next_wakeup` are O(1). Still, a deadline that moves with every byte is
/// not rescheduled with every byte (lazy re-arm): touching it is one store of the time of the last
/// activity, by the owner; the node stays. Only when it fires too early for that activity does the
/// owner schedule it anew, from inside the function.
///
/// Lifetime: a node is cancelled or has fired before it is destroyed. The wheel may go first; its
/// nodes are not scheduled then. Not thread-safe: one thread at a time.
class deadline_wheel
{
public:
    using clock = std::chrono::steady_clock;
    using time_point = clock::time_point;
    using duration = clock::duration;

    /// The resolution: a node fires up to one tick after its deadline, and never before it.
    static constexpr std::chrono::milliseconds tick{10};

    /// A place for one deadline: a base class or a member of what the deadline belongs to.
    class node
    {
    public:
        /// Called by `advance` with the time it was given. The node is not scheduled any more, and
        /// the wheel does not touch it again. It must not throw.
        using expired_function = void (*)(node& expired, time_point now);

        explicit node(expired_function function) noexcept : function_(function)
        {}

        bool is_scheduled() const noexcept
        {
            return links_.is_linked();
        }

        /// As given to `schedule`, not rounded; `time_point::max()` when not scheduled.
        time_point deadline() const noexcept
        {
            return links_.is_linked() ? deadline_ : time_point::max();
        }

    private:
        friend class deadline_wheel;

        // A member, not a base: a class that derives from node and from another element would find
        // unlink() twice.
        struct list_links : detail::list_hook<deadline_wheel>
        {
            explicit list_links(node& owner) noexcept : entry(owner)
            {}

            node& entry;
        };

        list_links links_{*this};
        expired_function function_;
        time_point deadline_{};
        std::size_t slot_ = 0;
    };

    /// The wheel's present is `start`, and its ticks are counted from there.
    explicit deadline_wheel(time_point start) noexcept : start_(start), now_(start)
    {}

    deadline_wheel(const deadline_wheel&) = delete;
    deadline_wheel& operator=(const deadline_wheel&) = delete;

    ~deadline_wheel()
    {
        for (node_list& slot : slots_) {
            forget(slot);
        }
        forget(overdue_);
        forget(firing_);
    }

    /// Makes `entry` fire at `deadline`, instead of at the deadline that it may have had.
    ///
    /// A deadline that is not after the wheel's present (the latest `advance`) fires in the next
    /// `advance`. No deadline is too far, `time_point::max()` included.
    void schedule(node& entry, time_point deadline) noexcept
    {
        cancel(entry);
        entry.deadline_ = deadline;
        place(entry);
    }

    /// Takes `entry` off the wheel; nothing when it is not on it. Within `advance` this also holds
    /// for a node whose deadline has passed and whose turn has not come: it does not fire.
    void cancel(node& entry) noexcept
    {
        if (!entry.is_scheduled()) {
            return;
        }
        entry.links_.unlink();
        if (entry.slot_ < slot_count && slots_[entry.slot_].empty()) {
            occupied_[entry.slot_ / slots_per_level] &= ~bit_of(entry.slot_);
        }
    }

    /// Moves the wheel's present to `now` and calls the function of every node whose deadline has
    /// passed, once it is rounded up to a tick: earlier ticks first, in any order within a tick.
    ///
    /// A function may schedule and cancel any node, its own included, and may destroy its own. What
    /// it schedules at `now` or before fires in the next `advance`, so this one ends. It must not
    /// call `advance` and must not destroy the wheel. A `now` before the present counts as the
    /// present. Costs O(1) per node that fires or cascades, whatever time has passed.
    void advance(time_point now)
    {
        now_ = std::max(now_, now);
        while (!overdue_.empty()) {
            move_to(firing_, firing_slot, take_front(overdue_));
        }
        collect_until(elapsed(now_) / units_per_tick);
        // All are collected before the first function runs: what a function schedules cannot be
        // mistaken for something that was due, and what it cancels is still in some list.
        while (!firing_.empty()) {
            node& entry = take_front(firing_);
            entry.function_(entry, now_);
        }
    }

    /// No node is scheduled.
    bool empty() const noexcept
    {
        return overdue_.empty() && firing_.empty() && !first_level();
    }

    /// When `advance` should be called next; nothing when the wheel is empty.
    ///
    /// Not after the earliest deadline rounded up to a tick, but possibly before it: then that call
    /// cascades, fires nothing, and the next wakeup is nearer to the deadline. It may even lie in
    /// the past, when `advance` has not been called for long; the meaning is the same.
    std::optional<time_point> next_wakeup() const noexcept
    {
        if (!overdue_.empty() || !firing_.empty()) {
            return now_;
        }
        const std::optional<std::size_t> level = first_level();
        if (!level) {
            return std::nullopt;
        }
        const std::uint64_t wakeup = first_tick(*level);
        if (wakeup > elapsed(time_point::max()) / units_per_tick) {
            return time_point::max();
        }
        const auto origin = static_cast<std::uint64_t>(start_.time_since_epoch().count());
        return time_point(duration(static_cast<duration::rep>(origin + wakeup * units_per_tick)));
    }

private:
    using node_list = detail::intrusive_list<node::list_links, deadline_wheel>;

    static constexpr std::size_t bits_per_level = 6;
    static constexpr std::size_t slots_per_level = std::size_t{1} << bits_per_level;
    static constexpr std::size_t levels = 7;
    static constexpr std::size_t slot_count = levels * slots_per_level;
    // Beyond the slots: the two lists that have no bit.
    static constexpr std::size_t overdue_slot = slot_count;
    static constexpr std::size_t firing_slot = slot_count + 1;

    static constexpr auto units_per_tick = static_cast<std::uint64_t>(duration(tick).count());
    static_assert(
        (UINT64_MAX / units_per_tick) >> (levels * bits_per_level) == 0,
        "the levels hold every distance between two time points");

    static constexpr std::uint64_t bit_of(std::size_t slot) noexcept
    {
        return std::uint64_t{1} << (slot % slots_per_level);
    }

    /// From start_ to `when`, which is not before it. Unsigned, because the distance between a
    /// negative time point and a far one does not fit into `duration`.
    std::uint64_t elapsed(time_point when) const noexcept
    {
        return static_cast<std::uint64_t>(when.time_since_epoch().count()) -
               static_cast<std::uint64_t>(start_.time_since_epoch().count());
    }

    /// `deadline`, which is not before start_, in ticks and rounded up.
    std::uint64_t due_tick(time_point deadline) const noexcept
    {
        const std::uint64_t units = elapsed(deadline);
        return units / units_per_tick + (units % units_per_tick != 0);
    }

    std::optional<std::size_t> first_level() const noexcept
    {
        for (std::size_t level = 0; level < levels; ++level) {
            if (occupied_[level] != 0) {
                return level;
            }
        }
        return std::nullopt;
    }

    /// The tick at which the first occupied slot of `level` begins. On the lowest occupied level it
    /// is the first of all: the slots above differ from the present in a higher digit.
    std::uint64_t first_tick(std::size_t level) const noexcept
    {
        const std::size_t shift = level * bits_per_level;
        const auto digit = static_cast<std::uint64_t>(std::countr_zero(occupied_[level]));
        const std::uint64_t above = current_ >> (shift + bits_per_level);
        return ((above << bits_per_level) | digit) << shift;
    }

    void place(node& entry) noexcept
    {
        if (entry.deadline_ <= now_) {
            move_to(overdue_, overdue_slot, entry);
            return;
        }
        place_at(entry, due_tick(entry.deadline_));
    }

    /// Hangs `entry` into the slot for the tick `due`, which is after the present.
    void place_at(node& entry, std::uint64_t due) noexcept
    {
        assert(due > current_);
        const auto highest = detail::integer_cast<std::size_t>(std::bit_width(due ^ current_)) - 1;
        const std::size_t level = highest / bits_per_level;
        const std::size_t digit = (due >> (level * bits_per_level)) % slots_per_level;
        const std::size_t slot = level * slots_per_level + digit;
        occupied_[level] |= bit_of(slot);
        move_to(slots_[slot], slot, entry);
    }

    /// Walks from occupied slot to occupied slot up to the tick `target`.
    void collect_until(std::uint64_t target) noexcept
    {
        while (const std::optional<std::size_t> level = first_level()) {
            const std::uint64_t next = first_tick(*level);
            if (next > target) {
                break;
            }
            current_ = next;
            open_slot(*level);
        }
        // Nothing hangs between here and there, so each node still differs from the present in the
        // digit that chose its slot.
        current_ = std::max(current_, target);
    }

    void open_slot(std::size_t level) noexcept
    {
        const auto digit = static_cast<std::size_t>(std::countr_zero(occupied_[level]));
        const std::size_t slot = level * slots_per_level + digit;
        occupied_[level] &= ~bit_of(slot);
        while (!slots_[slot].empty()) {
            node& entry = take_front(slots_[slot]);
            const std::uint64_t due = due_tick(entry.deadline_);
            if (due <= current_) {
                move_to(firing_, firing_slot, entry);
            } else {
                place_at(entry, due);
            }
        }
    }

    static node& take_front(node_list& list) noexcept
    {
        node& entry = list.front().entry;
        entry.links_.unlink();
        return entry;
    }

    static void move_to(node_list& list, std::size_t slot, node& entry) noexcept
    {
        entry.slot_ = slot;
        list.push_back(entry.links_);
    }

    static void forget(node_list& list) noexcept
    {
        while (!list.empty()) {
            take_front(list);
        }
    }

    time_point start_;
    time_point now_;
    /// The present in whole ticks since start_.
    std::uint64_t current_ = 0;
    std::array<std::uint64_t, levels> occupied_{};
    std::array<node_list, slot_count> slots_;
    node_list overdue_;
    node_list firing_;
};

static_assert(sizeof(deadline_wheel::node) <= 48, "every connection pays for one");
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_DEADLINE_WHEEL_HPP
