// fairlead: takes clients from the listening sockets, in batches, and keeps doing so whatever
// accept(2) says.

#ifndef FAIRLEAD_DETAIL_ACCEPTOR_HPP
#define FAIRLEAD_DETAIL_ACCEPTOR_HPP

#include <fairlead/detail/accept_failure.hpp>
#include <fairlead/detail/accept_sink.hpp>
#include <fairlead/detail/connection_limit.hpp>
#include <fairlead/detail/integer_cast.hpp>
#include <fairlead/detail/listening_sockets.hpp>
#include <fairlead/detail/native.hpp>
#include <fairlead/detail/parked_client.hpp>
#include <fairlead/detail/place_bell.hpp>
#include <fairlead/detail/shard.hpp>

#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace fairlead::detail
{
/// Waits for readiness, accepts a bounded batch, waits again. It pauses at the connection limit
/// and, for growing times, when the process runs out of descriptors: one waiting client is then
/// reset through a descriptor kept in reserve, so that clients learn of it and the queue moves, and
/// the thread sleeps in between. Where an idle connection gives way to the next client, that client
/// waits here, the only one, until the place is free.
class acceptor : private deadline_wheel::node
{
public:
    static constexpr std::chrono::milliseconds shortest_pause{5};
    static constexpr std::chrono::milliseconds longest_pause{1000};

    acceptor(shard& owner, std::shared_ptr<connection_limit> limit, accept_sink& sink)
        : node(&acceptor::pause_over),
          shard_(owner),
          limit_(std::move(limit)),
          place_bell_(owner, *limit_),
          sink_(sink),
          sockets_(owner)
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
        const auto longest = integer_cast<std::size_t>(longest_queue(shard_.config)) + 1;
        left_ = sockets_.queued_clients(longest);
        if (*left_ == 0 && !parked_.socket) {
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
        shard_.cancel(*this);
        state_ = state::accepting;
        pause_ = {};
        left_.reset();
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
            shard_.schedule_by(*this, shard::clock::now());
        }
    }

private:
    using time_point = shard::time_point;

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

    void one_less_is_left() noexcept
    {
        if (left_ && *left_ != 0) {
            --*left_;
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
        for (int count = 0; count < shard_.config.accepts_per_wakeup; ++count) {
            if (left_ == std::size_t(0)) {
                return finished();
            }
            // Only who pauses needs the place first; others take it for a client that is there.
            const bool pauses = shard_.config.at_limit == limit_policy::pause;
            connection_place place = pauses ? connection_place::take(*limit_) : connection_place();
            if (pauses && !place) {
                return no_place();
            }
            asio::ip::tcp::endpoint remote;
            std::error_code error;
            native::descriptor client = sockets_.accept(remote, error);
            if (error) {
                place.give_back();
                if (failed(error)) {
                    return;
                }
                skipped = error;
                continue;
            }
            skipped.clear();
            one_less_is_left();
            accepting_again();
            if (!place) {
                place = connection_place::take(*limit_);
            }
            if (!place && shard_.config.at_limit == limit_policy::evict_idle) {
                const auto now = shard::clock::now();
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
        if (left_ == std::size_t(0)) {
            finished();
        } else if (skipped) { // a kernel that refuses one after the other would make this spin
            back_off(skipped);
        } else {
            wait();
        }
    }

    /// A limit at which nobody waits is no pause; once paused, it is until there is a place.
    void no_place()
    {
        if (state_ == state::at_limit || sockets_.queued_clients(1) != 0) {
            return pause_at_limit();
        }
        failed(std::make_error_code(std::errc::resource_unavailable_try_again));
    }

    /// True: the batch is over, and what happens next is arranged.
    bool failed(const std::error_code& error)
    {
        auto failure = classify_accept_failure(error.value());
        if (failure == accept_failure::exhausted && pause_.count() == 0 &&
            sockets_.queued_clients(1) == 0) {
            failure = accept_failure::nobody; // accept(2) looks for a descriptor first
        }
        const bool gives_up = failure == accept_failure::other && pause_ == longest_pause;
        if (left_ && (failure == accept_failure::nobody || gives_up)) {
            finished();
            return true;
        }
        if (failure == accept_failure::nobody) {
            accepting_again();
            wait();
            return true;
        }
        shard_.counters.accept_errors.add();
        if (failure == accept_failure::next) {
            one_less_is_left();
            return false;
        }
        if (failure == accept_failure::exhausted) {
            refuse_one();
        }
        back_off(error);
        return true;
    }

    /// Gives the reserve to the client that waits longest, and resets it.
    void refuse_one()
    {
        reserve_.reset();
        asio::ip::tcp::endpoint remote;
        std::error_code error;
        if (const auto client = sockets_.accept(remote, error)) {
            native::reset_on_close(client.get());
            shard_.counters.refused.add();
            one_less_is_left();
        }
        reserve_ = native::open_reserve();
    }

    void back_off(const std::error_code& error) noexcept
    {
        const bool is_first = pause_.count() == 0;
        pause_ = std::clamp(pause_ * 2, shortest_pause, longest_pause);
        state_ = state::backing_off;
        shard_.schedule(*this, shard::clock::now() + pause_);
        if (is_first) {
            report(error);
        }
    }

    void report(const std::error_code& error) noexcept
    {
        const std::error_code code = told_accept_failure(error);
        shard_.counters.pauses.add();
        const auto tell = [&](std::string_view what) {
            shard_.hooks.emit(error_event{.code = code, .what = what});
            emit(server_event_kind::paused, code, what);
        };
        std::string what;
        try {
            what = "accept: " + error.message();
        } catch (...) { // no memory for the words
            return tell("accept");
        }
        tell(what);
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
            shard_.counters.pauses.add();
            report_limit("max_connections");
            emit(
                server_event_kind::paused, errc::too_many_connections,
                "max_connections are open; clients wait in the kernel's queue");
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

    void park(native::descriptor client, const asio::ip::tcp::endpoint& remote) noexcept
    {
        state_ = state::making_room;
        parked_.socket = std::move(client);
        parked_.remote = remote;
        await_room();
    }

    void await_room() noexcept
    {
        shard_.schedule(*this, shard::clock::now() + evictions::patience);
        try {
            ask_for_place();
        } catch (...) { // no memory: the time comes all the same
        }
    }

    void admit_parked() noexcept
    {
        connection_place place;
        if (!parked_.seek(place, shard::clock::now(), sink_)) {
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
        shard_.cancel(*this);
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
            pause_ = {};
            emit(server_event_kind::resumed, {}, "accepting again");
        }
    }

    static void pause_over(node& expired, time_point)
    {
        auto& self = static_cast<acceptor&>(expired);
        if (self.state_ == state::making_room) {
            self.admit_parked();
        } else {
            self.go_on();
        }
    }

public:
    /// Says that a limit was met; at most once a second.
    void report_limit(std::string_view what)
    {
        const auto now = shard::clock::now();
        if (now - limit_reported_at_ >= std::chrono::seconds(1)) {
            limit_reported_at_ = now;
            emit(server_event_kind::limit_reached, errc::too_many_connections, what);
        }
    }

    void emit(server_event_kind kind, std::error_code code, std::string_view what) noexcept
    {
        shard_.hooks.emit(server_event{
            .kind = kind, .local = sockets_.local_endpoint(), .code = code, .what = what});
    }

private:
    shard& shard_;
    const std::shared_ptr<connection_limit> limit_;
    place_bell place_bell_;
    accept_sink& sink_;
    listening_sockets sockets_;
    native::descriptor reserve_;
    parked_client parked_;
    state state_ = state::accepting;
    std::optional<std::size_t> left_; // to be taken before it closes; empty: without end
    std::chrono::milliseconds pause_{0};
    time_point limit_reported_at_ = {};
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_ACCEPTOR_HPP
