// fairlead: a server without its handler: its states, its connections, how it drains and stops.
// tcp_server is the face of it; acceptor.hpp brings the clients, session.hpp leads each through.

#ifndef FAIRLEAD_DETAIL_SERVER_CORE_HPP
#define FAIRLEAD_DETAIL_SERVER_CORE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/drain.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/server/hand_over.hpp>
#include <fairlead/detail/server/live_connections.hpp>
#include <fairlead/detail/server/pipeline.hpp>
#include <fairlead/detail/server/reception.hpp>
#include <fairlead/detail/server/runs.hpp>
#include <fairlead/detail/util/wheel_timer.hpp>

#include <asio/post.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Made by server_owner, in operations.hpp. Everything runs on the context's thread except what says
/// otherwise. Nothing that a hook or a handler calls comes back in here directly: requests.hpp posts.
class server_core final : public std::enable_shared_from_this<server_core>,
                          private connection_owner,
                          private reception_listener
{
public:
    using clock = environment::clock;
    using time_point = environment::time_point;
    using stop_waiter = wait_queue<std::exception_ptr>::waiter;

    server_core(
        asio::io_context& io_context, server_config options,
        std::shared_ptr<connection_limit> shared_limit,
        std::shared_ptr<const tls_context> shared_tls, std::unique_ptr<pipeline> line)
        : home(io_context, std::move(options)),
          pipeline_(std::move(line)),
          tls_(std::move(shared_tls)),
          reception_(home, *this, connections_.registered, shared_limit, *this),
          gate_(home, home.config.max_handshakes),
          drain_timer_(home, *this, &server_core::drain_deadline_passed),
          first_request_timer_(home, *this, &server_core::first_requests_are_late)
    {}

    environment home;
    hand_over arrivals; // clients on their way from other servers' acceptors

    environment::executor_type get_executor() noexcept
    {
        return home.get_executor();
    }

    // -- any thread

    /// A stop that was asked for counts at once, though it takes effect on the server's own thread.
    server_state state() const noexcept
    {
        const auto state = state_.load();
        const bool is_ending = state == server_state::running && runs_.is_stop_asked();
        return is_ending ? server_state::draining : state;
    }

    unsigned announce_run() noexcept
    {
        return runs_.announce();
    }

    /// Returns the run that it is asked of, for `is_to_stop`.
    unsigned ask_to_stop() noexcept
    {
        return runs_.ask_to_stop();
    }

    bool has_connection(std::uint64_t id) const
    {
        return connections_.registered.contains(id);
    }

    /// In the order in which they came.
    std::vector<connection_info> list() const
    {
        return connections_.list();
    }

    // -- the server's thread

    /// A client with its place in the limit, from this server's acceptor or another's.
    void adopt(native::descriptor socket, const endpoint& remote, connection_place place) noexcept
    {
        const auto state = state_.load();
        if (state != server_state::running && state != server_state::draining) {
            return; // it came while this shard was stopping
        }
        try {
            if (auto client = reception_.enroll(std::move(socket), remote, std::move(place))) {
                pipeline_->begin(std::move(client), {tls_, &gate_});
            }
        } catch (...) {
            reception_.could_not_serve(remote);
        }
    }

    void require_stopped() const
    {
        const auto state = state_.load();
        if (is_listening() || state == server_state::running || state == server_state::draining) {
            throw std::system_error(make_error_code(errc::already_running));
        }
    }

    /// To be changed: a function that is being called cannot be.
    fairlead::hooks& settable_hooks()
    {
        require_stopped();
        if (home.hooks.is_calling()) {
            throw std::system_error(make_error_code(errc::already_running));
        }
        return home.hooks.callbacks;
    }

    /// For the next opening, in place of the configured address.
    void adopt_listener(int fd)
    {
        require_stopped();
        reception_.adopt_listener(fd);
    }

    /// `reception::forward`
    void forward_clients(decltype(reception::forward) to)
    {
        reception_.forward = std::move(to);
    }

    bool has_adopted() const noexcept
    {
        return reception_.has_adopted();
    }

    bool is_listening() const noexcept
    {
        return reception_.acceptor.is_open();
    }

    const endpoint& local_endpoint() const noexcept
    {
        return reception_.acceptor.sockets().local_endpoint();
    }

    /// Throws, and tells the error hook as well.
    void open()
    {
        open([this] { return reception_.make_listeners(); });
    }

    /// With the descriptors that `make_listeners` makes.
    template <typename MakeListeners>
    void open(MakeListeners make)
    {
        require_stopped();
        const bool is_adopted = has_adopted();
        std::vector<refused_option> refused;
        try {
            home.reactor.open();
            auto made = make();
            refused = made.front().refused; // of the others it is the same
            reception_.acceptor.assign(std::move(made));
        } catch (const std::system_error& error) {
            home.hooks.emit(error_event{.code = error.code(), .what = error.what()});
            throw;
        }
        if (state_.load() == server_state::stopped) {
            state_ = server_state::created;
        }
        try {
            reception_.tell_of_opening(refused, is_adopted);
        } catch (...) { // no memory for the words
            reception_.acceptor.close();
            throw;
        }
    }

    void start()
    {
        start(announce_run());
    }

    /// `run` as it was announced. False: it was stopped before it began.
    bool start(unsigned run)
    {
        if (runs_.has_stopped(run)) {
            return false;
        }
        const bool opens = !reception_.acceptor.is_open();
        if (opens) {
            open();
        } else if (state_.load() != server_state::created) {
            require_stopped();
        }
        try {
            begin_running(run);
        } catch (...) { // no memory: nothing stays half open
            if (opens) {
                reception_.acceptor.close();
            }
            throw;
        }
        reception_.acceptor.start();
        return true;
    }

    /// Runs without a listening socket, for clients that come by `request_adopt`.
    void start_without_listening()
    {
        require_stopped();
        begin_running(announce_run());
    }

    /// Completes when the server has stopped.
    void notify_when_stopped(std::unique_ptr<stop_waiter> caller)
    {
        stop_waiters_.push(std::move(caller));
    }

    /// No run that was announced until now begins any more.
    void close_everything()
    {
        runs_.stop_all();
        end_run();
    }

    // -- the end

    /// The stop of this run is due. False: it is over already.
    bool is_to_stop(unsigned run) noexcept
    {
        const auto state = state_.load();
        const bool is_up = state == server_state::running || state == server_state::draining;
        const bool is_current = runs_.concerns(run, is_up);
        if (is_current) {
            runs_.stop(run);
        }
        return is_current;
    }

    void end_run()
    {
        reception_.acceptor.close();
        if (state_.load() == server_state::draining) {
            name_stragglers();
        }
        connections_.end(close_reason::server_closed, errc::server_closed);
        stop();
    }

    void drain_until(
        time_point asked_at, time_point deadline, std::unique_ptr<drain_account::waiter> caller)
    {
        const bool is_first = state_.load() == server_state::running;
        if (is_first) {
            home.draining = true;
            state_ = server_state::draining;
            drain_.begin(asked_at);
            reception_.acceptor.begin_to_finish();
            reception_.acceptor.emit(server_event_kind::draining, {}, "no longer accepting");
            connections_.sweep([](connection_core& each) { each.send_home(); });
        } else if (state_.load() != server_state::draining) {
            reception_.acceptor.close();
            stop();
            wait_queue<drain_report>::complete(std::move(caller), {});
            return;
        }
        const auto ends = drain_.join(std::move(caller), deadline);
        if (ends != time_point::max()) {
            home.schedule(drain_timer_, ends);
        }
        if (ends <= clock::now()) {
            reception_.acceptor.close();
        } else if (is_first) {
            reception_.acceptor.finish();
        }
        stop_when_drained();
    }

    /// Null: there is none.
    connection_core* find_connection(std::uint64_t id)
    {
        return connections_.registered.find(id);
    }

    /// Of new connections.
    void use_tls(std::shared_ptr<const tls_context> next)
    {
        tls_ = std::move(next);
        reception_.acceptor.emit(server_event_kind::tls_reloaded, {}, "new handshakes use it");
    }

    void expected_client_came(
        native::descriptor socket, const endpoint& remote, connection_place place)
    {
        arrivals.arrived();
        adopt(std::move(socket), remote, std::move(place));
        stop_when_drained();
    }

private:
    using timer = wheel_timer<environment, server_core>;

    void begin_running(unsigned run)
    {
        reception_.evictor.join();
        runs_.begin(run);
        home.draining = false;
        arrivals.open();
        state_ = server_state::running;
    }

    void connection_closed(connection_core& client) noexcept override
    {
        if (!client.is_counted) {
            return; // it never began
        }
        reception_.evictor.settled(client);
        if (client.is_registered()) {
            connections_.registered.retire(client);
        }
        home.counters.open.add(-1);
        home.counters.closed_by_reason[static_cast<std::size_t>(client.end().reason())].add();
        home.counters.closed.add();
        client.emit(connection_event_kind::closed);
        reception_.acceptor.retry_soon(); // a descriptor is free
    }

    void connection_over(connection_core& client) noexcept override
    {
        if (client.is_registered()) {
            connections_.registered.erase(client);
            if (state_.load() == server_state::draining) {
                drain_.count(client);
                stop_when_drained();
            }
        }
        client.place.give_back();
    }

    void awaits_first_request(time_point late) override
    {
        home.schedule_by(first_request_timer_, late);
    }

    void first_bytes_read(connection_core& client) noexcept override
    {
        reception_.evictor.settled(client);
    }

    handshake_gate& gate() noexcept override
    {
        return gate_;
    }

    void client_came(
        native::descriptor socket, const endpoint& remote, connection_place place) noexcept override
    {
        adopt(std::move(socket), remote, std::move(place));
    }

    void all_have_come() noexcept override
    {
        stop_when_drained();
    }

    void first_requests_are_late()
    {
        auto next = time_point::max();
        connections_.sweep([&next, now = clock::now()](connection_core& each) {
            next = std::min(next, each.await_first_request(now));
        });
        home.schedule_by(first_request_timer_, next);
        stop_when_drained();
    }

    void drain_deadline_passed()
    {
        reception_.acceptor.close();
        name_stragglers();
        connections_.end(close_reason::shutdown_timeout, errc::shutdown_timeout);
        stop();
    }

    void name_stragglers()
    {
        connections_.sweep([this](connection_core& each) { drain_.name(each); });
    }

    /// When nobody is left, nobody is being accepted and nobody comes from another acceptor.
    void stop_when_drained()
    {
        if (state_.load() == server_state::draining && connections_.are_gone() &&
            !reception_.acceptor.is_open() && arrivals.close_when_none()) {
            stop();
        }
    }

    void stop()
    {
        home.cancel(drain_timer_);
        home.cancel(first_request_timer_);
        arrivals.close();
        reception_.evictor.leave();
        const auto ended_at = clock::now();
        const auto before = state_.exchange(server_state::stopped);
        // The hook may begin the next run: who waits for that one's end comes behind these.
        std::size_t waiters = stop_waiters_.size();
        if (before == server_state::running || before == server_state::draining) {
            reception_.acceptor.emit(server_event_kind::stopped, {}, "every connection is closed");
        }
        drain_.complete(ended_at); // of this run: one of the next is only posted by now
        for (; waiters != 0; --waiters) {
            stop_waiters_.notify_one(nullptr);
        }
    }

    const std::unique_ptr<pipeline> pipeline_;
    std::shared_ptr<const tls_context> tls_;
    std::atomic<server_state> state_ = server_state::created;
    live_connections connections_;
    reception reception_;
    handshake_gate gate_;
    server_runs runs_;
    drain_account drain_;
    timer drain_timer_;
    timer first_request_timer_;
    wait_queue<std::exception_ptr> stop_waiters_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_CORE_HPP
