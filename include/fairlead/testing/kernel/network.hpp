// fairlead: who listens where in a simulation, and how two sockets come to be connected.

#ifndef FAIRLEAD_TESTING_KERNEL_NETWORK_HPP
#define FAIRLEAD_TESTING_KERNEL_NETWORK_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/address.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/link.hpp>
#include <fairlead/testing/kernel/tcp_socket.hpp>
#include <fairlead/testing/random.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class network
{
public:
    using socket_ptr = std::shared_ptr<tcp_socket>;

    network(agenda& when, random_source random) noexcept : agenda_(when), random_(random)
    {}

    network(const network&) = delete;
    network& operator=(const network&) = delete;

    ~network()
    {
        for (const auto& weak : links_) {
            if (const auto one = weak.lock()) {
                one->drop();
            }
        }
        const auto gone = std::exchange(orphans_, {}); // they would leave it one by one
    }

    socket_ptr make_socket(bool is_v6)
    {
        return std::make_shared<tcp_socket>(agenda_, orphans_, is_v6);
    }

    /// bind(2).
    answer bind(const socket_ptr& socket, address to)
    {
        if (socket->is_bound || socket->state() != tcp_socket::phase::fresh) {
            return -EINVAL;
        }
        if (to.is_v6 != socket->local.is_v6) {
            return to.is_v6 ? -EAFNOSUPPORT : -EINVAL;
        }
        if (!is_local(to)) {
            return -EADDRNOTAVAIL;
        }
        if (to.port == 0) {
            to.port = free_port();
        } else if (is_taken(*socket, to)) {
            return -EADDRINUSE;
        }
        take(socket, to);
        return 0;
    }

    /// listen(2).
    answer listen(const socket_ptr& socket, int backlog)
    {
        if (socket->state() == tcp_socket::phase::listening) {
            socket->listen(std::min(backlog, longest_backlog));
            return 0;
        }
        if (socket->state() != tcp_socket::phase::fresh) {
            return -EINVAL;
        }
        if (!socket->is_bound) {
            address any = socket->local;
            any.port = free_port();
            take(socket, any);
        } else if (is_taken(*socket, socket->local)) {
            return -EADDRINUSE;
        }
        socket->listen(std::min(backlog, longest_backlog));
        return 0;
    }

    /// connect(2): what happens later is seen by `poll`, and told by `SO_ERROR`.
    answer connect(const socket_ptr& socket, const address& to)
    {
        return connect(socket, to, defaults);
    }

    answer connect(const socket_ptr& socket, address to, const path_options& options)
    {
        switch (socket->state()) {
        case tcp_socket::phase::connecting:
            return -EALREADY;
        case tcp_socket::phase::established:
            return socket->tells_of_connection() ? 0 : -EISCONN;
        case tcp_socket::phase::listening:
            return -EISCONN;
        case tcp_socket::phase::fresh:
        case tcp_socket::phase::closed:
            break;
        }
        if (to.is_v6 != socket->local.is_v6) {
            return to.is_v6 ? -EAFNOSUPPORT : -EINVAL;
        }
        if (to.is_any()) { // Linux takes it for the own host
            to = to.is_v6 && !to.is_v4() ? address::parse("::1", to.port)
                                         : address::v4(0x7f000001, to.port);
            to.is_v6 = socket->local.is_v6;
        }
        if (!socket->is_bound || socket->local.is_any()) {
            address from = to;
            from.port = socket->local.port != 0 ? socket->local.port : free_port();
            socket->local = from;
            socket->is_bound = true;
        }
        socket->begin_connecting(to);
        const auto out = std::make_shared<link>(agenda_, random_.fork(), options);
        const auto back = std::make_shared<link>(agenda_, random_.fork(), options);
        links_.push_back(out);
        links_.push_back(back);
        knock(socket, {out, back}, 0);
        return -EINPROGRESS;
    }

    /// Nothing comes through between these two any more, and neither is told.
    static void cut(const tcp_socket& end)
    {
        if (end.way().out) {
            end.way().out->hold();
            end.way().back->hold();
        }
    }

    static void mend(const tcp_socket& end)
    {
        if (end.way().out) {
            end.way().out->resume();
            end.way().back->resume();
        }
    }

    /// An address that is this host's, besides the loopback and unspecified ones.
    void add_host(const address& one)
    {
        hosts_.push_back(one);
    }

    /// Clients that nobody has accepted yet at the sockets that listen on this port.
    std::size_t queued(std::uint16_t port) const
    {
        std::size_t count = 0;
        for_each_listener(port, [&](const tcp_socket& one) { count += one.info().tcpi_unacked; });
        return count;
    }

    /// One of them is this client.
    bool is_queued(std::uint16_t port, const address& client) const
    {
        bool is_there = false;
        for_each_listener(
            port, [&](const tcp_socket& one) { is_there = is_there || one.has_queued(client); });
        return is_there;
    }

    std::size_t orphan_count() const noexcept
    {
        return orphans_.size();
    }

    /// For connections whose maker says nothing else.
    path_options defaults;

private:
    template <typename Visit>
    void for_each_listener(std::uint16_t port, Visit visit) const
    {
        const auto found = bound_.find(port);
        if (found == bound_.end()) {
            return;
        }
        for (const auto& weak : found->second) {
            const auto one = weak.lock();
            if (one && one->state() == tcp_socket::phase::listening) {
                visit(*one);
            }
        }
    }

    static constexpr int longest_backlog = 4096; // net.core.somaxconn
    static constexpr int most_knocks = 6;        // tcp_syn_retries
    static constexpr int most_welcomes = 5;      // net.ipv4.tcp_synack_retries
    static constexpr std::uint16_t first_ephemeral = 32768;
    static constexpr std::uint16_t last_ephemeral = 60999;

    bool is_local(const address& one) const noexcept
    {
        return one.is_any() || one.is_loopback() ||
               std::any_of(hosts_.begin(), hosts_.end(), [&](const address& host) {
                   return host.has_same_host(one);
               });
    }

    static bool overlap(const tcp_socket& left, const address& one, const address& other)
    {
        if (one.has_same_host(other)) {
            return true;
        }
        const bool only_v6 = left.options.at(IPPROTO_IPV6, IPV6_V6ONLY) != 0;
        if (one.is_any() && !one.is_v4()) {
            return !only_v6 || !other.is_v4();
        }
        return (one.is_any() && other.is_v4()) ||
               (other.is_any() && (one.is_v4() == other.is_v4()));
    }

    bool is_taken(const tcp_socket& asks, const address& wanted)
    {
        auto& there = bound_[wanted.port];
        std::erase_if(there, [](const auto& one) { return one.expired(); });
        return std::any_of(there.begin(), there.end(), [&](const auto& weak) {
            const auto one = weak.lock();
            if (one.get() == &asks || one->state() == tcp_socket::phase::closed ||
                one->descriptors == 0) {
                return false;
            }
            const auto both = [&](int name) {
                return one->options.at(SOL_SOCKET, name) != 0 &&
                       asks.options.at(SOL_SOCKET, name) != 0;
            };
            const bool may_share =
                both(SO_REUSEPORT) ||
                (both(SO_REUSEADDR) && one->state() != tcp_socket::phase::listening);
            return !may_share &&
                   (overlap(*one, one->local, wanted) || overlap(asks, wanted, one->local));
        });
    }

    void take(const socket_ptr& socket, const address& where)
    {
        socket->local = where;
        socket->is_bound = true;
        bound_[where.port].push_back(socket);
    }

    std::uint16_t free_port()
    {
        do {
            last_port_ = last_port_ == last_ephemeral ? first_ephemeral
                                                      : static_cast<std::uint16_t>(last_port_ + 1);
            auto& there = bound_[last_port_];
            std::erase_if(there, [](const auto& one) { return one.expired(); });
        } while (!bound_[last_port_].empty());
        return last_port_;
    }

    /// Null: nobody listens there.
    socket_ptr find_listener(const address& to)
    {
        std::vector<socket_ptr> exact;
        std::vector<socket_ptr> any;
        for (const auto& weak : bound_[to.port]) {
            const auto one = weak.lock();
            if (!one || one->state() != tcp_socket::phase::listening) {
                continue;
            }
            if (one->local.has_same_host(to)) {
                exact.push_back(one);
            } else if (one->local.is_any() && overlap(*one, one->local, to)) {
                any.push_back(one);
            }
        }
        auto& group = exact.empty() ? any : exact; // several: SO_REUSEPORT
        return group.empty() ? nullptr : random_.pick(group);
    }

    void knock(const socket_ptr& client, const path& way, int attempt)
    {
        way.out->carry(0, [this, client, way, attempt] {
            if (client->state() == tcp_socket::phase::connecting) {
                answer_knock(client, way, attempt);
            }
        });
    }

    void answer_knock(const socket_ptr& client, const path& way, int attempt)
    {
        const auto listener = find_listener(client->remote);
        if (!listener) {
            way.back->carry(0, [client] { client->refuse(ECONNREFUSED); });
        } else if (listener->has_full_queue()) { // as if the packet had been lost
            agenda_.after(std::chrono::seconds(1 << attempt), [this, client, way, attempt] {
                if (attempt < most_knocks) {
                    knock(client, way, attempt + 1);
                } else {
                    client->refuse(ETIMEDOUT);
                }
            });
        } else {
            welcome(client, listener, way);
        }
    }

    void welcome(const socket_ptr& client, const socket_ptr& listener, const path& way)
    {
        const auto served = make_socket(listener->local.is_v6);
        served->options = listener->options;
        served->local = client->remote;
        served->remote = client->local;
        served->local.is_v6 = served->remote.is_v6 = listener->local.is_v6;
        served->establish(client, way.reversed());
        way.back->carry(0, [this, client, listener, served, way] {
            if (client->state() != tcp_socket::phase::connecting) { // it has given up
                way.out->carry(0, [served] { served->abort(); });
                return;
            }
            client->establish(served, way);
            way.out->carry(0, [this, listener, served] { enqueue(listener, served); });
            client->become_ready();
        });
    }

    void enqueue(const socket_ptr& listener, const socket_ptr& served)
    {
        const auto enter = [this, listener](const socket_ptr& ready) {
            enter_queue(listener, ready, 0);
        };
        const int patience = listener->options.at(IPPROTO_TCP, TCP_DEFER_ACCEPT);
        if (patience <= 0) {
            enter(served);
            return;
        }
        const auto is_in = std::make_shared<bool>(false);
        served->on_first_arrival([enter, is_in, weak = std::weak_ptr(served)] {
            const auto ready = weak.lock();
            if (ready && !std::exchange(*is_in, true)) {
                enter(ready);
            }
        });
        agenda_.after(std::chrono::seconds(patience), [enter, is_in, served] {
            if (!std::exchange(*is_in, true) && served->is_connected()) {
                enter(served);
            }
        });
    }

    /// The last packet of the handshake has come; into a full queue it is as if it had not.
    void enter_queue(const socket_ptr& listener, const socket_ptr& ready, int attempt)
    {
        const bool listens = listener->state() == tcp_socket::phase::listening;
        if (listens && !listener->has_full_queue()) {
            listener->enqueue(ready);
        } else if (listens && attempt < most_welcomes) {
            agenda_.after(std::chrono::seconds(1 << attempt), [this, listener, ready, attempt] {
                enter_queue(listener, ready, attempt + 1);
            });
        } else {
            ready->abort();
        }
    }

    agenda& agenda_;
    random_source random_;
    orphanage orphans_;
    std::vector<std::weak_ptr<link>> links_;
    std::map<std::uint16_t, std::vector<std::weak_ptr<tcp_socket>>> bound_;
    std::vector<address> hosts_;
    std::uint16_t last_port_ = first_ephemeral;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_NETWORK_HPP
