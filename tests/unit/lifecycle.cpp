// The life of a connection, beside a naive model of it: plain facts, and each rule written down once more
// from what a connection promises. Every event in every state that a few events lead to, and a million
// random steps.

#include "support/catch.hpp"
#include <fairlead/detail/connection/lifecycle.hpp>
#include <fairlead/detail/connection/refusals.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::errc;
using fairlead::detail::actions;
using fairlead::detail::error_kind;
using fairlead::detail::lifecycle;
using fairlead::detail::message_queue;
using fairlead::detail::socket_step;
using fairlead::detail::write_kind;

namespace test::lives
{
using time_point = lifecycle::time_point;
using phase = lifecycle::phase;
constexpr time_point never = time_point::max();

enum class event : std::uint8_t
{
    pre_open_begins,
    opens,
    closing_begins,
    closes,
    closes_by_reset,
    idle_too_long,
    evicted_at_once,
    handler_closes,
    child_begins,
    child_returns,
    handler_returns_before_children,
    read_begins,
    wait_begins,
    read_ends,
    handshake_begins,
    handshake_ends,
    write_begins,
    next_of_composed_begins,
    queue_write_begins,
    kernel_takes_some,
    kernel_takes_all,
    kernel_takes_none,
    write_ends,
    write_fails,
    no_memory_to_wait,
    write_handler_begins,
    write_handler_returns,
    composed_write_is_cut,
    messages_are_queued,
    messages_are_with_the_kernel,
    messages_are_done,
    messages_are_lost,
    sender_begins,
    sender_ends,
    end_is_asked_for,
    room_is_sought,
    room_is_found,
    end_is_sent,
    end_cannot_be_sent,
    peer_finishes,
    peer_resets,
    peer_is_gone,
    drain_finds_nothing,
    drain_finds_input,
    drain_sends_away,
    queue_shall_be_delivered,
    write_is_over,
    count
};

/// What is known of a connection, without a thought about how that hangs together. No padding that
/// matters: it is compared as bytes.
struct facts
{
    std::uint8_t now_in = 0; // phase
    std::uint8_t tasks = 0;
    std::uint8_t reason = 0;
    std::uint8_t messages = 0;
    std::uint8_t kind = 0;
    std::uint8_t unsent = 0;
    std::uint8_t senders = 0;
    bool is_stopped = false;
    bool reads = false;
    bool waits = false;
    bool shakes_hands = false;
    bool writes = false;
    bool write_waited = false;
    bool handler_of_write_runs = false;
    bool part_was_sent = false;
    bool lost_messages = false;
    bool record_may_be_cut = false;
    bool end_was_asked_for = false;
    bool seeks_room = false;
    bool has_finished = false;
    bool delivers = false;
    bool is_orphaned = false;
    bool peer_finished = false;
    bool was_reset = false;
    bool sending_failed = false;
    bool peer_is_gone = false;
    bool wait_must_end = false;
    bool has_time_to_close = false;

    bool operator<(const facts& other) const
    {
        return std::memcmp(this, &other, sizeof *this) < 0;
    }

    bool operator==(const facts& other) const
    {
        return std::memcmp(this, &other, sizeof *this) == 0;
    }
};
static_assert(std::has_unique_object_representations_v<facts>);

/// What an event must lead to.
struct effect
{
    bool wakes = false;
    bool cancels = false;
    socket_step socket = socket_step::none;
    bool wakes_senders = false;
    bool sets_time_to_close = false;

    bool operator==(const effect&) const = default;
};

/// How a server was configured.
struct kind_of_server
{
    bool is_tls;
    bool lingers;
};

class model
{
public:
    explicit model(kind_of_server kind) : kind_(kind)
    {}

    facts now;

    bool is_open() const
    {
        return now.now_in != 3;
    }

    bool is_sending() const
    {
        return now.writes || now.messages != 0;
    }

    bool has_unsent() const
    {
        return now.unsent != 0 || now.messages == 2;
    }

    bool is_cut() const
    {
        return now.part_was_sent || now.lost_messages;
    }

    bool cannot_write() const
    {
        return now.is_stopped || now.sending_failed || now.was_reset;
    }

    bool has_finished() const
    {
        return now.has_finished || (kind_.is_tls && now.record_may_be_cut);
    }

    bool may_read() const
    {
        return !now.reads && !now.waits && !now.shakes_hands && !now.is_stopped &&
               !now.peer_finished && !now.was_reset;
    }

    bool may_write(write_kind kind) const
    {
        if (kind == write_kind::whole) {
            return !now.writes && now.messages != 2 && !cannot_write() && !has_finished() &&
                   !now.shakes_hands && !now.end_was_asked_for;
        }
        const bool may_though_stopped = kind == write_kind::queued && now.delivers && is_open();
        return !now.writes && !now.shakes_hands && !has_finished() &&
               (!cannot_write() || may_though_stopped);
    }

    bool may_say_goodbye() const
    {
        return !now.record_may_be_cut && !is_cut() && !now.was_reset;
    }

    effect quiet_close() const
    {
        const bool notifies = may_say_goodbye() && !has_unsent();
        return {.socket = notifies ? socket_step::notify_and_close : socket_step::close};
    }

    /// Nothing is on its way any more: the end, as good a one as it can be.
    effect end_of_stopped()
    {
        if (!now.is_stopped || now.now_in >= 2 || is_sending() || now.handler_of_write_runs) {
            return {};
        }
        if (is_cut()) {
            return {.socket = socket_step::reset};
        }
        effect result{.cancels = std::exchange(now.delivers, false)};
        if (!kind_.lingers) {
            result.socket = quiet_close().socket;
        } else if (!kind_.is_tls || (now.now_in == 1 && !now.shakes_hands && may_say_goodbye())) {
            result.socket = socket_step::finish;
        }
        return result;
    }

    effect stopped()
    {
        if (now.now_in >= 2) {
            return {.wakes = true};
        }
        if (!kind_.lingers && !is_sending() && !now.handler_of_write_runs) {
            return {.wakes = true, .socket = quiet_close().socket};
        }
        effect result;
        if (!now.delivers) {
            result = end_of_stopped();
            result.cancels = true;
        }
        result.wakes = true;
        result.sets_time_to_close = !std::exchange(now.has_time_to_close, true);
        return result;
    }

    effect cut() const
    {
        return {
            .socket = now.is_stopped ? socket_step::reset : socket_step::none,
            .wakes_senders = true};
    }

    effect wait_ends()
    {
        now.wait_must_end = true;
        return {.cancels = !now.writes};
    }

    socket_step closes(bool by_reset)
    {
        if (!is_open()) {
            return socket_step::none;
        }
        now.now_in = 3;
        return by_reset || has_unsent() || is_cut() ? socket_step::reset : socket_step::close;
    }

    kind_of_server kind_;
};

/// A connection and its model, led through the same events.
class pair
{
public:
    explicit pair(kind_of_server kind)
        : config_{.pre_open_timeout = 0ms, .idle_timeout = 0ms, .linger = kind.lingers ? 3000ms : 0ms},
          kind_(kind),
          naive(kind)
    {
        config_.tls_close_timeout = kind.lingers ? 3000ms : 0ms;
    }

    /// False: that cannot happen now. `problem` says what the two do not agree upon.
    bool apply(event what)
    {
        facts& now = naive.now;
        const auto guard = [](bool condition, auto&& act) {
            if (condition) {
                act();
            }
            return condition;
        };
        const bool has_handler = now.now_in == 1 && now.tasks != 0;
        const bool may_operate = has_handler || now.tasks != 0;
        switch (what) {
        case event::pre_open_begins:
            return guard(now.now_in == 0 && !now.is_stopped && !has_begun_, [&] {
                has_begun_ = true;
                life.enter(phase::pre_open, clock_);
            });
        case event::opens:
            return guard(now.now_in == 0 && !now.is_stopped, [&] {
                now.now_in = 1;
                now.tasks = 1;
                life.enter(phase::open, clock_);
                expect(life.task_begins(), "the handler is the first task");
            });
        case event::closing_begins:
            return guard(
                (now.now_in == 0 || now.now_in == 1) && now.tasks == 0 && now.is_stopped &&
                    !is_busy(),
                [&] {
                    now.now_in = 2;
                    life.enter(phase::closing, clock_);
                });
        case event::closes:
        case event::closes_by_reset: {
            const bool by_reset = what == event::closes_by_reset;
            const auto meant = naive.closes(by_reset);
            expect(life.closes(by_reset, messages()) == meant, "how it closes");
            return meant != socket_step::none;
        }
        case event::idle_too_long: {
            const bool is_first = !std::exchange(now.is_stopped, true);
            note(is_first, close_reason::idle_timeout);
            compare(
                life.stop(close_reason::idle_timeout, errc::idle_timeout, clock_, around()),
                is_first ? naive.stopped() : effect{});
            return true;
        }
        case event::evicted_at_once: {
            const bool is_first = !std::exchange(now.is_stopped, true);
            note(is_first, close_reason::evicted);
            compare(
                life.stop_at_once(close_reason::evicted, errc::connection_closed),
                {.wakes = is_first, .socket = socket_step::close});
            return true;
        }
        case event::handler_closes:
            return guard(may_operate && !now.is_stopped, [&] {
                conclude();
                compare(life.stops_as_noted(clock_, around()), naive.stopped());
            });
        case event::child_begins:
            return guard(now.tasks != 0 && now.tasks < 2, [&] {
                ++now.tasks;
                expect(!life.task_begins(), "a child is not the first task");
            });
        case event::child_returns:
            return guard(now.tasks != 0, [&] {
                --now.tasks;
                expect(life.task_ends() == (now.tasks == 0), "which task is the last");
                if (now.tasks == 0 && !now.is_stopped) {
                    conclude();
                }
            });
        case event::handler_returns_before_children:
            return guard(now.tasks != 0 && !now.is_orphaned, [&] {
                now.is_orphaned = true;
                effect meant = now.waits ? naive.wait_ends() : effect{};
                meant.wakes = true;
                compare(life.children_are_left(), meant);
            });
        case event::read_begins:
            return guard(may_operate && naive.may_read(), [&] {
                now.reads = true;
                life.input.read_begins();
            });
        case event::wait_begins:
            return guard(may_operate && naive.may_read(), [&] {
                now.waits = true;
                life.input.wait_begins();
            });
        case event::read_ends:
            return guard(now.reads || now.waits, [&] {
                const bool must_end = now.waits && now.wait_must_end;
                if (now.waits) {
                    now.wait_must_end = false;
                    expect(life.input.take_must_end() == must_end, "that the wait had to end");
                }
                now.reads = now.waits = false;
                life.input.operation_ends();
            });
        case event::handshake_begins:
            return guard(
                has_handler && naive.may_read() && !naive.is_sending() && !kind_.is_tls, [&] {
                    now.shakes_hands = true;
                    life.input.handshake_begins();
                });
        case event::handshake_ends:
            return guard(now.shakes_hands, [&] {
                now.shakes_hands = false;
                life.input.operation_ends();
            });
        case event::write_begins:
            return begins_to_write(may_operate, write_kind::whole);
        case event::next_of_composed_begins:
            return begins_to_write(may_operate && now.handler_of_write_runs, write_kind::continued);
        case event::queue_write_begins:
            return begins_to_write(now.messages == 2, write_kind::queued);
        case event::kernel_takes_some:
            return takes(now.unsent > 1 ? 1 : 0, true, now.unsent > 1);
        case event::kernel_takes_all:
            return takes(now.unsent, false, now.unsent != 0);
        case event::kernel_takes_none:
            return takes(0, true, true);
        case event::write_ends:
            return ends_write({});
        case event::write_fails:
            return ends_write(std::make_error_code(std::errc::connection_reset));
        case event::no_memory_to_wait:
            return guard(now.writes && naive.is_open(), [&] {
                now.record_may_be_cut =
                    now.record_may_be_cut ||
                    (kind_.is_tls && (now.write_waited || now.unsent != longest));
                now.part_was_sent = now.part_was_sent || now.unsent != longest || now.kind == 1;
                now.writes = now.write_waited = false;
                now.unsent = 0;
                compare(life.write_could_not_wait(longest, kind_.is_tls), naive.cut());
            });
        case event::write_handler_begins:
            return guard(!now.writes && !now.handler_of_write_runs && now.tasks != 0, [&] {
                now.handler_of_write_runs = true;
                expect(!life.output.completes(true), "that no handler of a write ran");
            });
        case event::write_handler_returns:
            return guard(now.handler_of_write_runs, [&] {
                now.handler_of_write_runs = false;
                expect(life.output.completes(false), "that a handler of a write ran");
            });
        case event::composed_write_is_cut:
            return guard(now.handler_of_write_runs && !now.writes, [&] {
                now.part_was_sent = true;
                life.output.part_was_sent();
                compare(life.was_cut(), naive.cut());
            });
        case event::messages_are_queued:
            return guard(
                !naive.cannot_write() && has_handler && !now.end_was_asked_for && now.messages != 2,
                [&] { now.messages = 2; });
        case event::messages_are_with_the_kernel:
            return guard(
                now.messages == 2 && now.writes && now.kind == 2, [&] { now.messages = 1; });
        case event::messages_are_done:
            return guard(now.messages == 1 && !now.writes, [&] { now.messages = 0; });
        case event::messages_are_lost:
            return guard(now.messages == 2 && !now.writes, [&] {
                now.messages = 0;
                now.lost_messages = true;
                life.output.messages_are_lost();
                compare(life.was_cut(), naive.cut());
            });
        case event::sender_begins:
            return guard(has_handler && now.senders == 0, [&] {
                ++now.senders;
                life.output.sender_begins();
            });
        case event::sender_ends:
            return guard(now.senders != 0, [&] {
                --now.senders;
                life.output.sender_ends();
            });
        case event::end_is_asked_for:
            return guard(may_operate && naive.is_open() && !naive.cannot_write(), [&] {
                now.end_was_asked_for = true;
                life.output.shall_end();
            });
        case event::room_is_sought:
            return guard(kind_.is_tls && shall_finish(), [&] {
                now.seeks_room = true;
                life.output.seeks_room();
            });
        case event::room_is_found:
            return guard(now.seeks_room, [&] {
                now.seeks_room = false;
                life.output.stops_seeking();
            });
        case event::end_is_sent:
            return guard(naive.is_open() && (shall_finish() || now.now_in == 2), [&] {
                expect(life.output.finishes() == !now.has_finished, "that our end is told once");
                now.has_finished = true;
                now.seeks_room = false;
            });
        case event::end_cannot_be_sent:
            return guard(shall_finish(), [&] {
                now.record_may_be_cut = now.record_may_be_cut || kind_.is_tls;
                now.sending_failed = now.sending_failed || (!now.is_stopped && !now.was_reset);
                if (kind_.is_tls) {
                    life.output.record_was_cut();
                }
                life.end.sending_failed(
                    std::make_error_code(std::errc::no_buffer_space), error_kind::other);
            });
        case event::peer_finishes:
            return guard(now.reads, [&] {
                now.peer_finished = now.peer_finished || !now.is_stopped;
                life.end.explain(std::make_error_code(std::errc::no_message), error_kind::end);
            });
        case event::peer_resets:
            return guard(now.reads || now.waits || now.writes, [&] { resets(); });
        case event::peer_is_gone:
            return guard(naive.is_open(), [&] {
                now.peer_is_gone = true;
                life.peer_has_gone();
            });
        case event::drain_finds_nothing:
        case event::drain_finds_input:
            return guard(naive.is_open() && now.now_in == 1, [&] {
                const bool finds = what == event::drain_finds_input;
                const effect meant = now.waits && !finds ? naive.wait_ends() : effect{};
                compare(life.drain_begins(100, finds ? 1 : 0), meant);
            });
        case event::drain_sends_away:
            return guard(now.now_in == 0, [&] {
                const bool is_first = !std::exchange(now.is_stopped, true);
                note(is_first, close_reason::drained);
                compare(life.is_sent_away(), {.wakes = is_first, .socket = socket_step::close});
            });
        case event::queue_shall_be_delivered:
            return guard(may_operate && !now.is_stopped, [&] {
                const bool is_behind_others = now.writes && now.kind != 2 && now.unsent != 0;
                now.delivers = !is_behind_others && naive.has_unsent();
                life.delivers(messages());
            });
        case event::write_is_over:
            return guard(!now.writes, [&] {
                compare(life.finishes_when_stopped(around()), naive.end_of_stopped());
            });
        case event::count:
            break;
        }
        return false;
    }

    /// Whatever can be asked is answered alike.
    void check()
    {
        const facts& now = naive.now;
        expect(static_cast<std::uint8_t>(life.current()) == now.now_in, "phase");
        expect(life.is_stopped() == now.is_stopped, "whether it is stopped");
        expect(
            !now.is_stopped || static_cast<std::uint8_t>(life.end.reason()) == now.reason,
            "the first reason stays");
        expect(life.is_over() == (!naive.is_open() && now.tasks == 0), "whether it is over");
        expect(life.is_sending(messages()) == naive.is_sending(), "whether it sends");
        expect(life.has_unsent(messages()) == naive.has_unsent(), "unsent");
        expect(life.may_say_goodbye() == naive.may_say_goodbye(), "goodbye");
        expect(life.shall_finish(around()) == shall_finish(), "whether our end comes now");
        expect(
            life.has_ended() == (now.peer_is_gone || !naive.is_open() || now.is_stopped ||
                                 now.peer_finished || now.was_reset || now.sending_failed),
            "whether it has ended");
        expect(
            life.may_give_way() ==
                (!now.is_stopped &&
                 (now.now_in == 0 || (now.now_in == 1 && (now.reads || now.waits) && !now.writes))),
            "whether it may be evicted");
        expect(!refuses_read(life, false) == naive.may_read(), "whether a read may begin");
        for (const auto kind : {write_kind::whole, write_kind::continued, write_kind::queued}) {
            expect(
                !refuses_write(life, kind, around()) == naive.may_write(kind),
                "whether a write may begin");
        }
        if (now.is_stopped) {
            expect(
                refuses_read(life, true) == life.end.stop_code(), "what ends a read when stopped");
        }
    }

    lifecycle life;
    std::string problem;

private:
    static constexpr std::uint8_t longest = 2;

    fairlead::server_config config_;
    kind_of_server kind_;
    time_point clock_ = time_point() + 1h;
    bool has_begun_ = false;

public:
    model naive;

private:
    lifecycle::surroundings around() const
    {
        return {.config = config_, .is_tls = kind_.is_tls, .messages = messages()};
    }

    message_queue messages() const
    {
        return static_cast<message_queue>(naive.now.messages);
    }

    bool is_busy() const
    {
        const facts& now = naive.now;
        return now.reads || now.waits || now.writes || now.shakes_hands ||
               now.handler_of_write_runs || now.messages != 0;
    }

    bool shall_finish() const
    {
        const facts& now = naive.now;
        return now.end_was_asked_for && !now.seeks_room && !naive.is_sending() &&
               now.senders == 0 && !now.handler_of_write_runs && !now.shakes_hands &&
               naive.is_open() && !naive.has_finished() && !naive.is_cut() && !naive.cannot_write();
    }

    /// What was met before is not what ends it.
    void note(bool is_first, close_reason reason)
    {
        if (is_first) {
            naive.now.reason = static_cast<std::uint8_t>(reason);
            naive.now.was_reset = naive.now.sending_failed = false;
        }
    }

    void conclude()
    {
        naive.now.is_stopped = true;
        life.end.conclude(false, {}, false);
        naive.now.reason = static_cast<std::uint8_t>(life.end.reason());
        naive.now.sending_failed = false;
    }

    void resets()
    {
        facts& now = naive.now;
        if (!now.is_stopped) {
            now.was_reset = true;
        }
        life.end.explain(std::make_error_code(std::errc::connection_reset), error_kind::reset);
    }

    bool begins_to_write(bool is_possible, write_kind kind)
    {
        facts& now = naive.now;
        if (!is_possible || !naive.may_write(kind)) {
            return false;
        }
        now.writes = true;
        now.write_waited = false;
        now.kind = static_cast<std::uint8_t>(kind);
        now.unsent = longest;
        now.part_was_sent = now.part_was_sent && kind != write_kind::whole;
        life.output.write_begins(longest, kind);
        return true;
    }

    bool takes(std::uint8_t bytes, bool waits, bool is_possible)
    {
        facts& now = naive.now;
        if (!now.writes || !is_possible) {
            return false;
        }
        now.unsent = static_cast<std::uint8_t>(now.unsent - bytes);
        const bool restarts = waits && (bytes != 0 || !now.write_waited);
        now.write_waited = now.write_waited || waits;
        expect(life.output.was_taken(bytes, waits) == restarts, "whether the clock starts again");
        return true;
    }

    bool ends_write(const std::error_code& error)
    {
        facts& now = naive.now;
        if (!now.writes) {
            return false;
        }
        if (naive.is_open()) {
            now.record_may_be_cut = now.record_may_be_cut || error;
            now.part_was_sent = now.part_was_sent || (error && now.kind == 1);
            const bool goes_on = now.delivers && now.kind == 2;
            effect meant = error || (now.unsent != 0 && !goes_on) ? naive.cut() : effect{};
            meant.cancels = now.waits && now.wait_must_end;
            compare(life.write_ends(error), meant);
            if (error) {
                resets();
            }
        }
        now.writes = now.write_waited = false;
        now.unsent = 0;
        life.output.write_ends();
        return true;
    }

    void expect(bool holds, std::string_view what)
    {
        if (!holds && problem.empty()) {
            problem = what;
        }
    }

    void compare(const actions& told, const effect& meant)
    {
        const effect is{
            .wakes = told.wakes,
            .cancels = told.cancels,
            .socket = told.socket,
            .wakes_senders = told.wakes_senders,
            .sets_time_to_close = told.look_by != never};
        expect(is == meant, "what is to be done");
    }
};

std::string story(const std::vector<event>& events)
{
    std::string text;
    for (const event each : events) {
        text += std::to_string(static_cast<int>(each)) + " ";
    }
    return text;
}

constexpr auto all_events = static_cast<std::size_t>(event::count);
} // namespace test::lives

using namespace test::lives;

TEST_CASE("every event has its meaning in every state of a connection", "[lifecycle]")
{
    const kind_of_server kind{.is_tls = GENERATE(false, true), .lingers = GENERATE(false, true)};
    CAPTURE(kind.is_tls, kind.lingers);
    std::map<facts, std::vector<event>> ways = {{facts{}, {}}};
    std::vector<std::vector<event>> next = {{}};
    std::size_t steps = 0;
    for (int depth = 0; depth < 6 && !next.empty(); ++depth) {
        std::vector<std::vector<event>> found;
        for (const auto& way : next) {
            for (std::size_t index = 0; index < all_events; ++index) {
                pair both(kind);
                for (const event each : way) {
                    both.apply(each);
                }
                const bool is_possible = both.apply(static_cast<event>(index));
                both.check();
                if (!both.problem.empty()) {
                    FAIL(both.problem << ": " << story(way) << index);
                }
                ++steps;
                if (is_possible) {
                    auto longer = way;
                    longer.push_back(static_cast<event>(index));
                    if (ways.emplace(both.naive.now, longer).second) {
                        found.push_back(std::move(longer));
                    }
                }
            }
        }
        next = std::move(found);
    }
    CHECK(ways.size() > 1000);
    CHECK(steps > 10'000);
}

TEST_CASE("a million steps of connections agree with a naive model", "[lifecycle]")
{
    std::mt19937 draw(20'250'101); // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    std::size_t steps = 0;
    while (steps < 1'000'000) {
        pair both({.is_tls = draw() % 2 == 0, .lingers = draw() % 2 == 0});
        std::vector<event> way;
        for (int tries = 0; tries < 200; ++tries) {
            const auto what = static_cast<event>(draw() % all_events);
            // Ends come seldom, or every life were short.
            const bool is_end = what == event::closes || what == event::closes_by_reset ||
                                what == event::evicted_at_once || what == event::drain_sends_away ||
                                what == event::idle_too_long || what == event::handler_closes ||
                                what == event::peer_resets || what == event::write_fails;
            if (is_end && draw() % 16 != 0) {
                continue;
            }
            if (!both.apply(what)) {
                continue;
            }
            way.push_back(what);
            ++steps;
            both.check();
            if (!both.problem.empty()) {
                FAIL(both.problem << ": " << story(way));
            }
        }
    }
    CHECK(steps >= 1'000'000);
}

// What time means: the deadlines themselves are tested in deadlines.cpp.

namespace test::lives
{
constexpr auto epoch = time_point() + 1h;

/// A life of a connection whose server is configured so.
struct timed
{
    explicit timed(fairlead::server_config with, bool tls = false)
        : config(std::move(with)), is_tls(tls)
    {
        life.times.last_activity = epoch;
    }

    lifecycle::surroundings around() const
    {
        return {.config = config, .is_tls = is_tls, .messages = messages};
    }

    actions look(std::chrono::milliseconds after, bool has_pending = false)
    {
        const auto facts = [has_pending] {
            return fairlead::detail::deadlines::outgoing{.acknowledged = 0, .pending = has_pending};
        };
        return life.look(epoch + after, around(), facts, [] { return epoch + 1h; });
    }

    fairlead::server_config config;
    bool is_tls;
    message_queue messages = message_queue::empty;
    lifecycle life;
};

fairlead::server_config quiet()
{
    return {.pre_open_timeout = 0ms, .idle_timeout = 0ms, .write_timeout = 0ms, .linger = 0ms};
}
} // namespace test::lives

TEST_CASE("time ends what has not begun, at once", "[lifecycle]")
{
    timed one(quiet());
    one.life.enter(phase::pre_open, epoch, epoch + 10s);
    CHECK(one.look(9s).next_look == epoch + 10s);
    const actions todo = one.look(10s);
    CHECK(todo.wakes);
    CHECK(todo.socket == socket_step::close);
    CHECK(one.life.end.reason() == close_reason::pre_open_timeout);
}

TEST_CASE("a handler that starts in time is not late", "[lifecycle]")
{
    timed one(quiet());
    one.life.enter(phase::pre_open, epoch, epoch + 10s);
    one.life.enter(phase::open, epoch + 1s);
    CHECK(one.look(1h).next_look == never);
    CHECK_FALSE(one.life.is_stopped());
}

TEST_CASE(
    "silence ends a connection in order, and closing has its time from then on", "[lifecycle]")
{
    auto config = quiet();
    config.idle_timeout = 5s;
    config.linger = 2s;
    config.tls_close_timeout = 3s;
    const bool is_tls = GENERATE(false, true);
    timed one(config, is_tls);
    one.life.enter(phase::open, epoch);
    CHECK(one.look(4s).next_look == epoch + 5s);
    const actions todo = one.look(5s);
    CHECK(todo.wakes);
    CHECK(todo.cancels);
    CHECK(todo.socket == socket_step::finish);
    CHECK(todo.look_by == epoch + 1h + (is_tls ? 3s : 2s)); // by the clock, not by the wheel
    CHECK(one.life.end.reason() == close_reason::idle_timeout);
    CHECK(one.look(1h).next_look == todo.look_by);
    const actions end = one.look(1h + 3s);
    CHECK(end.socket == socket_step::notify_and_close);
    CHECK_FALSE(end.wakes);
}

TEST_CASE("who takes nothing of a write is reset", "[lifecycle]")
{
    auto config = quiet();
    config.write_timeout = 10s;
    timed one(config);
    one.life.enter(phase::open, epoch);
    one.life.output.write_begins(100, write_kind::whole);
    one.life.times.write_begins(epoch);
    CHECK(one.look(20s, true).next_look == never); // it does not wait: nothing is the peer's fault
    REQUIRE(one.life.output.was_taken(10, true));
    CHECK(one.look(4s, true).next_look == epoch + 5s);
    CHECK(one.look(5s, true).socket == socket_step::none);
    CHECK(one.look(10s, true).socket == socket_step::none); // half the time unchanged
    const actions todo = one.look(15s, true);
    CHECK(todo.socket == socket_step::reset);
    CHECK(one.life.end.reason() == close_reason::write_timeout);
}

TEST_CASE("room for close_notify is waited for no longer than for a write's", "[lifecycle]")
{
    auto config = quiet();
    config.write_timeout = 10s;
    timed one(config, true);
    one.life.enter(phase::open, epoch);
    one.life.output.shall_end();
    one.life.output.seeks_room();
    one.life.times.write_begins(epoch);
    CHECK(one.look(4s, true).next_look == epoch + 5s);
    one.life.output.stops_seeking();
    CHECK(one.look(4s, true).next_look == never);
}

TEST_CASE("what was sent has a second to leave when nothing lingers", "[lifecycle]")
{
    timed one(quiet());
    one.life.enter(phase::open, epoch);
    one.messages = message_queue::unsent;
    one.life.delivers(one.messages);
    one.life.end.conclude(false, {}, false);
    const actions todo = one.life.stops_as_noted(epoch, one.around());
    CHECK(todo.look_by == epoch + 1s);
    CHECK_FALSE(todo.cancels);
    CHECK(todo.socket == socket_step::none);
    const actions again = one.life.stops_as_noted(epoch + 500ms, one.around());
    CHECK(again.look_by == never); // it has its time already
}

TEST_CASE("what is refused is refused with its reason", "[lifecycle]")
{
    timed one(quiet());
    one.life.enter(phase::open, epoch);
    CHECK_FALSE(refuses_read(one.life, false));
    one.life.input.read_begins();
    CHECK(refuses_read(one.life, true) == std::errc::operation_in_progress);
    one.life.input.operation_ends();
    one.life.output.shall_end();
    CHECK(refuses_output(one.life, false) == std::errc::broken_pipe);
    CHECK_FALSE(refuses_rest(one.life, false));
    CHECK(one.life.output.finishes());
    CHECK(refuses_rest(one.life, false) == std::errc::broken_pipe);
    for (const auto kind : {write_kind::whole, write_kind::continued, write_kind::queued}) {
        CHECK(refuses_write(one.life, kind, one.around()) == std::errc::broken_pipe);
    }
    const auto reset = std::make_error_code(std::errc::connection_reset);
    CHECK(one.life.end.explain(
        std::make_error_code(std::errc::operation_canceled), error_kind::cancelled));
    CHECK_FALSE(one.life.end.has_transport_error());
    CHECK(one.life.end.explain(reset, error_kind::reset) == reset);
    CHECK(refuses_read(one.life, false) == reset);
    CHECK_FALSE(refuses_read(one.life, true)); // what has arrived can still be read
    one.life.end.conclude(false, {}, false);
    CHECK(one.life.end.reason() == close_reason::peer_reset);
    CHECK(refuses_read(one.life, true) == one.life.end.stop_code());
}

TEST_CASE("an end that cannot be sent says whose doing it was", "[lifecycle]")
{
    using fairlead::detail::error_kind;
    const auto kind = GENERATE(error_kind::broken, error_kind::other);
    timed one(quiet());
    one.life.enter(phase::open, epoch);
    one.life.end.sending_failed(std::make_error_code(std::errc::broken_pipe), kind);
    one.life.end.conclude(false, {}, false);
    CHECK(
        one.life.end.reason() ==
        (kind == error_kind::broken ? close_reason::peer_reset : close_reason::transport_error));
}

TEST_CASE(
    "a drain owes replies for what had come, also to an operation that had taken it", "[lifecycle]")
{
    timed one(quiet());
    one.life.enter(phase::open, epoch);
    one.life.input.owes_first_reply(epoch);
    one.life.input.wait_begins();
    CHECK_FALSE(one.life.drain_begins(100, 20).cancels);
    CHECK_FALSE(one.life.input.is_first_reply_owed());
    CHECK_FALSE(one.life.input.is_sent_home());
    CHECK(one.life.input.owes_reply_behind(119));
    CHECK_FALSE(one.life.input.owes_reply_behind(120));
    one.life.input.was_taken(30); // it was pending when the drain began
    CHECK(one.life.input.owes_reply_behind(149));
    one.life.input.was_taken(30);
    CHECK_FALSE(one.life.input.owes_reply_behind(150));
    CHECK(one.life.drain_begins(100, 0).cancels);
    CHECK(one.life.input.is_sent_home());
    lifecycle unborn;
    CHECK(unborn.is_sent_away().socket == socket_step::close);
    CHECK(unborn.input.is_sent_home());
}

TEST_CASE("a stop in the middle of a handshake leaves TLS alone", "[lifecycle]")
{
    auto config = quiet();
    config.tls_close_timeout = 3s;
    timed one(config);
    one.life.enter(phase::open, epoch);
    one.life.input.handshake_begins();
    one.is_tls = true;
    const actions todo =
        one.life.stop(close_reason::evicted, errc::connection_closed, epoch, one.around());
    CHECK(todo.cancels);
    CHECK(todo.socket == socket_step::none);
}

TEST_CASE("output is told of once, tasks that are gone are counted once", "[lifecycle]")
{
    lifecycle life;
    life.output.write_begins(2, write_kind::whole);
    life.output.was_taken(1, true);
    CHECK(life.output.take_untold());
    CHECK_FALSE(life.output.take_untold());
    CHECK_FALSE(life.tasks_are_gone());
    life.task_begins();
    CHECK(life.tasks_are_gone());
    CHECK_FALSE(life.tasks_are_gone());
}
