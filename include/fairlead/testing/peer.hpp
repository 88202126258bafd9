// fairlead: a scripted client of a simulated server: what it sends, what it expects, and how badly
// it behaves. It is not a program on the simulated kernel but a part of it: its calls do not fail.

#ifndef FAIRLEAD_TESTING_PEER_HPP
#define FAIRLEAD_TESTING_PEER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/tcp_socket.hpp>
#include <fairlead/testing/stream_layer.hpp>
#include <fairlead/testing/words.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing
{
/// An expectation that was not met: what was expected, what came, when, and what happened before.
class expectation_failed : public simulation_failure
{
public:
    using simulation_failure::simulation_failure;
};

/// One connection of a client. Made by `simulation::connect`, and lives as long as the simulation.
/// The calls that expect something run the simulation until it has happened. Each returns the peer.
class peer final : private simulated::watcher
{
public:
    peer(simulated::kernel& in, std::function<void(const peer&, const std::function<bool()>&)> wait)
        : kernel_(in), wait_(std::move(wait))
    {}

    peer(const peer&) = delete;
    peer& operator=(const peer&) = delete;

    ~peer()
    {
        if (socket_) {
            socket_->remove_watcher(*this);
            const bool was_open = std::exchange(is_open_, false);
            if (was_open) {
                socket_->release();
            }
        }
    }

    // -- what it does

    /// Queues bytes, which go as fast as the connection takes them, and not before it is there.
    peer& send(std::string_view bytes)
    {
        note("sends " + in_quotes(bytes));
        outgoing_.append(bytes);
        schedule();
        return *this;
    }

    /// Sends no more, once what is queued has gone: FIN, under TLS with a close_notify before it.
    peer& half_close()
    {
        note("finishes");
        finishes_ = true;
        schedule();
        return *this;
    }

    /// Closes in order, once what is queued has gone.
    peer& close()
    {
        note("closes");
        finishes_ = closes_ = true;
        schedule();
        return *this;
    }

    /// Resets the connection now.
    peer& reset()
    {
        note("resets");
        if (std::exchange(is_open_, false)) {
            socket_->abort();
            socket_->release(); // also when it was not connected yet
        }
        return *this;
    }

    /// Reads nothing from now on.
    peer& stall()
    {
        note("stalls");
        reads_at_once_ = 0;
        return *this;
    }

    /// Reads `bytes` at a time, every `pause`.
    peer& drip(std::size_t bytes, std::chrono::nanoseconds pause)
    {
        note("drips");
        reads_at_once_ = bytes;
        pause_ = pause;
        schedule();
        return *this;
    }

    /// Reads whatever comes, as at first.
    peer& resume()
    {
        note("reads");
        reads_at_once_ = everything;
        pause_ = reads_again_at_ = {};
        schedule();
        return *this;
    }

    /// The network to it is cut; neither end is told.
    peer& vanish()
    {
        note("vanishes");
        simulated::network::cut(*socket_);
        socket_->path_was_cut();
        if (const auto other = socket_->peer()) {
            other->path_was_cut();
        }
        return *this;
    }

    /// The network is whole again.
    peer& come_back()
    {
        note("comes back");
        simulated::network::mend(*socket_);
        return *this;
    }

    /// From here on through `layer`, such as TLS.
    peer& wrap(std::unique_ptr<stream_layer> layer)
    {
        layer_ = std::move(layer);
        schedule();
        return *this;
    }

    // -- what it expects

    /// The next bytes are these. They are taken.
    peer& expect(std::string_view bytes)
    {
        wait_(*this, [&] { return received_.size() >= bytes.size() || !reads_on(); });
        if (received_.substr(0, bytes.size()) != bytes) {
            fail(in_quotes(bytes));
        }
        received_.erase(0, bytes.size());
        return *this;
    }

    /// The server finishes in order, and nothing more comes before.
    peer& expect_end()
    {
        wait_(*this, [&] { return !received_.empty() || !reads_on(); });
        if (!received_.empty() || !has_ended()) {
            fail("the end of the stream");
        }
        return *this;
    }

    /// The connection is reset; what came before may be unread.
    peer& expect_reset()
    {
        wait_(*this, [&] { return !reads_on(); });
        if (!was_reset()) {
            fail("a reset");
        }
        return *this;
    }

    /// It is connected.
    peer& expect_connection()
    {
        wait_(*this, [&] { return is_connected() || !is_open_ || error_ != 0; });
        if (!is_connected()) {
            fail("a connection");
        }
        return *this;
    }

    // -- what there is

    /// What came and was not expected yet.
    const std::string& received() const noexcept
    {
        return received_;
    }

    bool is_connected() const noexcept
    {
        return socket_->is_connected();
    }

    /// The server sends no more, and said so in order.
    bool has_ended() const noexcept
    {
        return layer_ ? layer_->has_ended() : has_end_;
    }

    /// A FIN came, with or without what the layer wants to see before it.
    bool has_fin() const noexcept
    {
        return has_end_;
    }

    bool was_reset() const noexcept
    {
        return error_ == ECONNRESET || error_ == EPIPE;
    }

    /// Neither finished nor reset, and not closed by itself.
    bool reads_on() const noexcept
    {
        return is_open_ && !has_end_ && error_ == 0 && problem().empty();
    }

    /// Why what came cannot be read on, such as broken TLS; empty: it can.
    std::string problem() const
    {
        return layer_ ? layer_->problem() : std::string();
    }

    /// The errno with which it ended; 0: none.
    int error() const noexcept
    {
        return error_;
    }

    /// Bytes that the connection has not taken yet.
    std::size_t unsent() const noexcept
    {
        return outgoing_.size();
    }

    const simulated::tcp_socket& socket() const noexcept
    {
        return *socket_;
    }

    /// The last things that happened to it, a line each.
    std::string history() const
    {
        return history_.text();
    }

    /// For `simulation::connect`.
    void connect(
        const simulated::address& from, const simulated::address& to, const path_options& how)
    {
        socket_ = kernel_.net.make_socket(to.is_v6);
        socket_->flags |= O_NONBLOCK;
        socket_->local = from;
        socket_->is_bound = from.port != 0;
        socket_->add_watcher(*this);
        socket_->descriptors = 1;
        note("connects to " + to.text());
        kernel_.net.connect(socket_, to, how);
    }

private:
    static constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

    void file_woke(std::uint32_t) override
    {
        schedule();
    }

    void schedule(std::chrono::nanoseconds delay = {})
    {
        if (!is_scheduled_ && socket_) {
            is_scheduled_ = true;
            kernel_.when.after(delay, [this, alive = std::weak_ptr(alive_)] {
                if (alive.lock()) {
                    is_scheduled_ = false;
                    pump();
                }
            });
        }
    }

    void pump()
    {
        if (!is_open_ || socket_->state() == simulated::tcp_socket::phase::connecting) {
            return;
        }
        const simulated::kernel::as_peer as_peer(kernel_);
        if (!was_connected_ && socket_->is_connected()) {
            was_connected_ = true;
            note("is connected");
        }
        write();
        read();
        write(); // what the layer answered
        if (closes_ && has_said_all()) {
            is_open_ = false;
            socket_->release();
        }
    }

    bool has_said_all() const noexcept
    {
        return (outgoing_.empty() && wire_.empty() && has_finished_) || error_ != 0;
    }

    void write()
    {
        if (layer_) {
            if (layer_->is_ready() && !outgoing_.empty()) {
                layer_->send(std::exchange(outgoing_, {}));
            }
            if (finishes_ && outgoing_.empty() && !std::exchange(layer_finishes_, true)) {
                layer_->finish();
            }
            wire_ += layer_->take_output();
        }
        std::string& bytes = layer_ ? wire_ : outgoing_;
        while (!bytes.empty() && error_ == 0) {
            iovec part = {bytes.data(), bytes.size()};
            const simulated::answer n = socket_->write({&part, 1}, MSG_NOSIGNAL);
            if (n == -EAGAIN) {
                return;
            }
            if (n < 0) {
                fail_with(static_cast<int>(-n));
                return;
            }
            bytes.erase(0, static_cast<std::size_t>(n));
        }
        if (finishes_ && bytes.empty() && outgoing_.empty() && !has_finished_ && error_ == 0) {
            has_finished_ = true;
            socket_->shutdown(SHUT_WR);
        }
    }

    void read()
    {
        if (const auto now = kernel_.when.now(); now < reads_again_at_) {
            schedule(reads_again_at_ - now);
            return;
        }
        reads_again_at_ = kernel_.when.now() + pause_;
        std::array<char, 16384> buffer;
        std::size_t left = reads_at_once_;
        while (left > 0 && error_ == 0 && !has_end_) {
            iovec part = {buffer.data(), std::min(buffer.size(), left)};
            const simulated::answer n = socket_->read({&part, 1}, 0);
            if (n == -EAGAIN) {
                return;
            }
            if (n < 0) {
                fail_with(static_cast<int>(-n));
                return;
            }
            if (n == 0) {
                has_end_ = true;
                note("sees the end");
                return;
            }
            left -= static_cast<std::size_t>(n);
            take({buffer.data(), static_cast<std::size_t>(n)});
        }
        if (left == 0 && pause_.count() > 0) {
            schedule(pause_);
        }
    }

    void take(std::string_view wire)
    {
        const std::size_t before = received_.size();
        if (!layer_) {
            received_.append(wire);
        } else if (!layer_->receive(wire, received_)) {
            note("cannot read on: " + layer_->problem());
        }
        if (received_.size() > before) {
            note("receives " + in_quotes(std::string_view(received_).substr(before)));
        }
    }

    void fail_with(int error)
    {
        error_ = error;
        note(std::string("is told: ") + std::strerror(error));
    }

    [[noreturn]] void fail(const std::string& expected) const
    {
        const std::string came = !received_.empty() ? in_quotes(received_)
                                 : was_reset()      ? "a reset"
                                 : has_ended()      ? "the end of the stream"
                                 : has_end_         ? "a FIN without the end of the stream"
                                                    : "nothing";
        throw expectation_failed(
            "expected " + expected + ", and there was " + came + ", at " + time() +
            "\nThe connection:\n" + history());
    }

    void note(const std::string& what)
    {
        history_.add(time() + "  " + what);
    }

    std::string time() const
    {
        return in_seconds(kernel_.when.now());
    }

    simulated::kernel& kernel_;
    std::function<void(const peer&, const std::function<bool()>&)> wait_;
    std::shared_ptr<simulated::tcp_socket> socket_;
    std::unique_ptr<stream_layer> layer_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::string outgoing_; // of the peer
    std::string wire_;     // of the layer
    std::string received_;
    last_lines history_;
    std::size_t reads_at_once_ = everything;
    std::chrono::nanoseconds pause_{};
    std::chrono::nanoseconds reads_again_at_{};
    int error_ = 0;
    bool is_open_ = true;
    bool is_scheduled_ = false;
    bool was_connected_ = false;
    bool finishes_ = false; // asked for
    bool closes_ = false;
    bool layer_finishes_ = false;
    bool has_finished_ = false; // done
    bool has_end_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_PEER_HPP
