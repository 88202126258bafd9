// The clients of the random workload: honest ones, whose bytes are followed to the last, and others
// that do everything a client should not.

#ifndef FAIRLEAD_TESTS_SIMULATION_WORKLOAD_CLIENTS_HPP
#define FAIRLEAD_TESTS_SIMULATION_WORKLOAD_CLIENTS_HPP

#include "simulation/choices.hpp"
#include "simulation/workload_servers.hpp"
#include <fairlead/testing/simulation.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace workload
{
/// So late the server may hear of what a client's kernel has taken.
constexpr std::chrono::milliseconds longest_way{500};

using fairlead::testing::path_options;
using fairlead::testing::peer;

inline path_options any_path(choices& draw)
{
    using namespace std::chrono_literals;
    path_options path;
    path.latency = draw.chance(30) ? 0ms : draw.between(0ms, 200ms);
    path.jitter = draw.chance(50) ? 0ms : draw.between(0ms, 100ms);
    path.bandwidth = draw.chance(70) ? 0 : draw.between(1000, 1'000'000);
    path.segment = draw.chance(60) ? 0 : static_cast<std::size_t>(draw.between(1, 1460));
    path.split = draw.chance(70) ? 0 : 0.3;
    path.loss = draw.chance(80) ? 0 : 0.05;
    return path;
}

/// Bytes of which every place can be told from every other.
inline std::string pattern(std::size_t size)
{
    std::string bytes(size, '\0');
    for (std::size_t at = 0; at < size; ++at) {
        bytes[at] = static_cast<char>('a' + (at * 7 + at / 251) % 26);
    }
    return bytes;
}

class client
{
public:
    client(simulation& in, watched_server& of, choices& draw) : sim_(in), server_(of), draw_(draw)
    {
        auto path = any_path(draw);
        if (of.speaks_tls_first() && !(of.config().tls_detect && draw.chance(40))) {
            is_tls_ = !draw.chance(10); // the others talk plain to a server that wants TLS
        }
        is_honest_ = is_tls_ == (of.speaks_tls_first() && (is_tls_ || !of.config().tls_detect)) &&
                     draw.chance(60);
        peer_ =
            is_tls_
                ? &in.connect_tls(of.server(), {.max_version = draw.chance(30) ? 0x0303 : 0}, path)
                : &in.connect(of.server(), path);
        if (path.bandwidth > 0 && path.segment > 0 && path.segment < 100) {
            is_slow_ = true;
        }
        begin();
    }

    /// Nothing more of what it should not do; what it was to do, it does.
    void behave()
    {
        peer_->come_back();
        if (is_honest_) {
            peer_->resume();
        } else if (draw_.chance(50)) {
            peer_->reset();
        } else {
            peer_->resume();
            peer_->close();
        }
    }

    bool is_on_the_way() const noexcept
    {
        return peer_->is_connected() && peer_->reads_on();
    }

    std::string story() const
    {
        return std::string(is_honest_ ? "an honest client" : "a client") +
               (is_tls_ ? " under TLS, " : ", ") + std::to_string(peer_->unsent()) +
               " bytes unsent:\n" + peer_->history();
    }

    watched_server& server() const noexcept
    {
        return server_;
    }

    /// Accepted for longer than that, without a byte, of TLS neither, and not told to go.
    bool is_silent_for(std::chrono::milliseconds time) const noexcept
    {
        return !is_tls_ && !peer_->has_ended() && said_.empty() && connection_ != nullptr &&
               !connection_->is_closed && sim_.now() - connection_->accepted_at > time;
    }

    /// A drain begins, in which there is `time` for what has arrived.
    void drain_begins(std::chrono::milliseconds time)
    {
        if (!is_honest_ || is_tls_ || owed_ || time.count() == 0 || !is_on_the_way() ||
            server_.what() == service::whole) {
            return;
        }
        const std::size_t arrived = acknowledged();
        owed_ = reply_to(said_.substr(0, arrived)).size();
        was_in_queue_ = sim_.kernel().net.is_queued(
            server_.server().local_endpoint().port(), peer_->socket().local);
    }

    /// What must hold between any two steps.
    void check() const
    {
        check_connection();
        if (peer_->problem() == "something follows close_notify") {
            wrong(peer_->problem());
        }
        const std::string& got = peer_->received();
        if (is_honest_ && got.size() > checked_) {
            if (got.size() > expected_.size() ||
                !std::equal(
                    got.begin() + static_cast<std::ptrdiff_t>(checked_), got.end(),
                    expected_.begin() + static_cast<std::ptrdiff_t>(checked_))) {
                wrong("bytes that were never to come");
            }
            checked_ = got.size();
        }
    }

    /// `is_calm`: no call has failed, and nobody was closed but by drains.
    void check_at_the_end(bool is_calm) const
    {
        check();
        const auto& config = server_.config();
        const bool waits_for_a_place =
            server_.has_few_places() && config.at_limit == fairlead::limit_policy::pause;
        if (is_calm && was_in_queue_ && !connection_ && !waits_for_a_place) {
            wrong("who waited in the queue when a drain began was not served");
        }
        const auto reason = closed_as();
        if (!is_honest_ || !reason) {
            return;
        }
        const std::string& got = peer_->received();
        if (owed_ && *reason == close_reason::drained && peer_->has_ended() &&
            got.size() < *owed_ && !has_failed("ioctl")) { // FIONREAD tells what has arrived
            wrong(
                "a drain lost a reply: of " + std::to_string(*owed_) +
                " bytes, for requests that had arrived,");
        }
        if (peer_->has_ended() && !got.empty() && got.back() != '\n' && answers_lines() &&
            !has_failed("setsockopt")) { // without SO_LINGER nobody can be reset
            wrong("an orderly end inside a reply");
        }
        if (!said_all_) {
            return;
        }
        if (peer_->has_ended() && !got.empty() && got.size() != expected_.size() &&
            server_.what() == service::whole && !has_failed("setsockopt")) {
            wrong("an orderly end inside a reply");
        }
        const bool is_in_order =
            *reason == close_reason::peer_closed || *reason == close_reason::handler_returned;
        if (is_in_order && peer_->has_ended() && got.size() != expected_.size()) {
            wrong("an orderly end before the last byte");
        }
        if (is_in_order && peer_->was_reset() && !was_cut_) {
            wrong("a reset although both sides had finished");
        }
        if (is_in_order && is_calm && is_eager_ && peer_->has_fin() && !peer_->has_ended()) {
            wrong("an end without close_notify");
        }
    }

private:
    /// It was made to, and what depends on it cannot be asked for.
    bool has_failed(std::string_view call) const
    {
        const auto& reached = sim_.kernel().errors.reached();
        return std::any_of(reached.begin(), reached.end(), [call](const auto& each) {
            return to_string(each.first.first) == call;
        });
    }

    bool answers_lines() const noexcept
    {
        return server_.what() == service::lines || server_.what() == service::upgrade;
    }

    /// Empty: it is open, or was never accepted.
    std::optional<close_reason> closed_as() const
    {
        return connection_ && connection_->is_closed ? std::optional(connection_->reason)
                                                     : std::nullopt;
    }

    /// Bytes of what it said that are with the server's kernel for certain.
    std::size_t acknowledged() const
    {
        const std::size_t open = peer_->unsent() + peer_->socket().unacknowledged();
        return said_.size() - std::min(said_.size(), open);
    }

    std::string reply_to(const std::string& requests) const
    {
        if (!answers_lines()) {
            return requests;
        }
        std::string replies;
        std::size_t begin = 0;
        for (auto end = requests.find('\n'); end != std::string::npos;
             end = requests.find('\n', begin)) {
            replies += "re:" + requests.substr(begin, end + 1 - begin);
            begin = end + 1;
        }
        return replies;
    }

    /// How its connection goes, as the server has told it.
    void check_connection() const
    {
        if (was_closed_) {
            return;
        }
        // Who waited in the queue may be turned away, and reset, between two steps.
        if (connection_ == nullptr && (was_in_queue_ || peer_->is_connected())) {
            connection_ = server_.connection_of(peer_->socket().local);
        }
        const std::size_t taken = peer_->received().size() + peer_->socket().unread();
        if (!is_tls_ && taken != taken_) {
            taken_ = taken;
            took_at_ = sim_.now();
        }
        was_closed_ = connection_ != nullptr && connection_->is_closed;
        if (was_closed_ && connection_->reason == close_reason::write_timeout && taken_ != 0 &&
            !server_.has_seen_jump() && !has_failed("ioctl") && // SIOCOUTQ tells what was taken
            connection_->closed_at - took_at_ + longest_way < server_.config().write_timeout) {
            wrong("a write timeout, though the peer has taken something in that time");
        }
    }

    [[noreturn]] void wrong(const std::string& what) const
    {
        const auto reason = closed_as();
        broken(
            what + ": a client of service " + std::to_string(static_cast<int>(server_.what())) +
            (is_tls_ ? " under TLS" : "") + ", which ended as " +
            std::string(reason ? to_string(*reason) : "open") + " got " +
            std::to_string(peer_->received().size()) + " of " + std::to_string(expected_.size()) +
            " bytes\n" + peer_->history());
    }

    void begin()
    {
        using namespace std::chrono_literals;
        if (server_.what() == service::chaos) {
            is_honest_ = false;
        }
        is_honest_ ? talk() : misbehave();
    }

    void after(std::chrono::milliseconds delay, std::function<void()> action)
    {
        sim_.at(sim_.now() + delay, std::move(action));
    }

    /// Sends something in parts, then finishes.
    void talk()
    {
        using namespace std::chrono_literals;
        auto when = 0ms;
        const auto parts = draw_.between(1, 5);
        const bool reads_slowly = !is_slow_ && draw_.chance(10);
        for (std::uint64_t part = 0; part < parts; ++part) {
            std::string bytes;
            if (answers_lines()) {
                for (auto count = draw_.between(1, 20); count > 0; --count) {
                    bytes += pattern(draw_.below(120)) + "\n";
                }
                expected_ += reply_to(bytes);
            } else {
                const bool is_much = !is_slow_ && (reads_slowly || draw_.chance(10));
                const std::size_t most = is_slow_ ? 2000 : is_much ? 400'000 : 6000;
                bytes = pattern(expected_.size() + 1 + draw_.below(most)).substr(expected_.size());
                expected_ += bytes;
            }
            after(when, [this, bytes] { say(bytes); });
            when += draw_.between(0ms, 3000ms);
        }
        after(when, [this] {
            said_all_ = true;
            peer_->half_close();
        });
        is_eager_ = !is_slow_;
        if (reads_slowly) {
            is_eager_ = false;
            read_slowly();
        } else if (draw_.chance(20)) {
            is_eager_ = false;
            pause_reading();
        }
        if (draw_.chance(5)) {
            disappear();
        }
    }

    void say(const std::string& bytes)
    {
        said_ += bytes;
        peer_->send(bytes);
    }

    void pause_reading()
    {
        using namespace std::chrono_literals;
        const auto begin = draw_.between(0ms, 2000ms);
        const bool drips = draw_.chance(50);
        after(begin, [this, drips] {
            if (drips) {
                peer_->drip(100, 5ms);
            } else {
                peer_->stall();
            }
        });
        after(begin + draw_.between(0ms, 10'000ms), [this] { peer_->resume(); });
    }

    /// For so long that every buffer on the way is full, and the server's write waits.
    void read_slowly()
    {
        using namespace std::chrono_literals;
        const auto begin = draw_.between(0ms, 1000ms);
        const auto bytes = draw_.between(100, 1000);
        after(begin, [this, bytes] { peer_->drip(bytes, 20ms); });
        after(begin + draw_.between(5000ms, 30'000ms), [this] { peer_->resume(); });
    }

    void disappear()
    {
        using namespace std::chrono_literals;
        was_cut_ = true;
        const auto begin = draw_.between(0ms, 3000ms);
        after(begin, [this] { peer_->vanish(); });
        after(begin + draw_.between(0ms, 60'000ms), [this] { peer_->come_back(); });
    }

    void misbehave()
    {
        using namespace std::chrono_literals;
        for (auto steps = draw_.between(1, 5); steps > 0; --steps) {
            const auto when = draw_.between(0ms, 15'000ms);
            switch (draw_.below(9)) {
            case 0:
                after(when, [this] { peer_->stall(); });
                break;
            case 1:
                after(when, [this] { peer_->reset(); });
                break;
            case 2:
                after(when, [this] { peer_->close(); });
                break;
            case 3:
                after(when, [this] { peer_->half_close(); });
                break;
            case 4:
                was_cut_ = true;
                after(when, [this] { peer_->vanish(); });
                break;
            case 5:
                after(when, [this] { peer_->drip(1, 50ms); });
                break;
            case 6:
                break; // and says nothing
            default: {
                std::string junk = pattern(draw_.below(20'000));
                if (draw_.chance(30)) {
                    junk.insert(0, "\x16\x03\x01");
                }
                if (draw_.chance(30)) {
                    junk += "\nSTARTTLS\n";
                }
                after(when, [this, junk] { say(junk); });
                break;
            }
            }
        }
    }

    simulation& sim_;
    watched_server& server_;
    choices& draw_;
    peer* peer_ = nullptr;
    bool is_tls_ = false;
    bool is_honest_ = false;
    bool is_slow_ = false;
    bool is_eager_ = false; // takes whatever comes
    bool was_cut_ = false;
    bool said_all_ = false;
    bool was_in_queue_ = false; // when a drain began
    std::optional<std::size_t> owed_;
    std::string said_;
    std::string expected_;
    mutable std::size_t checked_ = 0;
    mutable const watched_server::seen* connection_ = nullptr;
    mutable std::size_t taken_ = 0; // by its kernel
    mutable std::chrono::nanoseconds took_at_{};
    mutable bool was_closed_ = false;
};
} // namespace workload

#endif // FAIRLEAD_TESTS_SIMULATION_WORKLOAD_CLIENTS_HPP
