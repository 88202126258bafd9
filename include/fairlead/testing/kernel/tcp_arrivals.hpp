// fairlead: what the two ends of a simulated TCP connection tell each other: bytes, ends, resets,
// acknowledgements and windows, and what an end concludes from hearing nothing. There are no packets
// here: what one end sends arrives at the other by a link.

#ifndef FAIRLEAD_TESTING_KERNEL_TCP_ARRIVALS_HPP
#define FAIRLEAD_TESTING_KERNEL_TCP_ARRIVALS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/tcp_socket.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
template <typename Action>
void tcp_socket::later(instant delay, Action action)
{
    agenda_.after(delay, [weak = weak_from_this(), action] {
        if (const auto self = std::static_pointer_cast<tcp_socket>(weak.lock())) {
            action(*self);
        }
    });
}

/// `action(end)` when it has come to the other end. Where there is no such end any more, the
/// answer is a reset.
template <typename Action>
void tcp_socket::tell_peer(std::size_t bytes, bool is_answered, Action action)
{
    path_.out->carry(
        bytes, [other = peer_.lock(), weak = weak_from_this(), back = path_.back, is_answered,
                action = std::move(action)]() mutable {
            if (other && other->phase_ == phase::established) {
                action(*other);
            } else if (is_answered) {
                back->carry(0, [weak] {
                    if (const auto self = std::static_pointer_cast<tcp_socket>(weak.lock())) {
                        self->reset_arrives();
                    }
                });
            }
        });
}

inline void tcp_socket::send_reset()
{
    tell_peer(0, false, [](tcp_socket& other) { other.reset_arrives(); });
}

inline void tcp_socket::pump()
{
    if (phase_ != phase::established) {
        return;
    }
    while (!out_.waiting.empty() && out_.window > 0) {
        const std::size_t size = path_.out->segment_of(std::min(out_.waiting.size(), out_.window));
        out_.in_flight += size;
        out_.window -= size;
        tell_peer(size, true, [bytes = out_.waiting.take(size)](tcp_socket& other) {
            other.data_arrives(bytes);
        });
    }
    if (out_.is_shut && out_.waiting.empty() && !out_.fin_sent) {
        out_.fin_sent = true;
        tell_peer(0, true, [](tcp_socket& other) { other.fin_arrives(); });
    }
    watch_progress();
}

inline void tcp_socket::data_arrives(std::span<const char> bytes)
{
    if (in_.is_shut && out_.is_shut) { // nobody is ever going to read this
        send_reset();
        die();
        return;
    }
    in_.arrived.push(bytes);
    tell_peer(0, false, [size = bytes.size()](tcp_socket& other) {
        other.acknowledgement_arrives(size);
    });
    arrived_first();
    wake(EPOLLIN | EPOLLRDNORM | EPOLLRDBAND);
}

inline void tcp_socket::fin_arrives()
{
    in_.fin_arrived = in_.is_shut = true;
    tell_peer(0, false, [](tcp_socket& other) {
        other.out_.fin_acknowledged = true;
        other.watch_progress();
        other.bury_when_done();
    });
    arrived_first();
    wake(0);
    bury_when_done();
}

inline void tcp_socket::reset_arrives()
{
    if (phase_ == phase::established) {
        error_ = in_.fin_arrived ? EPIPE : ECONNRESET;
        die();
    }
}

inline void tcp_socket::acknowledgement_arrives(std::size_t bytes)
{
    out_.in_flight -= std::min(bytes, out_.in_flight);
    out_.stands_since.reset();
    pump();
    if (out_.wants_space && out_.is_writable()) {
        out_.wants_space = false;
        wake(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
}

inline void tcp_socket::window_opens(std::size_t bytes)
{
    out_.window += bytes;
    out_.stands_since.reset();
    pump();
}

// So many bytes were read: the other end may send as many more. Like Linux, it is not told of
// a few bytes at a time, unless it waits for them.
inline void tcp_socket::announce(std::size_t bytes)
{
    in_.to_announce += bytes;
    const auto other = peer_.lock();
    if (phase_ != phase::established || !other) {
        return;
    }
    if (other->out_.waiting.empty() && other->out_.window >= in_.capacity / 2) {
        other->out_.window += std::exchange(in_.to_announce, 0); // nobody sees when
        return;
    }
    tell_peer(0, false, [size = std::exchange(in_.to_announce, 0)](tcp_socket& sender) {
        sender.window_opens(size);
    });
}

inline void tcp_socket::arrived_first()
{
    if (const auto action = std::exchange(first_arrival_, nullptr)) {
        action();
    }
}

inline bool tcp_socket::is_cut() const noexcept
{
    return phase_ == phase::established && (path_.out->is_held() || path_.back->is_held());
}

inline bool tcp_socket::is_waiting_for_peer() const noexcept
{
    return phase_ == phase::established &&
           (out_.queued() > 0 || (out_.fin_sent && !out_.fin_acknowledged));
}

// Zero: it may stand for ever. A peer that only does not read is probed, and answers.
inline instant tcp_socket::patience() const noexcept
{
    const std::chrono::milliseconds user(options.at(IPPROTO_TCP, TCP_USER_TIMEOUT));
    return user.count() > 0 ? instant(user)
           : is_cut()       ? instant(std::chrono::seconds(924)) /* tcp_retries2 = 15 */
                            : instant(0);
}

inline void tcp_socket::watch_progress()
{
    if (!is_waiting_for_peer()) {
        out_.stands_since.reset();
        return;
    }
    if (!out_.stands_since) {
        out_.stands_since = agenda_.now();
    }
    if (is_watched_ || patience() == instant(0)) {
        return;
    }
    is_watched_ = true;
    later(*out_.stands_since + patience() - agenda_.now(), [](tcp_socket& self) {
        self.is_watched_ = false;
        if (self.is_waiting_for_peer() && self.patience() > instant(0) &&
            self.agenda_.now() - self.out_.stands_since.value_or(self.agenda_.now()) >=
                self.patience()) {
            self.time_out();
        } else {
            self.watch_progress();
        }
    });
}

inline void tcp_socket::time_out()
{
    error_ = ETIMEDOUT;
    die();
}

inline void tcp_socket::die()
{
    const auto keep = shared_from_this();
    out_.drop();
    in_.is_shut = out_.is_shut = true;
    phase_ = phase::closed;
    orphans_.erase(this);
    wake(0);
}

inline void tcp_socket::bury_when_done()
{
    if (phase_ != phase::established || !out_.fin_acknowledged) {
        return;
    }
    if (in_.fin_arrived) {
        die();
    } else if (is_released_) {
        later(std::chrono::seconds(60) /* tcp_fin_timeout */, [](tcp_socket& self) {
            if (self.phase_ == phase::established) {
                self.die();
            }
        });
    }
}

inline void tcp_socket::path_was_cut()
{
    watch_progress();
    if (options.at(SOL_SOCKET, SO_KEEPALIVE) != 0) {
        const auto seconds = [this](int name) {
            return std::chrono::seconds(options.at(IPPROTO_TCP, name));
        };
        const auto user = std::chrono::milliseconds(options.at(IPPROTO_TCP, TCP_USER_TIMEOUT));
        const instant probing = user.count() > 0
                                    ? instant(user)
                                    : seconds(TCP_KEEPINTVL) * options.at(IPPROTO_TCP, TCP_KEEPCNT);
        later(seconds(TCP_KEEPIDLE) + probing, [](tcp_socket& self) {
            if (self.is_cut()) {
                self.time_out();
            }
        });
    }
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_TCP_ARRIVALS_HPP
