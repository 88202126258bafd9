// fairlead: takes clients from the listening sockets, in batches, and keeps doing so whatever
// accept(2) says.

#ifndef FAIRLEAD_DETAIL_SERVER_ACCEPTOR_HPP
#define FAIRLEAD_DETAIL_SERVER_ACCEPTOR_HPP

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/accept_events.hpp>
#include <fairlead/detail/server/accept_failure.hpp>
#include <fairlead/detail/server/accept_sink.hpp>
#include <fairlead/detail/server/connection_limit.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/server/listening_sockets.hpp>
#include <fairlead/detail/server/parked_client.hpp>
#include <fairlead/detail/server/place_bell.hpp>
#include <fairlead/detail/server/retry_pause.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <cstddef>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Waits for readiness, accepts a bounded batch, waits again. It pauses at the connection limit
/// and, for growing times, when the process runs out of descriptors: one waiting client is then
/// reset through a descriptor kept in reserve, so that clients learn of it and the queue moves, and
/// the thread sleeps in between. A listening socket that is broken rests alone: the others go on.
/// Where an idle connection gives way to the next client, that client waits here, the only one,
/// until the place is free.
class acceptor : private deadline_wheel::node
{
public:
    acceptor(environment& home, std::shared_ptr<connection_limit> limit, accept_sink& sink)
        : node(&acceptor::time_to_go_on),
          home_(home),
          limit_(std::move(limit)),
          place_bell_(home, *limit_),
          sink_(sink),
          events_(home),
          sockets_(home)
    {}

    acceptor(const acceptor&) = delete;
    acceptor& operator=(const acceptor&) = delete;

    ~acceptor()
    {
        close();
    }

    bool is_open() const noexcept
    {
        return sockets_.is_open();
    }

    const listening_sockets& sockets() const noexcept
    {
        return sockets_;
    }

    /// Takes over listening descriptors, at least one.
    void assign(std::vector<listener> opened)
    {
        sockets_.assign(std::move(opened));
        reserve_ = native::open_reserve();
    }

    void start()
    {
        wait();
    }

    /// Nobody is taken any more but those whom the kernel has queued until now; closes when there
    /// is none.
    void begin_to_finish() noexcept
    {
        // Linux takes one more than listen(2) was told.
        const auto longest = integer_cast<std::size_t>(longest_queue(home_.config)) + 1;
        sockets_.begin_to_finish(longest);
        if (sockets_.is_finished() && !parked_.socket) {
            close();
        }
    }

    /// Takes them, then closes, and tells the sink.
    void finish()
    {
        if (is_open() && state_ == state::accepting) {
            accept_batch();
        }
    }

    /// Waiting clients are reset by the kernel.
    void close() noexcept
    {
        sockets_.close();
        reserve_.reset();
        home_.cancel(*this);
        state_ = state::accepting;
        pause_.end();
        parked_.drop();
    }

    /// No shard has a connection to give up.
    void no_room() noexcept
    {
        if (state_ == state::making_room) {
            reject_parked();
        }
    }

    /// A connection has ended: what it held may be what was missing.
    void retry_soon()
    {
        if (state_ == state::backing_off) {
            home_.schedule_by(*this, environment::clock::now());
        }
    }

    void report_limit(std::string_view what) noexcept
    {
        events_.limit_reached(what, sockets_.local_endpoint());
    }

    void emit(server_event_kind kind, std::error_code code, std::string_view what) noexcept
    {
        events_.emit(kind, code, what, sockets_.local_endpoint());
    }

private:
    using time_point = environment::time_point;

    enum class state
    {
        accepting,
        at_limit,
        /// A client is parked.
        making_room,
        backing_off,
    };

    void wait() noexcept
    {
        home_.schedule_by(*this, sockets_.next_attempt());
        try {
            sockets_.wait([this](const std::error_code& error) {
                if (state_ != state::accepting) {
                    return; // who is there is found when it goes on
                }
                if (error) {
                    back_off(error);
                } else {
                    accept_batch();
                }
            });
        } catch (...) {
            back_off(std::make_error_code(std::errc::not_enough_memory));
        }
    }

    void finished()
    {
        close();
        sink_.finished();
    }

    void accept_batch()
    {
        std::error_code skipped;
        std::error_code last;
        for (int count = 0; count < home_.config.accepts_per_wakeup; ++count) {
            if (sockets_.is_finished()) {
                return finished();
            }
            // Only who pauses needs the place first; others take it for a client that is there.
            const bool pauses = home_.config.at_limit == limit_policy::pause;
            connection_place place = pauses ? connection_place::take(*limit_) : connection_place();
            if (pauses && !place) {
                return no_place();
            }
            endpoint remote;
            std::error_code error;
            native::descriptor client = accept(remote, error);
            if (error) {
                place.give_back();
                if (failed(error)) {
                    return;
                }
                skipped = is_skipped(error) ? error : std::error_code();
                last = error;
                continue;
            }
            skipped.clear();
            accepting_again();
            if (!place) {
                place = connection_place::take(*limit_);
            }
            if (!place && home_.config.at_limit == limit_policy::evict_idle) {
                const auto now = environment::clock::now();
                parked_.begin(*limit_, now);
                if (parked_.seek(place, now, sink_) && !place) {
                    return park(std::move(client), remote);
                }
                parked_.account = {};
            }
            if (place) {
                sink_.accepted(std::move(client), remote, std::move(place));
            } else {
                sink_.rejected(std::move(client), remote);
            }
            if (!is_open()) { // the client's handler, or a hook, has closed the server
                return;
            }
        }
        if (sockets_.is_finished()) {
            finished();
        } else if (skipped) { // a kernel that refuses one after the other would make this spin
            back_off(skipped);
        } else if (pause_.is_on()) { // those that were tried are broken, and prove nothing
            back_off(last);
        } else {
            accepting_again(); // others may not be broken
            wait();
        }
    }

    native::descriptor accept(endpoint& remote, std::error_code& error)
    {
        auto client = sockets_.accept(remote, error);
        tell_news();
        return client;
    }

    std::error_code look()
    {
        const std::error_code error = sockets_.look();
        tell_news();
        return error;
    }

    /// A limit at which nobody waits is no pause; once paused, it is until there is a place.
    void no_place()
    {
        while (state_ != state::at_limit) {
            const std::error_code error = look();
            if (!error) {
                break;
            }
            if (failed(error)) {
                return;
            }
        }
        pause_at_limit();
    }

    static bool is_skipped(const std::error_code& error) noexcept
    {
        return classify_accept_failure(error.value()) == accept_failure::next;
    }

    /// True: the batch is over, and what happens next is arranged.
    bool failed(std::error_code error)
    {
        auto failure = classify_accept_failure(error.value());
        if (failure == accept_failure::exhausted && !pause_.is_on()) {
            // accept(2) looks for a descriptor first, and then for a client.
            if (const std::error_code answer = look()) {
                error = answer;
                failure = classify_accept_failure(answer.value());
            }
        }
        if (failure == accept_failure::nobody) {
            if (sockets_.is_finished()) {
                finished();
            } else {
                accepting_again();
                wait();
            }
            return true;
        }
        home_.counters.accept_errors.add();
        if (failure != accept_failure::exhausted) {
            return false;
        }
        refuse_one();
        back_off(error);
        return true;
    }

    /// Gives the reserve to the client that waits longest, and resets it.
    void refuse_one()
    {
        reserve_.reset();
        endpoint remote;
        std::error_code error;
        native::descriptor client;
        do { // a broken listening socket has nobody to refuse, and rests then
            client = accept(remote, error);
        } while (classify_accept_failure(error.value()) == accept_failure::other && error);
        if (client) {
            native::reset_on_close(client.get());
            home_.counters.refused.add();
        }
        client.reset();
        reserve_ = native::open_reserve();
    }

    void back_off(const std::error_code& error) noexcept
    {
        const bool is_first = !pause_.is_on();
        state_ = state::backing_off;
        home_.schedule(*this, environment::clock::now() + pause_.grow());
        if (is_first) {
            events_.failing(error, sockets_.local_endpoint());
        }
    }

    /// Of listening sockets; of each once, until it works again.
    void tell_news() noexcept
    {
        if (const auto news = sockets_.take_news()) {
            if (news->error) {
                events_.failing(news->error, news->local);
            } else {
                events_.accepting_again(news->local);
            }
        }
    }

    void pause_at_limit()
    {
        const bool is_news = state_ != state::at_limit;
        state_ = state::at_limit;
        try {
            ask_for_place();
        } catch (...) { // then it is tried again and again
            return back_off(std::make_error_code(std::errc::not_enough_memory));
        }
        if (is_news) {
            events_.pausing_at_limit(sockets_.local_endpoint());
        }
    }

    void ask_for_place()
    {
        place_bell_.ask([this] { place_is_free(); });
    }

    void place_is_free()
    {
        if (state_ == state::at_limit && is_open()) {
            accept_batch();
        } else if (state_ == state::making_room) {
            admit_parked();
        }
    }

    void park(native::descriptor client, const endpoint& remote) noexcept
    {
        state_ = state::making_room;
        parked_.socket = std::move(client);
        parked_.remote = remote;
        await_room();
    }

    void await_room() noexcept
    {
        home_.schedule(*this, environment::clock::now() + evictions::patience);
        try {
            ask_for_place();
        } catch (...) { // no memory: the time comes all the same
        }
    }

    void admit_parked() noexcept
    {
        connection_place place;
        if (!parked_.seek(place, environment::clock::now(), sink_)) {
            return reject_parked();
        }
        if (!place) {
            return await_room();
        }
        unpark();
        sink_.accepted(std::move(parked_.socket), parked_.remote, std::move(place));
        go_on();
    }

    void reject_parked() noexcept
    {
        unpark();
        sink_.rejected(std::move(parked_.socket), parked_.remote);
        go_on();
    }

    void unpark() noexcept
    {
        home_.cancel(*this);
        state_ = state::accepting;
        parked_.account = {};
    }

    void go_on() noexcept
    {
        if (is_open()) {
            accept_batch();
        }
    }

    void accepting_again()
    {
        if (std::exchange(state_, state::accepting) != state::accepting) {
            pause_.end();
            events_.accepting_again(sockets_.local_endpoint());
        }
    }

    /// A pause is over, or the rest of a listening socket.
    static void time_to_go_on(node& expired, time_point)
    {
        auto& self = static_cast<acceptor&>(expired);
        if (self.state_ == state::making_room) {
            self.admit_parked();
        } else {
            self.go_on();
        }
    }

    environment& home_;
    const std::shared_ptr<connection_limit> limit_;
    place_bell place_bell_;
    accept_sink& sink_;
    accept_events events_;
    listening_sockets sockets_;
    native::descriptor reserve_;
    parked_client parked_;
    state state_ = state::accepting;
    retry_pause pause_; // of all of them, for want of descriptors or memory
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_ACCEPTOR_HPP
