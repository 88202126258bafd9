// fairlead: a server without its handler: its states, its connections, how it drains and stops.
// tcp_server is the face of it; acceptor.hpp brings the clients, session.hpp leads each through.

#ifndef FAIRLEAD_DETAIL_SERVER_CORE_HPP
#define FAIRLEAD_DETAIL_SERVER_CORE_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/drain.hpp>
#include <fairlead/detail/server/reception.hpp>
#include <fairlead/detail/server/runs.hpp>
#include <fairlead/detail/util/wheel_timer.hpp>

#include <asio/post.hpp>

#include <algorithm>
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
/// Everything runs on the context's thread except what says otherwise. Nothing that a hook or a
/// handler calls comes back in here directly: the public functions post.
class server_core : public reception
{
public:
    using stop_waiter = wait_queue<std::exception_ptr>::waiter;

    server_core(
        asio::io_context& io_context, server_config options,
        std::shared_ptr<connection_limit> shared_limit,
        std::shared_ptr<const tls_context> shared_tls)
        : reception(io_context, std::move(options), std::move(shared_limit), std::move(shared_tls)),
          drain_timer_(*this, &server_core::drain_deadline_passed),
          first_request_timer_(*this, &server_core::first_requests_are_late)
    {}

    // -- any thread

    std::shared_ptr<server_core> shared()
    {
        return std::static_pointer_cast<server_core>(shared_from_this());
    }

    /// A stop that was asked for counts at once, though it takes effect on the server's own thread.
    server_state state() const noexcept
    {
        const auto state = state_.load();
        const bool is_ending = state == server_state::running && runs_.is_stop_asked();
        return is_ending ? server_state::draining : state;
    }

    void request_close()
    {
        request(shared(), [](server_core& self, bool is_current) {
            if (is_current) {
                self.end_run();
            }
        });
    }

    /// `self`: the caller's hold on it ends here, before anybody can hear of the drain's end. Who
    /// waits in another context must not be the last to let go: the server's own is gone by then.
    static void request_drain(
        std::shared_ptr<server_core> self, std::chrono::milliseconds timeout,
        std::unique_ptr<drain_account::waiter> caller)
    {
        const auto asked_at = clock::now();
        const auto deadline = later(asked_at, std::max(timeout, std::chrono::milliseconds(0)));
        request(
            std::move(self), [asked_at, deadline, caller = std::move(caller)](
                                 server_core& core, bool is_current) mutable {
                if (is_current) {
                    core.drain_until(asked_at, deadline, std::move(caller));
                } else {
                    wait_queue<drain_report>::complete(std::move(caller), {});
                }
            });
    }

    unsigned announce_run() noexcept
    {
        return runs_.announce();
    }

    bool request_close_connection(std::uint64_t id)
    {
        if (!connections_.contains(id)) {
            return false;
        }
        asio::post(get_executor(), [self = shared(), id] {
            if (connection_core* const found = self->connections_.find(id)) {
                found->stop_in_order(close_reason::server_closed, errc::server_closed);
            }
        });
        return true;
    }

    /// New handshakes use `next`; null: new connections are plain.
    void request_tls(std::shared_ptr<const tls_context> next)
    {
        asio::post(get_executor(), [self = shared(), next = std::move(next)] {
            self->tls_ = next;
            self->acceptor_.emit(server_event_kind::tls_reloaded, {}, "new handshakes use it");
        });
    }

    void request_report(std::error_code code, std::string what)
    {
        asio::post(get_executor(), [self = shared(), code, what = std::move(what)] {
            self->hooks.emit(error_event{.code = code, .what = what});
        });
    }

    /// A client that another server's acceptor took, with its place in the shared limit. False:
    /// this one has stopped, and the client is still the caller's. Throws when there is no memory.
    bool request_adopt(native::descriptor& socket, const endpoint& remote, connection_place& place)
    {
        if (!arrivals_.announce()) {
            return false;
        }
        try {
            asio::post(
                get_executor(), [self = shared(), socket = std::move(socket), remote,
                                 place = std::move(place)]() mutable {
                    self->arrivals_.arrived();
                    self->adopt(std::move(socket), remote, std::move(place));
                    self->stop_when_drained();
                });
        } catch (...) { // out of memory: the client is gone
            arrivals_.arrived();
            throw;
        }
        return true;
    }

    // -- the server's thread

    bool is_listening() const noexcept
    {
        return acceptor_.is_open();
    }

    const endpoint& local_endpoint() const noexcept
    {
        return acceptor_.sockets().local_endpoint();
    }

    /// Throws, and tells the error hook as well.
    void open()
    {
        open([this] { return make_listeners(); });
    }

    /// With the descriptors that `make_listeners` makes.
    template <typename MakeListeners>
    void open(MakeListeners make)
    {
        require_stopped();
        const bool is_adopted = has_adopted();
        std::vector<refused_option> refused;
        try {
            reactor.open();
            auto made = make();
            refused = made.front().refused; // of the others it is the same
            acceptor_.assign(std::move(made));
        } catch (const std::system_error& error) {
            hooks.emit(error_event{.code = error.code(), .what = error.what()});
            throw;
        }
        if (state_.load() == server_state::stopped) {
            state_ = server_state::created;
        }
        try {
            tell_of_opening(refused, is_adopted);
        } catch (...) { // no memory for the words
            acceptor_.close();
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
        const bool opens = !acceptor_.is_open();
        if (opens) {
            open();
        } else if (state_.load() != server_state::created) {
            require_stopped();
        }
        try {
            begin_running(run);
        } catch (...) { // no memory: nothing stays half open
            if (opens) {
                acceptor_.close();
            }
            throw;
        }
        acceptor_.start();
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

private:
    using timer = wheel_timer<server_core>;

    template <typename Request>
    static void request(std::shared_ptr<server_core> self, Request&& stop)
    {
        const unsigned run = self->runs_.ask_to_stop();
        const auto executor = self->get_executor();
        asio::post(
            executor, [self = std::move(self), run, stop = std::forward<Request>(stop)]() mutable {
                const bool is_current = self->concerns(run);
                if (is_current) {
                    self->runs_.stop(run);
                }
                stop(*self, is_current);
            });
    }

    bool concerns(unsigned run) const noexcept
    {
        const auto state = state_.load();
        const bool is_up = state == server_state::running || state == server_state::draining;
        return runs_.concerns(run, is_up);
    }

    void begin_running(unsigned run)
    {
        evictor_.join();
        runs_.begin(run);
        draining = false;
        arrivals_.open();
        state_ = server_state::running;
    }

    void connection_closed(connection_core& client) noexcept override
    {
        if (!client.is_counted) {
            return; // it never began
        }
        evictor_.settled(client);
        if (client.is_registered()) {
            connections_.retire(client);
        }
        counters.open.add(-1);
        counters.closed_by_reason[static_cast<std::size_t>(client.end().reason())].add();
        counters.closed.add();
        client.emit(connection_event_kind::closed);
        acceptor_.retry_soon(); // a descriptor is free
    }

    void connection_over(connection_core& client) noexcept override
    {
        if (client.is_registered()) {
            connections_.erase(client);
            if (state_.load() == server_state::draining) {
                drain_.count(client);
                stop_when_drained();
            }
        }
        client.place.give_back();
    }

    void awaits_first_request(time_point late) override
    {
        schedule_by(first_request_timer_, late);
    }

    /// The acceptor has taken who had been queued when the drain began.
    void finished() noexcept override
    {
        stop_when_drained();
    }

    // -- the end

    void end_run()
    {
        acceptor_.close();
        if (state_.load() == server_state::draining) {
            name_stragglers();
        }
        end_every_connection(close_reason::server_closed, errc::server_closed);
        stop();
    }

    void drain_until(
        time_point asked_at, time_point deadline, std::unique_ptr<drain_account::waiter> caller)
    {
        const bool is_first = state_.load() == server_state::running;
        if (is_first) {
            draining = true;
            state_ = server_state::draining;
            drain_.begin(asked_at);
            acceptor_.begin_to_finish();
            acceptor_.emit(server_event_kind::draining, {}, "no longer accepting");
            sweep([](connection_core& each) { each.send_home(); });
        } else if (state_.load() != server_state::draining) {
            acceptor_.close();
            stop();
            wait_queue<drain_report>::complete(std::move(caller), {});
            return;
        }
        const auto ends = drain_.join(std::move(caller), deadline);
        if (ends != time_point::max()) {
            schedule(drain_timer_, ends);
        }
        if (ends <= clock::now()) {
            acceptor_.close();
        } else if (is_first) {
            acceptor_.finish();
        }
        stop_when_drained();
    }

    void first_requests_are_late()
    {
        auto next = time_point::max();
        sweep([&next, now = clock::now()](connection_core& each) {
            next = std::min(next, each.await_first_request(now));
        });
        schedule_by(first_request_timer_, next);
        stop_when_drained();
    }

    void drain_deadline_passed()
    {
        acceptor_.close();
        name_stragglers();
        end_every_connection(close_reason::shutdown_timeout, errc::shutdown_timeout);
        stop();
    }

    void name_stragglers()
    {
        sweep([this](connection_core& each) { drain_.name(each); });
    }

    /// Closes the sockets. Handlers that are still running are not this run's concern any more, but
    /// they keep their places in the limit.
    void end_every_connection(close_reason reason, errc code)
    {
        sweeping_ = true;
        while (!connections_.empty()) { // hooks may end any of them meanwhile
            const intrusive_ref<connection_core> client(connections_.front());
            connections_.erase(*client);
            client->stop_now(reason, code);
        }
        sweeping_ = false;
    }

    /// Visits every connection; what ends meanwhile is for the visitor to account for.
    template <typename Visitor>
    void sweep(Visitor&& visit)
    {
        sweeping_ = true;
        connections_.for_each(visit);
        sweeping_ = false;
    }

    /// When nobody is left, nobody is being accepted and nobody comes from another acceptor.
    void stop_when_drained()
    {
        if (state_.load() == server_state::draining && connections_.empty() && !sweeping_ &&
            !acceptor_.is_open() && arrivals_.close_when_none()) {
            stop();
        }
    }

    void stop()
    {
        cancel(drain_timer_);
        cancel(first_request_timer_);
        arrivals_.close();
        evictor_.leave();
        const auto ended_at = clock::now();
        const auto before = state_.exchange(server_state::stopped);
        // The hook may begin the next run: who waits for that one's end comes behind these.
        std::size_t waiters = stop_waiters_.size();
        if (before == server_state::running || before == server_state::draining) {
            acceptor_.emit(server_event_kind::stopped, {}, "every connection is closed");
        }
        drain_.complete(ended_at); // of this run: one of the next is only posted by now
        for (; waiters != 0; --waiters) {
            stop_waiters_.notify_one(nullptr);
        }
    }

    drain_account drain_;
    timer drain_timer_;
    timer first_request_timer_;
    wait_queue<std::exception_ptr> stop_waiters_;
    server_runs runs_;
    bool sweeping_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_CORE_HPP
