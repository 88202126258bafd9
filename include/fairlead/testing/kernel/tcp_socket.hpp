// fairlead: a TCP socket as its user sees it: buffers that fill, FIN and reset in all their causes,
// and the readiness that Linux reports (net/ipv4/tcp.c). What the ends tell each other is in
// tcp_arrivals.hpp; who may connect to whom is the network's business.

#ifndef FAIRLEAD_TESTING_KERNEL_TCP_SOCKET_HPP
#define FAIRLEAD_TESTING_KERNEL_TCP_SOCKET_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/address.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/file.hpp>
#include <fairlead/testing/kernel/link.hpp>
#include <fairlead/testing/kernel/socket_options.hpp>
#include <fairlead/testing/kernel/tcp_halves.hpp>

#include <algorithm>
#include <csignal>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class tcp_socket;

/// Sockets that no descriptor refers to any more, and that still have bytes to deliver.
using orphanage = std::map<const tcp_socket*, std::shared_ptr<tcp_socket>>;

class tcp_socket final : public file
{
public:
    enum class phase
    {
        fresh, // neither connected nor listening
        listening,
        connecting,
        established,
        closed, // after a reset, or when both ends have finished
    };

    tcp_socket(agenda& when, orphanage& orphans, bool is_v6) : agenda_(when), orphans_(orphans)
    {
        local.is_v6 = is_v6;
        if (!is_v6) {
            local = address::v4(0, 0);
        }
    }

    std::string name() const override
    {
        switch (phase_) {
        case phase::fresh:
            return "socket";
        case phase::listening:
            return "socket that listens on " + local.text();
        case phase::connecting:
            return "socket that connects to " + remote.text();
        case phase::established:
        case phase::closed:
            break;
        }
        return std::string(phase_ == phase::closed ? "closed " : "") + "connection of " +
               local.text() + " with " + remote.text();
    }

    phase state() const noexcept
    {
        return phase_;
    }

    bool is_connected() const noexcept
    {
        return phase_ == phase::established;
    }

    // -- calls

    std::uint32_t poll() override
    {
        if (phase_ == phase::listening) {
            return queue_.empty() ? 0U : static_cast<std::uint32_t>(EPOLLIN | EPOLLRDNORM);
        }
        std::uint32_t events = 0;
        const bool is_over = phase_ == phase::fresh || phase_ == phase::closed;
        if (is_over || (in_.is_shut && out_.is_shut)) {
            events |= EPOLLHUP;
        }
        if (in_.is_shut) {
            events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
        }
        if (phase_ != phase::connecting) {
            const auto enough = static_cast<std::size_t>(options.at(SOL_SOCKET, SO_RCVLOWAT));
            if (unread() >= std::max<std::size_t>(enough, 1)) {
                events |= EPOLLIN | EPOLLRDNORM;
            }
            if (out_.is_shut || phase_ != phase::established || out_.is_writable()) {
                events |= EPOLLOUT | EPOLLWRNORM;
            } else {
                out_.wants_space = true;
            }
        }
        if (error_ != 0) {
            events |= EPOLLERR;
        }
        return events;
    }

    answer read(std::span<const iovec> into, int how) override
    {
        if (phase_ == phase::fresh || phase_ == phase::listening) {
            return -ENOTCONN;
        }
        if (!in_.arrived.empty()) {
            const std::size_t copied = copy_front(in_.arrived, into);
            if ((how & MSG_PEEK) == 0) {
                in_.arrived.pop(copied);
                announce(copied);
            }
            return static_cast<answer>(copied);
        }
        if (in_.fin_arrived) {
            return 0;
        }
        if (error_ != 0) {
            return -take_error();
        }
        return in_.is_shut ? 0 : -EAGAIN;
    }

    answer write(std::span<const iovec> from, int how) override
    {
        if (phase_ == phase::connecting) {
            return -EAGAIN;
        }
        if (error_ != 0 || out_.is_shut || phase_ != phase::established) {
            const int error = error_ != 0 ? take_error() : EPIPE;
            if (error == EPIPE && (how & MSG_NOSIGNAL) == 0) {
                std::raise(SIGPIPE);
            }
            return -error;
        }
        const std::size_t wanted = size_of(from);
        const std::size_t pushed = push_front_of(from, out_.waiting, out_.room());
        out_.wants_space = pushed < wanted;
        if (pushed == 0 && wanted > 0) {
            return -EAGAIN;
        }
        pump();
        return static_cast<answer>(pushed);
    }

    answer shutdown(int how)
    {
        switch (phase_) {
        case phase::fresh:
        case phase::closed:
            return -ENOTCONN;
        case phase::listening:
            if (how != SHUT_WR) {
                stop_listening();
                wake(0);
            }
            return 0;
        case phase::connecting:
            phase_ = phase::fresh;
            return 0;
        case phase::established:
            break;
        }
        in_.is_shut = in_.is_shut || how != SHUT_WR;
        out_.is_shut = out_.is_shut || how != SHUT_RD;
        wake(0);
        pump();
        return 0;
    }

    void release() override
    {
        is_released_ = true;
        if (phase_ == phase::listening) {
            stop_listening();
        } else if (phase_ == phase::established) {
            if (options.resets_on_close() || !in_.arrived.empty()) {
                abort();
                return;
            }
            in_.is_shut = out_.is_shut = true;
            orphans_[this] = std::static_pointer_cast<tcp_socket>(shared_from_this());
            pump();
            bury_when_done();
        } else {
            phase_ = phase::closed;
        }
    }

    std::size_t unread() const noexcept override
    {
        return in_.arrived.size();
    }

    std::size_t room() const noexcept override
    {
        return out_.room();
    }

    /// SIOCOUTQ: bytes that the other end has not acknowledged; a FIN counts as one.
    std::size_t unacknowledged() const noexcept
    {
        return out_.queued() + (out_.is_shut && !out_.fin_acknowledged && is_connected() ? 1U : 0U);
    }

    int take_error() noexcept
    {
        return std::exchange(error_, 0);
    }

    tcp_info info() const noexcept
    {
        constexpr unsigned char established = 1;
        constexpr unsigned char close_wait = 8;
        constexpr unsigned char listening = 10;
        constexpr unsigned char closed = 7;
        tcp_info told = {};
        if (phase_ == phase::listening) {
            told.tcpi_state = listening;
            told.tcpi_unacked = static_cast<std::uint32_t>(queue_.size());
            told.tcpi_sacked = static_cast<std::uint32_t>(backlog_);
        } else {
            told.tcpi_state = !is_connected() ? closed : in_.fin_arrived ? close_wait : established;
            told.tcpi_unacked = static_cast<std::uint32_t>(out_.queued());
        }
        return told;
    }

    // -- listening

    void listen(int backlog)
    {
        phase_ = phase::listening;
        backlog_ = static_cast<std::size_t>(std::max(backlog, 0));
    }

    /// Linux lets in one more than was asked for.
    bool has_full_queue() const noexcept
    {
        return queue_.size() > backlog_;
    }

    /// This client waits to be accepted.
    bool has_queued(const address& client) const
    {
        return std::any_of(queue_.begin(), queue_.end(), [&client](const auto& one) {
            return one->remote.has_same_host(client) && one->remote.port == client.port;
        });
    }

    void enqueue(std::shared_ptr<tcp_socket> client)
    {
        queue_.push_back(std::move(client));
        wake(EPOLLIN | EPOLLRDNORM);
    }

    /// Null: nobody waits.
    std::shared_ptr<tcp_socket> take_client()
    {
        if (queue_.empty()) {
            return nullptr;
        }
        auto first = std::move(queue_.front());
        queue_.pop_front();
        return first;
    }

    // -- connecting

    void begin_connecting(const address& to)
    {
        remote = to;
        phase_ = phase::connecting;
    }

    void refuse(int error)
    {
        if (phase_ == phase::connecting) {
            error_ = error;
            die();
        }
    }

    /// Both ends call it, each with the other.
    void establish(const std::shared_ptr<tcp_socket>& other, path through)
    {
        peer_ = other;
        path_ = std::move(through);
        in_.capacity = options.receive_capacity();
        out_.capacity = options.send_capacity();
        out_.window = other->options.receive_capacity();
        phase_ = phase::established;
    }

    /// The next connect(2) of a client that did not wait is told that it is done; those that
    /// follow, that it is connected already.
    bool tells_of_connection() noexcept
    {
        return std::exchange(is_connection_untold_, false);
    }

    /// A client that has been told of its connection.
    void become_ready()
    {
        is_connection_untold_ = true;
        wake(EPOLLOUT | EPOLLWRNORM);
    }

    /// Called once, when the first bytes or the end arrive (TCP_DEFER_ACCEPT).
    void on_first_arrival(std::function<void()> action)
    {
        first_arrival_ = std::move(action);
    }

    // -- the network

    /// A reset of our own: what is queued is dropped, and the other end is told.
    void abort()
    {
        if (phase_ == phase::established) {
            send_reset();
            die();
        }
    }

    const path& way() const noexcept
    {
        return path_;
    }

    std::shared_ptr<tcp_socket> peer() const noexcept
    {
        return peer_.lock();
    }

    /// The path has been cut: what keep-alive and retransmission find out, in time.
    void path_was_cut();

    socket_options options;
    address local;
    address remote;
    bool is_bound = false;
    std::function<void()> on_stop_listening; // set by the network

private:
    template <typename Action>
    void later(instant delay, Action action);

    /// `action(end)` when it has come to the other end. Where there is no such end any more, the
    /// answer is a reset.
    template <typename Action>
    void tell_peer(std::size_t bytes, bool is_answered, Action action);

    void send_reset();
    void pump();
    void announce(std::size_t bytes);

    void data_arrives(std::span<const char> bytes);
    void fin_arrives();
    void reset_arrives();
    void acknowledgement_arrives(std::size_t bytes);
    void window_opens(std::size_t bytes);
    void arrived_first();

    bool is_cut() const noexcept;
    bool is_waiting_for_peer() const noexcept;
    instant patience() const noexcept;
    void watch_progress();
    void time_out();
    void die();
    void bury_when_done();

    void stop_listening()
    {
        phase_ = phase::fresh;
        if (on_stop_listening) {
            on_stop_listening();
        }
        while (const auto client = take_client()) {
            client->abort();
        }
    }

    agenda& agenda_;
    orphanage& orphans_;
    phase phase_ = phase::fresh;
    int error_ = 0;
    bool is_released_ = false;
    bool is_watched_ = false;
    bool is_connection_untold_ = false;
    send_half out_;
    receive_half in_;
    std::weak_ptr<tcp_socket> peer_;
    path path_;
    std::function<void()> first_arrival_;
    std::deque<std::shared_ptr<tcp_socket>> queue_;
    std::size_t backlog_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#include <fairlead/testing/kernel/tcp_arrivals.hpp>

#endif // FAIRLEAD_TESTING_KERNEL_TCP_SOCKET_HPP
