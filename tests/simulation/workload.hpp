// A random workload: servers of every kind, clients of every kind, faults of every kind, and an
// operator who does not sit still. Then everything heals, and service must be back.

#ifndef FAIRLEAD_TESTS_SIMULATION_WORKLOAD_HPP
#define FAIRLEAD_TESTS_SIMULATION_WORKLOAD_HPP

#include "simulation/choices.hpp"
#include "simulation/workload_clients.hpp"
#include "simulation/workload_servers.hpp"
#include <fairlead/testing/simulation.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace workload
{
struct fault
{
    const char* calls;
    int error;
};

/// What Linux's manual pages name, and libraries must survive.
inline const std::vector<fault>& faults()
{
    static const std::vector<fault> all = {
        {"accept*", EMFILE},       {"accept*", ENFILE},       {"accept*", ENOBUFS},
        {"accept*", ENOMEM},       {"accept*", ECONNABORTED}, {"accept*", ECONNRESET},
        {"accept*", EPROTO},       {"accept*", EPERM},        {"accept*", EINTR},
        {"accept*", ENETDOWN},     {"accept*", ENETUNREACH},  {"accept*", EHOSTDOWN},
        {"accept*", EHOSTUNREACH}, {"accept*", ENONET},       {"accept*", ENOPROTOOPT},
        {"accept*", EOPNOTSUPP},   {"accept*", ETIMEDOUT},    {"accept*", EINVAL},
        {"accept*", EAGAIN},       {"recv*", ECONNRESET},     {"recv*", EINTR},
        {"recv*", EAGAIN},         {"recv*", ETIMEDOUT},      {"recv*", ENOMEM},
        {"recv*", EHOSTUNREACH},   {"recv*", ENETUNREACH},    {"recv*", EPIPE},
        {"send*", ECONNRESET},     {"send*", EPIPE},          {"send*", EINTR},
        {"send*", EAGAIN},         {"send*", ENOBUFS},        {"send*", ENOMEM},
        {"send*", ETIMEDOUT},      {"send*", EHOSTUNREACH},   {"send*", ENETUNREACH},
        {"setsockopt", ENOBUFS},   {"setsockopt", EINVAL},    {"getsockname", ENOBUFS},
        {"shutdown", ENOTCONN},    {"ioctl", ENOTTY},         {"epoll_ctl", ENOMEM},
        {"epoll_ctl", ENOSPC},     {"epoll_wait", EINTR},     {"close", EINTR},
    };
    return all;
}

class world
{
public:
    world(simulation& in, choices& draw, std::uint64_t most_clients)
        : sim_(in), draw_(draw), most_clients_(most_clients)
    {}

    world(const world&) = delete;
    world& operator=(const world&) = delete;

    ~world()
    {
        sim_.discard(); // what it made refers to this
    }

    void run()
    {
        using namespace std::chrono_literals;
        disturb();
        for (auto count = draw_.between(1, 3); count > 0; --count) {
            add_server();
        }
        sim_.check_every_step([this] { check(); });
        constexpr auto stormy = 40s;
        for (auto count = draw_.between(5, most_clients_); count > 0; --count) {
            const auto when = draw_.between(0ms, std::chrono::milliseconds(stormy));
            auto& of = draw_.pick(servers_);
            sim_.at(sim_.now() + when, [this, to = of.get()] { add_client(*to); });
        }
        for (auto count = draw_.below(6); count > 0; --count) {
            sim_.at(sim_.now() + draw_.between(0ms, std::chrono::milliseconds(stormy)), [this] {
                operate();
            });
        }
        for (auto count = draw_.below(8); count > 0; --count) {
            add_fault(std::chrono::milliseconds(stormy));
        }
        sim_.advance(stormy);
        heal();
        serve_again();
        be_idle();
        stop();
        for (const auto& one : clients_) {
            one->check_at_the_end(!was_disturbed_ && sim_.kernel().errors.reached().empty());
        }
        for (const auto& one : servers_) {
            one->check_at_the_end();
        }
    }

    /// For people: what was set up, and which faults have struck.
    std::string story() const
    {
        std::string text;
        for (const auto& one : servers_) {
            const auto stats = const_cast<watched_server&>(*one).server().stats();
            text += "server of service " + std::to_string(static_cast<int>(one->what())) +
                    (one->speaks_tls_first() ? " with TLS" : "") + ": " +
                    std::string(to_string(const_cast<watched_server&>(*one).server().state())) +
                    ", accepted " + std::to_string(stats.accepted) + ", open " +
                    std::to_string(stats.open) + ", handlers " + std::to_string(stats.handlers) +
                    "\n";
            for (const auto& left : const_cast<watched_server&>(*one).server().connections()) {
                text += "  connection " + std::to_string(left.id) + " of " +
                        left.remote.address().to_string() + ", " +
                        std::to_string(left.age / std::chrono::seconds(1)) + " s, idle " +
                        std::to_string(left.idle / std::chrono::seconds(1)) + " s" +
                        (left.opened ? ", opened" : ", not opened") + (left.tls ? ", TLS" : "") +
                        (left.closed ? ", closed" : "") + "\n";
            }
        }
        for (const auto& one : clients_) {
            if (one->is_on_the_way()) {
                text += one->story();
            }
        }
        for (const auto& [what, times] : sim_.kernel().errors.reached()) {
            text += std::string(to_string(what.first)) + ": " + std::strerror(what.second) + ", " +
                    std::to_string(times) + " times\n";
        }
        return text;
    }

private:
    void disturb()
    {
        auto& kernel = sim_.kernel();
        kernel.wake_ups.reorder = draw_.chance(50) ? 0.3 : 0;
        kernel.wake_ups.spurious = draw_.chance(50) ? 0.05 : 0;
    }

    void add_server()
    {
        using namespace std::chrono_literals;
        static constexpr std::array<service, 6> kinds = {service::echo,  service::polite,
                                                         service::lines, service::upgrade,
                                                         service::whole, service::chaos};
        server_config config;
        config.address = draw_.chance(50) ? "127.0.0.1:0" : ":0";
        config.backlog = draw_.chance(20) ? 2 : 128;
        config.accepts_per_wakeup = draw_.chance(30) ? 1 : 16;
        config.max_connections = draw_.chance(30) ? draw_.between(1, 10) : 1000;
        config.at_limit = static_cast<fairlead::limit_policy>(draw_.below(3));
        config.max_handshakes = draw_.chance(30) ? draw_.between(1, 4) : 256;
        config.pre_open_timeout = draw_.between(100ms, 10'000ms);
        config.idle_timeout = draw_.chance(20) ? 0ms : draw_.between(200ms, 20'000ms);
        config.write_timeout = draw_.chance(20) ? 0ms : draw_.between(200ms, 20'000ms);
        config.max_lifetime = draw_.chance(80) ? 0ms : draw_.between(500ms, 20'000ms);
        config.tls_close_timeout = draw_.between(0ms, 3000ms);
        config.linger = draw_.between(0ms, 3000ms);
        config.io_events = draw_.chance(50);
        config.socket.defer_accept = std::chrono::seconds(draw_.chance(10) ? 1 : 0);
        if (draw_.chance(20)) {
            config.socket.send_buffer = 8192;
        }
        const service what = kinds[draw_.below(kinds.size())];
        if (what != service::upgrade && draw_.chance(40)) {
            config.tls = tls_rules();
            config.tls_detect = draw_.chance(40);
        }
        servers_.push_back(std::make_unique<watched_server>(sim_, what, config, draw_));
        servers_.back()->try_to_start();
    }

    void add_client(watched_server& to)
    {
        if (!is_healed_ && to.server().local_endpoint().port() != 0) {
            clients_.push_back(std::make_unique<client>(sim_, to, draw_));
        }
    }

    void add_fault(std::chrono::milliseconds within)
    {
        using namespace std::chrono_literals;
        const fault& one = draw_.pick(faults());
        fairlead::testing::fault_when when;
        when.nth = draw_.between(1, draw_.chance(50) ? 2 : 40); // some calls are rare
        when.times = draw_.between(1, 20);
        when.probability = draw_.chance(50) ? 1 : 0.2;
        when.from = sim_.now() + draw_.between(0ms, within);
        sim_.fail(one.calls, one.error, when);
    }

    void operate()
    {
        using namespace std::chrono_literals;
        if (is_healed_) {
            return; // a jump of the clock has made it late
        }
        watched_server& at = *draw_.pick(servers_);
        switch (draw_.below(10)) {
        case 0:
        case 1:
            at.server().close_connection(at.any_connection(draw_));
            break;
        case 2:
            was_disturbed_ = true;
            at.server().close();
            break;
        case 3:
            drain(at, draw_.between(0ms, 8000ms));
            break;
        case 4:
            if (at.speaks_tls_first()) {
                at.server().set_tls(tls_rules());
            }
            break;
        case 5:
            for (const auto& one : servers_) {
                one->expect_jump();
            }
            sim_.jump(draw_.between(0ms, 5000ms));
            break;
        case 6:
            limit_descriptors(draw_.below(3), draw_.between(0ms, 5000ms));
            break;
        case 7:
            limit_descriptors(0, 4000ms);
            squeeze(at);
            break;
        case 8:
            drain_with_a_queue(at);
            break;
        default:
            if (at.server().state() == fairlead::server_state::stopped) {
                at.try_to_start();
            } else {
                static_cast<void>(at.server().connections());
            }
            break;
        }
    }

    void limit_descriptors(std::size_t left, std::chrono::milliseconds time)
    {
        was_disturbed_ = true;
        auto& table = sim_.kernel().table;
        table.limit = table.count() + left;
        sim_.at(
            sim_.now() + time, [&table] { table.limit = std::numeric_limits<std::size_t>::max(); });
    }

    /// No descriptor is free, and clients come: those who wait are told, one after the other.
    void squeeze(watched_server& at)
    {
        using namespace std::chrono_literals;
        for (auto when = 100ms; when <= 800ms; when += 100ms) {
            sim_.at(sim_.now() + when, [this, &at] { add_client(at); });
        }
        sim_.at(sim_.now() + 2500ms, [this, &at] {
            const std::uint64_t moved = clients_moved(at);
            const bool waits = has_waiting_client(at);
            sim_.at(sim_.now() + 1300ms, [this, &at, moved, waits] {
                if (waits && has_waiting_client(at) && clients_moved(at) == moved) {
                    broken(
                        "a client waits, no descriptor is free, and nobody is told\n" +
                        sim_.kernel().record.last(20));
                }
            });
        });
    }

    /// The process does not run: clients come meanwhile, and before they are accepted the server is
    /// told to stop.
    void drain_with_a_queue(watched_server& at)
    {
        using namespace std::chrono_literals;
        for (const auto& one : servers_) {
            one->expect_jump();
        }
        sim_.suspend_servers(1s);
        for (auto count = draw_.between(1, 8); count > 0; --count) {
            add_client(at);
        }
        const auto time = draw_.between(1000ms, 8000ms);
        sim_.at(sim_.now() + 999ms, [this, &at, time] { drain(at, time); });
    }

    static std::uint64_t clients_moved(watched_server& at)
    {
        const auto stats = at.server().stats();
        return stats.accepted + stats.refused;
    }

    bool has_waiting_client(watched_server& at) const
    {
        const auto& kernel = sim_.kernel();
        for (const auto& [what, times] : kernel.errors.reached()) {
            if (to_string(what.first).starts_with("accept")) {
                return false; // who knows what the kernel has told
            }
        }
        return at.server().state() == fairlead::server_state::running && !at.has_few_places() &&
               kernel.table.count() >= kernel.table.limit &&
               kernel.net.queued(at.server().local_endpoint().port()) != 0;
    }

    static asio::awaitable<void> await_drain(
        watched_server& at, std::chrono::milliseconds deadline, std::shared_ptr<bool> done)
    {
        co_await at.server().shutdown(deadline);
        *done = true;
    }

    std::shared_ptr<bool> drain(watched_server& at, std::chrono::milliseconds deadline)
    {
        at.on_draining([this, &at, deadline] {
            for (const auto& one : clients_) {
                if (&one->server() == &at) {
                    one->drain_begins(deadline);
                }
            }
        });
        auto done = std::make_shared<bool>(false);
        sim_.spawn(await_drain(at, deadline, done));
        return done;
    }

    void check() const
    {
        for (const auto& one : servers_) {
            one->check();
        }
        for (const auto& one : clients_) {
            one->check();
        }
        check_drains();
        check_pace();
    }

    /// Nobody goes round in a circle in which time passes either. (Measured: at most 24 a thing.)
    void check_pace() const
    {
        const auto& kernel = sim_.kernel();
        if (sim_.now() - pace_.since < std::chrono::seconds(1)) {
            return;
        }
        const auto calls = kernel.record.count() - pace_.calls;
        const auto events = kernel.when.ran() - pace_.events;
        if (calls > 1000 + 50 * events) {
            broken(
                "a circle: " + std::to_string(calls) + " calls in a second in which " +
                std::to_string(events) + " things happened\n" + kernel.record.last(40));
        }
        pace_ = {sim_.now(), kernel.record.count(), kernel.when.ran()};
    }

    /// Who has said nothing has nothing to finish. (After a jump of the clock, what is late has its
    /// turn first.)
    void check_drains() const
    {
        using namespace std::chrono_literals;
        bool waits = false;
        for (const auto& one : clients_) {
            const auto since = one->server().drains_since();
            waits = waits || (since && sim_.now() - *since > 1500ms &&
                              one->server().speaks_tls_first() && one->is_silent_for(1500ms));
        }
        if (!waits) {
            waits_since_.reset();
        } else if (!waits_since_) {
            waits_since_ = sim_.now();
        } else if (sim_.now() - *waits_since_ > 200ms) {
            broken("a drain waits for a client that has said nothing");
        }
    }

    void heal()
    {
        using namespace std::chrono_literals;
        is_healed_ = true;
        sim_.heal();
        for (const auto& one : clients_) {
            one->behave();
        }
        if (!sim_.settles_within(10min)) {
            broken(
                "ten minutes after everything healed there are still connections\n" +
                sim_.kernel().describe() + sim_.kernel().record.last(40));
        }
    }

    /// Liveness: a new client of each is served, soon.
    void serve_again()
    {
        using namespace std::chrono_literals;
        for (const auto& one : servers_) {
            auto& server = one->server();
            sim_.run_until(
                [&] { return server.state() != fairlead::server_state::draining; }, 1min);
            if (server.state() != fairlead::server_state::running && !one->try_to_start()) {
                broken("a server does not start any more");
            }
            if (one->what() == service::chaos) {
                continue;
            }
            auto& newcomer =
                one->speaks_tls_first() ? sim_.connect_tls(server) : sim_.connect(server);
            newcomer.send("alive\n");
            if (one->what() == service::whole) {
                newcomer.half_close();
            }
            const bool has_prefix =
                one->what() == service::lines || one->what() == service::upgrade;
            const std::string reply = has_prefix ? "re:alive\n" : "alive\n";
            if (!sim_.run_until([&] { return newcomer.received() == reply; }, 30s)) {
                broken(
                    "no service after everything healed\n" + newcomer.history() +
                    sim_.kernel().record.last(20));
            }
            newcomer.close();
        }
    }

    /// Nobody is there, and nothing fails.
    void be_idle()
    {
        using namespace std::chrono_literals;
        if (!sim_.settles_within(10min)) {
            broken("the last clients have left, and there are still connections");
        }
        expect_silence("servers without a client are busy");
    }

    void stop()
    {
        using namespace std::chrono_literals;
        for (const auto& one : servers_) {
            const auto before = sim_.now();
            const auto done = drain(*one, 5s);
            if (!sim_.run_until([&] { return *done; }, 1min)) {
                broken("a drain does not end");
            }
            if (sim_.now() - before > 5s + 500ms) {
                broken("a drain ended after its deadline");
            }
        }
        expect_silence("servers that have stopped are busy");
    }

    void expect_silence(const char* otherwise)
    {
        using namespace std::chrono_literals;
        sim_.advance(1min); // what is on its way arrives
        const std::uint64_t before = sim_.kernel().record.count_of_work();
        sim_.advance(10min);
        const std::uint64_t calls = sim_.kernel().record.count_of_work() - before;
        if (calls > 20) {
            broken(
                otherwise + (": " + std::to_string(calls)) + " calls in ten minutes\n" +
                sim_.kernel().record.last(40));
        }
    }

    simulation& sim_;
    choices& draw_;
    const std::uint64_t most_clients_;
    std::vector<std::unique_ptr<watched_server>> servers_;
    std::vector<std::unique_ptr<client>> clients_;
    struct pace
    {
        std::chrono::nanoseconds since;
        std::uint64_t calls;
        std::uint64_t events;
    };

    mutable std::optional<std::chrono::nanoseconds> waits_since_;
    mutable pace pace_{};
    bool is_healed_ = false;
    bool was_disturbed_ = false; // by more than drains and failing calls
};

/// The failures of calls that have struck.
using coverage = fairlead::testing::simulated::faults::coverage;

/// Runs what is drawn, on a kernel of this seed; returns the hash of its calls. Throws what is broken.
inline std::uint64_t run(
    std::uint64_t seed, choices draw, std::uint64_t most_clients, coverage* reached = nullptr)
{
    return fairlead::testing::simulate(seed, [&](simulation& sim) {
        world all(sim, draw, most_clients);
        try {
            all.run();
        } catch (const fairlead::testing::simulation_failure& failure) {
            throw fairlead::testing::simulation_failure(
                failure.what() + std::string("\n") + all.story());
        }
        sim.finish();
        if (reached != nullptr) {
            for (const auto& [what, times] : sim.kernel().errors.reached()) {
                (*reached)[what] += times;
            }
        }
    });
}

inline std::uint64_t run(std::uint64_t seed, coverage* reached = nullptr)
{
    return run(seed, choices(seed), 120, reached);
}

/// What a fuzzer's bytes say; the first is the seed of everything that is not chosen. Few clients,
/// so that many such scenarios can be tried.
inline void replay(std::span<const std::uint8_t> bytes)
{
    const std::uint64_t seed = bytes.empty() ? 0 : bytes.front();
    run(seed, choices(bytes.empty() ? bytes : bytes.subspan(1)), 8);
}
} // namespace workload

#endif // FAIRLEAD_TESTS_SIMULATION_WORKLOAD_HPP
