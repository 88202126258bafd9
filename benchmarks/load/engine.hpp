// The load generator's event loop: opens the connections, keeps the asked number of messages in
// flight on each, checks every byte that comes back, and measures. One thread, level-triggered
// epoll.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_ENGINE_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_ENGINE_HPP

#include "load/client.hpp"
#include "load/latency_histogram.hpp"
#include "load/options.hpp"
#include "load/payload.hpp"
#include "load/server_cpu.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <sys/epoll.h>
#include <vector>

namespace bench
{
struct load_errors
{
    std::uint64_t connect = 0;
    std::uint64_t handshake = 0;
    /// The server ended a connection that was not finished.
    std::uint64_t closed = 0;
    std::uint64_t broken = 0;
    /// What came back was not what had been sent.
    std::uint64_t mismatch = 0;

    std::uint64_t total() const noexcept
    {
        return connect + handshake + closed + broken + mismatch;
    }
};

/// Everything in it, errors excepted, belongs to the measured time only.
struct load_result
{
    /// Echoes; with `reconnect`, connections; with `idle`, connections held.
    std::uint64_t requests = 0;
    double seconds = 0;
    latency_histogram latency{};
    std::uint64_t server_cpu_nanoseconds = 0;
    load_errors errors{};
};

class load_engine
{
public:
    /// `tls` may be null: plain TCP. `stop` ends the run early, from a signal handler.
    load_engine(const load_options& options, SSL_CTX* tls, const std::atomic<bool>& stop)
        : options_(options), tls_(tls), stop_(stop), clients_(options.connections)
    {
        if (poll_ < 0)
            throw_errno("epoll_create1");
        for (std::size_t i = 0; i < clients_.size(); ++i) {
            clients_[i].origin = i * 7919;
            if (options_.mode != load_mode::idle)
                clients_[i].started.resize(options_.depth);
        }
        if (options_.requests != 0)
            unissued_ = options_.requests;
    }

    load_engine(const load_engine&) = delete;
    load_engine& operator=(const load_engine&) = delete;

    ~load_engine()
    {
        ::close(poll_);
    }

    /// Opens every connection; throws when that takes more than a minute. Nothing to do with
    /// `reconnect`.
    void open_all()
    {
        if (options_.mode == load_mode::reconnect)
            return;
        const auto deadline = now() + 60'000'000'000;
        std::size_t begun = 0;
        while (open_ + failed() < clients_.size() && !stop_) {
            // A server's queue is finite: more at once would only wait for SYN retransmissions.
            while (begun < clients_.size() && begun - open_ - failed() < 256)
                begin(clients_[begun++]);
            poll_once(100);
            if (now() > deadline)
                throw std::runtime_error("connections did not open within a minute");
        }
        if (open_ == 0)
            throw std::runtime_error("no connection could be opened");
    }

    std::size_t open() const noexcept
    {
        return open_;
    }

    /// Loads the server for the warm-up and the measured time.
    load_result run()
    {
        started_ = true;
        const auto begin_time = now();
        const auto warm_time = begin_time + nanoseconds(options_.warmup);
        for (auto& c : clients_) {
            if (options_.mode == load_mode::reconnect)
                begin(c);
            else if (c.state == client::open)
                issue(c, begin_time);
        }
        while (now() < warm_time && !finished())
            poll_once(20);

        measured_.latency.clear();
        measured_.requests = 0;
        const auto cpu = server_cpu();
        const auto from = now();
        const auto until = from + nanoseconds(options_.seconds);
        while (now() < until && !finished())
            poll_once(20);
        measured_.seconds = static_cast<double>(now() - from) * 1e-9;
        measured_.server_cpu_nanoseconds = server_cpu() - cpu;
        if (options_.mode == load_mode::idle)
            measured_.requests = open_;
        return measured_;
    }

private:
    static std::uint64_t now() noexcept
    {
        return static_cast<std::uint64_t>(
            std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
    }

    static std::uint64_t nanoseconds(double seconds) noexcept
    {
        return static_cast<std::uint64_t>(seconds * 1e9);
    }

    std::uint64_t server_cpu() const
    {
        return options_.server_pid != 0 ? process_cpu_nanoseconds(options_.server_pid) : 0;
    }

    std::uint64_t failed() const noexcept
    {
        return measured_.errors.total();
    }

    bool finished() const noexcept
    {
        const bool all_answered = options_.requests != 0 && completed_ >= options_.requests;
        const bool hopeless =
            options_.mode == load_mode::reconnect ? failed() > 100 + clients_.size() : open_ == 0;
        return stop_ || all_answered || hopeless;
    }

    // Connecting
    // ---------------------------------------------------------------------------------------

    /// Each source address has some 28 000 ports for one server, fewer while closed ones wait
    /// (TIME_WAIT).
    sockaddr_in next_source() noexcept
    {
        const auto host =
            options_.mode == load_mode::reconnect ? connects_ % 64 : connects_ / 25'000;
        ++connects_;
        sockaddr_in source{};
        source.sin_family = AF_INET;
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(host));
        return source;
    }

    void begin(client& c)
    {
        if (options_.mode == load_mode::reconnect && !take_one())
            return;
        c.sent = c.received = c.to_send = 0;
        if (!c.started.empty())
            c.started[0] = now();
        const auto status = c.socket.connect(next_source(), options_.address, tls_);
        if (status == io_status::failed)
            return fail(c, measured_.errors.connect);
        c.state = client::connecting;
        c.watched = 0;
        watch(c, EPOLLOUT);
        if (status == io_status::done)
            advance(c);
    }

    /// Connected: handshake, then messages.
    void advance(client& c)
    {
        if (c.state == client::connecting) {
            if (!c.socket.connected())
                return fail(c, measured_.errors.connect);
            c.state = client::handshaking;
        }
        switch (c.socket.handshake()) {
        case io_status::done:
            break;
        case io_status::wants_read:
            return watch(c, EPOLLIN);
        case io_status::wants_write:
            return watch(c, EPOLLOUT);
        default:
            return fail(c, measured_.errors.handshake);
        }
        c.state = client::open;
        ++open_;
        watch(c, EPOLLIN);
        if (options_.mode == load_mode::reconnect) {
            c.to_send = options_.size;
            flush(c);
        } else if (started_) {
            issue(c, now());
        }
    }

    // Messages
    // -----------------------------------------------------------------------------------------

    bool take_one() noexcept
    {
        return unissued_ != 0 && unissued_-- != 0;
    }

    /// Puts as many messages in flight as the depth allows.
    void issue(client& c, std::uint64_t time)
    {
        if (options_.mode != load_mode::echo)
            return;
        const auto answered = c.received / options_.size;
        auto issued = c.to_send / options_.size;
        while (issued - answered < options_.depth && take_one())
            c.started[issued++ % options_.depth] = time;
        c.to_send = issued * options_.size;
        flush(c);
    }

    void flush(client& c)
    {
        while (c.sent < c.to_send) {
            const auto left = c.to_send - c.sent;
            const auto size = std::min<std::uint64_t>(left, payload::largest_piece);
            const auto result = c.socket.send(payload_.at(c.origin + c.sent), size);
            if (result.status == io_status::wants_write)
                return watch(c, EPOLLIN | EPOLLOUT);
            if (result.status != io_status::done)
                return fail(c, measured_.errors.broken);
            c.sent += result.size;
        }
        watch(c, EPOLLIN);
    }

    void receive(client& c)
    {
        do {
            const auto result = c.socket.receive(input_.data(), input_.size());
            if (result.status == io_status::wants_read)
                return;
            if (result.status == io_status::closed)
                return fail(c, measured_.errors.closed);
            if (result.status != io_status::done)
                return fail(c, measured_.errors.broken);
            if (!payload_.matches(c.origin + c.received, input_.data(), result.size) ||
                c.received + result.size > c.sent)
                return fail(c, measured_.errors.mismatch);
            answer(c, result.size);
        } while (c.state == client::open && c.socket.has_pending());
    }

    void answer(client& c, std::size_t size)
    {
        const auto before = c.received / options_.size;
        c.received += size;
        const auto after = c.received / options_.size;
        if (before == after)
            return;
        const auto time = now();
        for (auto message = before; message < after; ++message)
            measured_.latency.record(time - c.started[message % options_.depth]);
        measured_.requests += after - before;
        completed_ += after - before;
        if (options_.mode == load_mode::echo)
            return issue(c, time);
        close(c);
        if (!finished())
            begin(c);
    }

    // Ending
    // -------------------------------------------------------------------------------------------

    void close(client& c) noexcept
    {
        if (c.state == client::open)
            --open_;
        c.state = client::closed;
        c.socket.close();
    }

    /// Counts and closes. Only `reconnect` tries again; a limit in finished() keeps that from
    /// spinning.
    void fail(client& c, std::uint64_t& counter)
    {
        ++counter;
        close(c);
        if (options_.mode == load_mode::reconnect && started_)
            retry_.push_back(&c);
    }

    void watch(client& c, std::uint32_t interest)
    {
        if (c.watched == interest)
            return;
        epoll_event event{};
        event.events = interest;
        event.data.ptr = &c;
        const int operation = c.watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (::epoll_ctl(poll_, operation, c.socket.descriptor(), &event) != 0)
            throw_errno("epoll_ctl");
        c.watched = interest;
    }

    void poll_once(int milliseconds)
    {
        std::array<epoll_event, 256> events;
        const int count =
            ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), milliseconds);
        for (int i = 0; i < count; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            auto& c = *static_cast<client*>(event.data.ptr);
            if (c.state == client::connecting || c.state == client::handshaking) {
                advance(c);
                continue;
            }
            if (c.state == client::open && (event.events & EPOLLOUT) != 0)
                flush(c);
            if (c.state == client::open && (event.events & ~std::uint32_t{EPOLLOUT}) != 0)
                receive(c);
        }
        const auto again = std::move(retry_);
        retry_.clear();
        for (auto* c : again) {
            if (!finished())
                begin(*c);
        }
    }

    const load_options& options_;
    SSL_CTX* tls_;
    const std::atomic<bool>& stop_;
    std::vector<client> clients_;
    std::vector<client*> retry_{};
    payload payload_{};
    std::array<char, payload::largest_piece> input_{};
    int poll_ = ::epoll_create1(EPOLL_CLOEXEC);
    bool started_ = false;
    std::size_t open_ = 0;
    std::uint64_t connects_ = 0;
    std::uint64_t completed_ = 0;
    std::uint64_t unissued_ = std::numeric_limits<std::uint64_t>::max();
    load_result measured_{};
};
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_ENGINE_HPP
