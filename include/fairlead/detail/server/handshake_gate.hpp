// fairlead: how many TLS handshakes are in progress at once, and that they do not starve the open
// connections. Who has a place, and for how long, is in handshake_places.hpp.

#ifndef FAIRLEAD_DETAIL_SERVER_HANDSHAKE_GATE_HPP
#define FAIRLEAD_DETAIL_SERVER_HANDSHAKE_GATE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/server/handshake_places.hpp>
#include <fairlead/detail/util/sleeper.hpp>

#include <asio/awaitable.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A handshake that has waited for its peer for so long in all gives way to the next.
inline constexpr std::chrono::milliseconds longest_handshake_wait{100};

/// Two queues. A *place* is held from the complete ClientHello to the handshake's end, or until it
/// gives way. A *turn* is held for one cryptographic step: the next is posted, so that between two
/// steps everything else that is ready runs. One thread.
class handshake_gate : private deadline_wheel::node
{
public:
    class visitor;

    /// 0: any number of places.
    handshake_gate(environment& home, std::size_t places)
        : node(&handshake_gate::time_to_look), home_(home), places_(places, longest_handshake_wait)
    {}

    handshake_gate(const handshake_gate&) = delete;
    handshake_gate& operator=(const handshake_gate&) = delete;

    ~handshake_gate()
    {
        home_.cancel(*this);
    }

private:
    struct turns;

    static void time_to_look(node& gate, deadline_wheel::time_point now)
    {
        auto& self = static_cast<handshake_gate&>(gate);
        self.places_.look(now);
        self.expect_next_look();
    }

    void expect_next_look()
    {
        const auto next = places_.next_look();
        if (next != environment::time_point::max()) {
            home_.schedule_by(*this, next);
        }
        rest_when_nobody_queues();
    }

    void rest_when_nobody_queues() noexcept
    {
        if (is_scheduled() && places_.next_look() == environment::time_point::max()) {
            home_.cancel(*this);
        }
    }

    environment& home_;
    handshake_places places_;
    intrusive_list<visitor, turns> turns_queue_;
    bool is_turn_taken_ = false;
};

/// One handshake at the gate: a local of its coroutine. What it holds goes back with it.
class handshake_gate::visitor final : public handshake_places::handshake, public list_hook<turns>
{
public:
    explicit visitor(handshake_gate& gate) noexcept : gate_(gate)
    {}

    visitor(const visitor&) = delete;
    visitor& operator=(const visitor&) = delete;

    ~visitor()
    {
        list_hook<turns>::unlink();
        end_turn();
        leave();
    }

    /// True: it goes on. False: it is in the queue, and `bed` is woken when it has a place.
    bool enter()
    {
        const bool has_entered = gate_.places_.enter(*this, environment::clock::now());
        gate_.expect_next_look();
        return has_entered;
    }

    void leave()
    {
        gate_.places_.leave(*this);
        gate_.rest_when_nobody_queues();
    }

    /// It waits for its peer.
    void waits()
    {
        gate_.places_.waits(*this, environment::clock::now());
        gate_.expect_next_look();
    }

    void continues()
    {
        gate_.places_.continues(*this, environment::clock::now());
    }

    asio::awaitable<void> take_turn()
    {
        if (!gate_.is_turn_taken_) {
            gate_.is_turn_taken_ = has_turn_ = true;
        } else {
            gate_.turns_queue_.push_back(*this);
        }
        while (!has_turn_) {
            co_await bed().sleep();
        }
    }

    void end_turn() noexcept
    {
        if (!std::exchange(has_turn_, false)) {
            return;
        }
        if (gate_.turns_queue_.empty()) {
            gate_.is_turn_taken_ = false;
            return;
        }
        visitor& next = gate_.turns_queue_.front();
        next.list_hook<turns>::unlink();
        next.has_turn_ = true;
        next.wake();
    }

    /// Where it sleeps when it has to.
    sleeper& bed()
    {
        if (!bed_) {
            bed_.emplace(gate_.home_.get_executor());
        }
        return *bed_;
    }

private:
    void placed() noexcept override
    {
        wake();
    }

    void wake() noexcept
    {
        if (bed_) { // else it is not asleep yet, and sees what it waits for
            bed_->wake();
        }
    }

    handshake_gate& gate_;
    std::optional<sleeper> bed_;
    bool has_turn_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_HANDSHAKE_GATE_HPP
