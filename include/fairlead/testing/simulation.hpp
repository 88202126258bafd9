// fairlead: a test of a handler without a network: the real tcp_server, Asio and the handler's own
// timers and sockets run on a kernel in the test program, in virtual time, from one seed.
//
//   FAIRLEAD_SIMULATION("an echo comes back", sim)            // catch2.hpp; or simulate(seed, f)
//   {
//       auto& server = sim.serve(echo, {.idle_timeout = 5min});
//       auto& client = sim.connect(server, {.latency = 20ms});
//       client.send("hello").expect("hello").half_close().expect_end();
//   }
//
// One source file of the test program includes system_calls.hpp.

#ifndef FAIRLEAD_TESTING_SIMULATION_HPP
#define FAIRLEAD_TESTING_SIMULATION_HPP

#include <fairlead/detail/server/registry.hpp>
#include <fairlead/event.hpp>
#include <fairlead/server.hpp>
#include <fairlead/testing/context_set.hpp>
#include <fairlead/testing/kernel/allocation_fault.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/peer.hpp>
#include <fairlead/testing/random.hpp>
#include <fairlead/testing/seeded_rand.hpp>
#include <fairlead/testing/tls_peer.hpp>

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing
{
/// Lives on one thread, and is the only one of the process. Servers, peers and whatever a handler
/// makes live in it; no thread may be started.
class simulation
{
public:
    using duration = std::chrono::nanoseconds;

    /// Throws `simulation_failure` when the program's clocks are not simulated: no source file
    /// includes system_calls.hpp, or libstdc++ is linked statically.
    explicit simulation(std::uint64_t seed)
        : seed_(seed), kernel_(seed), random_(~seed), rand_(kernel_.entropy())
    {
        const auto before = std::chrono::steady_clock::now();
        kernel_.when.advance_to(std::chrono::seconds(1));
        if (std::chrono::steady_clock::now() - before != std::chrono::seconds(1)) {
            throw simulation_failure(
                "the clocks are not simulated: include fairlead/testing/system_calls.hpp in one "
                "source file of the program, and link libstdc++ as a shared library");
        }
        detail::last_connection_id() = 0;
        peers_context_ = &contexts_.add(true);
        kernel_.set_others([this] { return contexts_.run_others(); });
    }

    simulation(const simulation&) = delete;
    simulation& operator=(const simulation&) = delete;

    ~simulation()
    {
        discard();
        simulated::allocation_fault::of_this_thread() = {};
        detail::last_connection_id() = std::max(ids_before_, detail::last_connection_id().load());
    }

    std::uint64_t seed() const noexcept
    {
        return seed_;
    }

    /// For the test's own choices: the same for the same seed.
    random_source& random() noexcept
    {
        return random_;
    }

    /// Descriptor limits, names for getaddrinfo, wake-ups in other orders, the trace of the calls.
    simulated::kernel& kernel() noexcept
    {
        return kernel_;
    }

    /// A server of its own context, as one shard; it listens. `config.address` may be ":0".
    /// Several with one address and `socket.reuse_port` are the shards of one.
    template <typename Handler>
    tcp_server<Handler>& serve(Handler handler, server_config config = {})
    {
        auto& made = add_server(std::move(handler), std::move(config));
        made.start();
        return made;
    }

    /// As `serve`, before it starts: for hooks.
    template <typename Handler>
    tcp_server<Handler>& add_server(Handler handler, server_config config = {})
    {
        auto made = std::make_unique<server_of<Handler>>(
            contexts_.add(false), std::move(handler), std::move(config));
        auto& server = made->server;
        servers_.push_back(std::move(made));
        return server;
    }

    /// A client of `server`, on the way from this moment.
    template <typename Server>
        requires requires(const Server& server)
        {
            server.local_endpoint();
        }
    peer& connect(const Server& server, const path_options& path = {})
    {
        return connect(server.local_endpoint(), path);
    }

    peer& connect(const endpoint& to, const path_options& path = {})
    {
        const asio::ip::tcp::endpoint ip(to);
        auto target = simulated::address::from(ip.data(), static_cast<socklen_t>(ip.size()));
        if (!target) {
            throw simulation_failure("connect: neither IPv4 nor IPv6");
        }
        if (target->is_any()) {
            target = simulated::address::v4(0x7f000001, target->port);
        }
        peers_.push_back(std::make_unique<peer>(
            kernel_, [this](const peer& who, const std::function<bool()>& happened) {
                wait_for(who, happened);
            }));
        simulated::address from = simulated::address::v4(0x0a000000 + ++clients_, 0);
        from.port = static_cast<std::uint16_t>(random_.between(1024, 65535));
        if (target->is_v6) {
            from = *target;
            from.port = static_cast<std::uint16_t>(random_.between(1024, 65535));
        }
        peers_.back()->connect(from, *target, path);
        return *peers_.back();
    }

    /// A client that speaks TLS.
    template <typename Server>
    peer& connect_tls(
        const Server& server, const tls_peer_options& tls = {}, const path_options& path = {})
    {
        return connect(server, path).wrap(std::make_unique<tls_layer>(tls));
    }

    /// Runs a client that is written with Asio, on a context of its own, until it returns. What it
    /// throws is thrown.
    void run(asio::awaitable<void> client)
    {
        const auto ended = spawn(std::move(client));
        run_until([&] { return *ended; }, duration::max());
        rethrow();
    }

    /// Starts such a client, which goes on while the simulation runs. True once it has returned.
    std::shared_ptr<const bool> spawn(asio::awaitable<void> client)
    {
        auto ended = std::make_shared<bool>(false);
        asio::co_spawn(
            *peers_context_, std::move(client), [this, ended](const std::exception_ptr& failure) {
                *ended = true;
                if (failure && !failure_) {
                    failure_ = failure;
                }
            });
        return ended;
    }

    asio::io_context& peers() noexcept
    {
        return *peers_context_;
    }

    // -- time

    /// Since the beginning.
    duration now() const noexcept
    {
        return kernel_.when.now();
    }

    /// Runs everything that happens in this time.
    void advance(duration time)
    {
        run_until([] { return false; }, time);
        rethrow();
    }

    /// Runs until `done()`, at most for `limit`; says whether it is done. `duration::max()`: until it
    /// is, and `simulation_failure` when nothing can happen any more.
    bool run_until(const std::function<bool()>& done, duration limit)
    {
        const bool has_limit = limit != duration::max();
        const duration deadline = has_limit ? now() + limit : duration::max();
        duration last = now();
        for (;;) {
            const bool ran = step();
            if (done()) {
                return true;
            }
            if (ran || run_script()) {
                last = now();
                continue;
            }
            // Asio looks at its timers every five minutes, also when it has none.
            if (!has_limit && scripts_.empty() && now() - last > std::chrono::hours(24)) {
                throw simulation_failure(
                    "nothing can ever happen: for a day nothing has. Open are:\n" +
                    kernel_.describe());
            }
            if (has_limit && now() >= deadline) {
                return false;
            }
            std::optional<duration> next;
            if (has_limit) {
                next = deadline;
            }
            if (!scripts_.empty()) {
                next = next ? std::min(*next, scripts_.begin()->first) : scripts_.begin()->first;
            }
            kernel_.pass(next);
        }
    }

    /// Runs until no server has a connection, open or queued, at most for `limit`.
    bool settles_within(duration limit)
    {
        return run_until(
            [this] {
                return std::all_of(servers_.begin(), servers_.end(), [this](const auto& one) {
                    return one->is_idle() && kernel_.net.queued(one->port()) == 0;
                });
            },
            limit);
    }

    /// Calls `action` at this time from the beginning, between two steps of everything else.
    void at(duration when, std::function<void()> action)
    {
        scripts_.emplace(std::max(when, now()), std::move(action));
    }

    /// Called after every step; throws what is wrong.
    void check_every_step(std::function<void()> check)
    {
        check_ = std::move(check);
    }

    // -- faults

    /// Calls of the servers' side fail with `error`: "accept4", or "recv*" for each that begins so.
    void fail(std::string_view calls, int error, const fault_when& when = {})
    {
        kernel_.errors.add(calls, error, when);
    }

    /// The servers' side, handlers included, gets no memory: `times` calls of `operator new`, the
    /// first of them the `nth` from now. One source file of the program includes allocations.hpp.
    void fail_allocation(std::uint64_t nth, std::uint64_t times = 1)
    {
        auto& fault = simulated::allocation_fault::of_this_thread();
        fault.first = fault.count + nth;
        fault.times = times;
    }

    /// The clocks jump forward.
    void jump(duration by)
    {
        kernel_.jump(by);
    }

    /// The servers' process does not run for so long, as after SIGSTOP; the rest of the world does.
    void suspend_servers(duration time)
    {
        contexts_.suspend_servers(now() + time);
    }

    /// No call fails any more, and wake-ups come in order.
    void heal()
    {
        kernel_.errors.clear();
        simulated::allocation_fault::of_this_thread().first = simulated::allocation_fault::never;
        kernel_.wake_ups = {};
        kernel_.table.limit = std::numeric_limits<std::size_t>::max();
    }

    /// Closes everything as at the end of a test, and checks what must hold then: no descriptor is
    /// left, and no thread was started. `simulate` calls it.
    void finish()
    {
        rethrow();
        kernel_.errors.clear();
        scripts_.clear();
        check_ = nullptr;
        for (const auto& one : servers_) {
            one->close();
        }
        run_until([] { return false; }, std::chrono::seconds(1));
        discard();
        if (kernel_.table.count() != 0) {
            throw simulation_failure("descriptors are left at the end:\n" + kernel_.describe());
        }
        if (kernel_.has_refused_thread) {
            throw simulation_failure(
                "a thread was to be started (pthread_create): a simulation has one thread");
        }
    }

    /// Drops every script, peer and server as they are, for a test whose own parts they refer to.
    void discard()
    {
        kernel_.set_others(nullptr);
        kernel_.errors.clear();
        check_ = nullptr;
        scripts_.clear();
        peers_.clear();
        servers_.clear();
        contexts_.clear();
    }

private:
    struct any_server
    {
        virtual ~any_server() = default;
        virtual void close() = 0;
        virtual bool is_idle() const = 0;
        virtual std::uint16_t port() const = 0;
    };

    template <typename Handler>
    struct server_of final : any_server
    {
        server_of(asio::io_context& context, Handler handler, server_config config)
            : server(context, std::move(handler), std::move(config))
        {}

        void close() override
        {
            server.close();
        }

        bool is_idle() const override
        {
            return server.open_connections() == 0 && server.stats().handlers == 0;
        }

        std::uint16_t port() const override
        {
            return server.local_endpoint().port();
        }

        tcp_server<Handler> server;
    };

    bool step()
    {
        const bool ran = contexts_.step();
        if (check_) {
            check_();
        }
        return ran;
    }

    bool run_script()
    {
        if (scripts_.empty() || scripts_.begin()->first > now()) {
            return false;
        }
        const auto action = std::move(scripts_.begin()->second);
        scripts_.erase(scripts_.begin());
        action();
        return true;
    }

    void wait_for(const peer&, const std::function<bool()>& happened)
    {
        run_until(happened, patience);
        rethrow();
    }

    void rethrow()
    {
        if (failure_) {
            std::rethrow_exception(std::exchange(failure_, nullptr));
        }
    }

public:
    /// How long an expectation waits, in virtual time.
    duration patience = std::chrono::minutes(10);

private:
    std::uint64_t seed_;
    std::uint64_t ids_before_ = detail::last_connection_id();
    simulated::kernel kernel_;
    random_source random_;
    seeded_rand rand_;
    context_set contexts_{kernel_};
    asio::io_context* peers_context_ = nullptr;
    std::vector<std::unique_ptr<any_server>> servers_;
    std::vector<std::unique_ptr<peer>> peers_;
    std::multimap<duration, std::function<void()>> scripts_;
    std::function<void()> check_;
    std::exception_ptr failure_;
    std::uint32_t clients_ = 0;
};

/// Runs `test(simulation&)` with this seed; returns the hash of every call and its result. What is
/// thrown leaves it.
template <typename Test>
std::uint64_t simulate(std::uint64_t seed, Test&& test)
{
    simulation sim(seed);
    test(sim);
    sim.finish();
    return sim.kernel().record.hash();
}

/// Runs it twice. Throws `simulation_failure` when the two differ: something depends on more than
/// the seed, such as an address in memory, a real clock, or what the first run left behind.
template <typename Test>
std::uint64_t simulate_twice(std::uint64_t seed, Test&& test)
{
    const std::uint64_t first = simulate(seed, test);
    const std::uint64_t second = simulate(seed, test);
    if (first != second) {
        throw simulation_failure(
            "two runs of seed " + std::to_string(seed) + " differ: not everything depends on it");
    }
    return first;
}
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_SIMULATION_HPP
