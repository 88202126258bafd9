#include "simulation/conformance.hpp"

#include <csignal>

namespace conformance
{
namespace
{
const std::vector<row> connection_table = {
    // -- names and states
    {"a fresh socket hangs up and is writable",
     [](transcript& t) { t.say("state", state(make_socket())); }},
    {"a fresh socket is not connected",
     [](transcript& t) {
         const descriptor s = make_socket();
         t.say("recv", take(s));
         t.call("shutdown", ::shutdown(s, SHUT_WR));
         sockaddr_in name = {};
         socklen_t size = sizeof name;
         t.call("getpeername", ::getpeername(s, reinterpret_cast<sockaddr*>(&name), &size));
     }},
    {"a send on a fresh socket is a broken pipe",
     [](transcript& t) { t.call("send", put(make_socket(), "x")); }},
    {"calls on what is no descriptor",
     [](transcript& t) {
         descriptor s = make_socket();
         const int number = s;
         s.close();
         t.call("recv", ::recv(number, nullptr, 0, 0));
         t.call("listen", ::listen(number, 1));
         t.call("close", ::close(number));
     }},
    {"socket calls on what is no socket",
     [](transcript& t) {
         const descriptor e(::eventfd(0, EFD_NONBLOCK));
         t.call("listen", ::listen(e, 1));
         t.call("shutdown", ::shutdown(e, SHUT_RD));
         t.call("accept", ::accept(e, nullptr, nullptr));
         t.call("setsockopt", set(e, SOL_SOCKET, SO_KEEPALIVE, 1));
     }},
    {"binding twice, and a used address",
     [](transcript& t) {
         const descriptor first = make_listener();
         const descriptor second = make_socket();
         const sockaddr_in used = name_of(first);
         t.call("bind used", ::bind(second, as_sockaddr(used), sizeof used));
         const sockaddr_in any = loopback();
         t.call("bind", ::bind(second, as_sockaddr(any), sizeof any));
         t.call("again", ::bind(second, as_sockaddr(any), sizeof any));
     }},
    {"an address of another host cannot be bound",
     [](transcript& t) {
         const descriptor s = make_socket();
         sockaddr_in address = loopback();
         address.sin_addr.s_addr = htonl(0xcb007109); // 203.0.113.9, for documentation
         t.call("bind", ::bind(s, as_sockaddr(address), sizeof address));
     }},
    {"a listening port may be shared by those who all say so",
     [](transcript& t) {
         const descriptor first = make_socket();
         const descriptor second = make_socket();
         const descriptor third = make_socket();
         set(first, SOL_SOCKET, SO_REUSEPORT, 1);
         set(second, SOL_SOCKET, SO_REUSEPORT, 1);
         const sockaddr_in any = loopback();
         t.call("bind", ::bind(first, as_sockaddr(any), sizeof any));
         const sockaddr_in address = name_of(first);
         t.call("listen", ::listen(first, 1));
         t.call("second", ::bind(second, as_sockaddr(address), sizeof address));
         t.call("listen", ::listen(second, 1));
         t.call("third", ::bind(third, as_sockaddr(address), sizeof address));
     }},
    {"SO_REUSEADDR does not share a port that somebody listens on",
     [](transcript& t) {
         const descriptor first = make_socket();
         const descriptor second = make_socket();
         set(first, SOL_SOCKET, SO_REUSEADDR, 1);
         set(second, SOL_SOCKET, SO_REUSEADDR, 1);
         const sockaddr_in any = loopback();
         ::bind(first, as_sockaddr(any), sizeof any);
         const sockaddr_in address = name_of(first);
         t.call("listen", ::listen(first, 1));
         t.call("bind", ::bind(second, as_sockaddr(address), sizeof address));
     }},
    {"a listening socket that is closed gives its port back",
     [](transcript& t) {
         descriptor first = make_listener();
         const sockaddr_in address = name_of(first);
         first.close();
         const descriptor second = make_socket();
         set(second, SOL_SOCKET, SO_REUSEADDR, 1);
         t.call("bind", ::bind(second, as_sockaddr(address), sizeof address));
         t.call("listen", ::listen(second, 1));
     }},
    {"families do not mix",
     [](transcript& t) {
         const descriptor four = make_socket();
         const descriptor six(::socket(AF_INET6, SOCK_STREAM, 0));
         sockaddr_in6 address = {};
         address.sin6_family = AF_INET6;
         address.sin6_addr = in6addr_loopback;
         t.call("v6 on v4", ::bind(four, reinterpret_cast<sockaddr*>(&address), sizeof address));
         const sockaddr_in other = loopback();
         t.call("v4 on v6", ::bind(six, as_sockaddr(other), sizeof other));
     }},
    {"a dual-stack socket serves IPv4 clients as mapped ones",
     [](transcript& t) {
         const descriptor six(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
         set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0);
         sockaddr_in6 any = {};
         any.sin6_family = AF_INET6;
         t.call("bind", ::bind(six, reinterpret_cast<sockaddr*>(&any), sizeof any));
         t.call("listen", ::listen(six, 4));
         socklen_t size = sizeof any;
         ::getsockname(six, reinterpret_cast<sockaddr*>(&any), &size);
         const descriptor client = make_socket();
         const sockaddr_in to = loopback(ntohs(any.sin6_port));
         t.call("connect", ::connect(client, as_sockaddr(to), sizeof to));
         wait_for(six, POLLIN);
         sockaddr_in6 from = {};
         size = sizeof from;
         const descriptor server(::accept(six, reinterpret_cast<sockaddr*>(&from), &size));
         std::array<char, 64> text = {};
         ::inet_ntop(AF_INET6, &from.sin6_addr, text.data(), text.size());
         t.say("from", text.data());
     }},

    // -- connecting and accepting
    {"a connect that does not wait is in progress, then done",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const descriptor client = make_socket();
         const sockaddr_in to = name_of(listener);
         t.call("connect", ::connect(client, as_sockaddr(to), sizeof to));
         wait_for(client, POLLOUT);
         t.call("SO_ERROR", get(client, SOL_SOCKET, SO_ERROR));
         t.say("state", state(client));
         t.call("again", ::connect(client, as_sockaddr(to), sizeof to));
         t.call("and again", ::connect(client, as_sockaddr(to), sizeof to));
     }},
    {"a connect that waits",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const descriptor client = make_socket(0);
         const sockaddr_in to = name_of(listener);
         t.call("connect", ::connect(client, as_sockaddr(to), sizeof to));
     }},
    {"a connect that is refused",
     [](transcript& t) {
         descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         listener.close();
         const descriptor client = make_socket();
         t.call("connect", ::connect(client, as_sockaddr(to), sizeof to));
         wait_for(client, POLLOUT);
         t.say("state", state(client));
         t.say("SO_ERROR", transcript::error_name(get(client, SOL_SOCKET, SO_ERROR)));
         t.say("state", state(client));
         t.say("recv", take(client));
     }},
    {"a connect that waits and is refused",
     [](transcript& t) {
         descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         listener.close();
         t.call("connect", ::connect(make_socket(0), as_sockaddr(to), sizeof to));
     }},
    {"accept when nobody waits",
     [](transcript& t) {
         const descriptor listener = make_listener();
         t.call("accept", ::accept(listener, nullptr, nullptr));
         t.call("on another", ::accept(make_socket(), nullptr, nullptr));
     }},
    {"accept4 sets the flags that it is told, and accept none",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         const descriptor first = make_socket();
         const descriptor second = make_socket();
         ::connect(first, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         const descriptor one(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
         ::connect(second, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         const descriptor two(::accept(listener, nullptr, nullptr));
         t.call("fl", ::fcntl(one, F_GETFL) & O_NONBLOCK);
         t.call("fd", ::fcntl(one, F_GETFD));
         t.call("fl", ::fcntl(two, F_GETFL) & O_NONBLOCK);
         t.call("fd", ::fcntl(two, F_GETFD));
     }},
    {"the two ends name each other",
     [](transcript& t) {
         const pair p;
         sockaddr_in peer = {};
         socklen_t size = sizeof peer;
         t.call("getpeername", ::getpeername(p.client, reinterpret_cast<sockaddr*>(&peer), &size));
         t.say("same", peer.sin_port == name_of(p.server).sin_port ? "yes" : "no");
     }},
    {"accepted sockets inherit the options of the listening one",
     [](transcript& t) {
         pair p;
         set(p.listener, IPPROTO_TCP, TCP_NODELAY, 1);
         set(p.listener, SOL_SOCKET, SO_KEEPALIVE, 1);
         set(p.listener, IPPROTO_TCP, TCP_KEEPIDLE, 33);
         const sockaddr_in to = name_of(p.listener);
         const descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(p.listener, POLLIN);
         const descriptor server(::accept(p.listener, nullptr, nullptr));
         t.call("TCP_NODELAY", get(server, IPPROTO_TCP, TCP_NODELAY));
         t.call("SO_KEEPALIVE", get(server, SOL_SOCKET, SO_KEEPALIVE));
         t.call("TCP_KEEPIDLE", get(server, IPPROTO_TCP, TCP_KEEPIDLE));
     }},
    {"a queue holds one client more than the backlog",
     [](transcript& t) {
         const descriptor listener = make_listener(1);
         const sockaddr_in to = name_of(listener);
         std::vector<descriptor> clients;
         std::string connected;
         for (int i = 0; i < 3; ++i) {
             clients.push_back(make_socket());
             ::connect(clients.back(), as_sockaddr(to), sizeof to);
             settle();
             connected += (state(clients.back()) == "OUT" ? "y" : "n");
         }
         t.say("connected", connected);
         int accepted = 0;
         for (descriptor next; (next = descriptor(::accept(listener, nullptr, nullptr))) >= 0;) {
             ++accepted;
         }
         t.call("accepted", accepted);
     }},
    {"so it is when they come at once",
     [](transcript& t) {
         const descriptor listener = make_listener(1);
         const sockaddr_in to = name_of(listener);
         std::vector<descriptor> clients;
         for (int i = 0; i < 4; ++i) {
             clients.push_back(make_socket());
             ::connect(clients.back(), as_sockaddr(to), sizeof to);
         }
         settle();
         int accepted = 0;
         for (descriptor next; (next = descriptor(::accept(listener, nullptr, nullptr))) >= 0;) {
             ++accepted;
         }
         t.call("accepted", accepted);
     }},
    {"TCP_INFO tells how many wait in the queue",
     [](transcript& t) {
         const descriptor listener = make_listener(5);
         const sockaddr_in to = name_of(listener);
         const descriptor first = make_socket();
         const descriptor second = make_socket();
         ::connect(first, as_sockaddr(to), sizeof to);
         ::connect(second, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         settle();
         tcp_info info = {};
         socklen_t size = sizeof info;
         t.call("getsockopt", ::getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size));
         t.call("state", info.tcpi_state);
         t.call("queued", info.tcpi_unacked);
     }},
    {"closing a listening socket resets who waits",
     [](transcript& t) {
         descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         const descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         wait_for(client, POLLOUT);
         listener.close();
         wait_for(client, POLLIN);
         t.say("recv", take(client));
         t.say("recv", take(client));
     }},
    {"a listening socket that is shut down hangs up, and whom it had queued is reset",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         const descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         wait_for(client, POLLOUT);
         t.say("listening", state(listener));
         t.call("shutdown", ::shutdown(listener, SHUT_RDWR));
         t.say("state", state(listener));
         t.call("accept", ::accept(listener, nullptr, nullptr));
         t.call("again", ::shutdown(listener, SHUT_RDWR));
         tcp_info info = {};
         socklen_t size = sizeof info;
         ::getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size);
         t.call("TCP_INFO", info.tcpi_state);
         wait_for(client, POLLIN);
         t.say("recv", take(client));
     }},
    {"SHUT_WR leaves a listening socket as it is",
     [](transcript& t) {
         const descriptor listener = make_listener();
         t.call("shutdown", ::shutdown(listener, SHUT_WR));
         t.say("state", state(listener));
         t.call("accept", ::accept(listener, nullptr, nullptr));
     }},
    {"a client that resets in the queue is accepted all the same",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(listener, POLLIN);
         resets_on_close(client);
         client.close();
         settle();
         const descriptor server(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
         t.made("accept", server);
         t.say("recv", take(server));
         sockaddr_in name = {};
         socklen_t size = sizeof name;
         t.call("getpeername", ::getpeername(server, reinterpret_cast<sockaddr*>(&name), &size));
     }},
    {"bytes that came before the accept are there",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const sockaddr_in to = name_of(listener);
         descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(client, POLLOUT);
         put(client, "early");
         client.close();
         wait_for(listener, POLLIN);
         const descriptor server(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK));
         wait_for(server, POLLIN);
         t.say("recv", take(server));
         t.say("recv", take(server));
     }},

    // -- bytes
    {"bytes arrive, and nothing more",
     [](transcript& t) {
         const pair p;
         t.call("send", put(p.client, "hello"));
         wait_for(p.server, POLLIN);
         t.say("recv", take(p.server));
         t.say("recv", take(p.server));
     }},
    {"a stream has no borders",
     [](transcript& t) {
         const pair p;
         put(p.client, "ab");
         put(p.client, "cd");
         settle();
         t.say("recv", take(p.server, 3));
         t.say("recv", take(p.server, 3));
     }},
    {"a peek leaves what it sees",
     [](transcript& t) {
         const pair p;
         put(p.client, "peek");
         wait_for(p.server, POLLIN);
         t.say("peek", take(p.server, 2, MSG_PEEK));
         t.say("recv", take(p.server));
         t.say("peek", take(p.server, 2, MSG_PEEK));
     }},
    {"FIONREAD counts what waits",
     [](transcript& t) {
         const pair p;
         put(p.client, "12345");
         wait_for(p.server, POLLIN);
         int count = -1;
         t.call("ioctl", ::ioctl(p.server, FIONREAD, &count));
         t.call("count", count);
         t.call("on a listener", ::ioctl(p.listener, FIONREAD, &count));
     }},
    {"SIOCOUTQ is nothing when all is acknowledged",
     [](transcript& t) {
         const pair p;
         put(p.client, "12345");
         wait_for(p.server, POLLIN);
         settle();
         int count = -1;
         t.call("ioctl", ::ioctl(p.client, TIOCOUTQ, &count));
         t.call("count", count);
     }},
    {"SIOCOUTQ is something when the peer does not read",
     [](transcript& t) {
         const pair p;
         fill(p.client);
         int count = -1;
         ::ioctl(p.client, TIOCOUTQ, &count);
         t.say("unacknowledged", count > 0 ? "some" : "none");
     }},
    {"scattered memory",
     [](transcript& t) {
         const pair p;
         std::array<char, 3> a = {'a', 'b', 'c'};
         std::array<char, 2> b = {'d', 'e'};
         const std::array<iovec, 2> out = {{{a.data(), a.size()}, {b.data(), b.size()}}};
         t.call("writev", ::writev(p.client, out.data(), 2));
         wait_for(p.server, POLLIN);
         std::array<char, 2> c = {};
         std::array<char, 8> d = {};
         const std::array<iovec, 2> in = {{{c.data(), c.size()}, {d.data(), d.size()}}};
         t.call("readv", ::readv(p.server, in.data(), 2));
         t.say("first", std::string(c.data(), 2));
         t.say("second", std::string(d.data(), 3));
     }},
    {"sendmsg and recvmsg",
     [](transcript& t) {
         const pair p;
         std::array<char, 3> a = {'x', 'y', 'z'};
         iovec part = {a.data(), a.size()};
         msghdr message = {};
         message.msg_iov = &part;
         message.msg_iovlen = 1;
         t.call("sendmsg", ::sendmsg(p.client, &message, MSG_NOSIGNAL));
         wait_for(p.server, POLLIN);
         std::array<char, 8> b = {};
         part = {b.data(), b.size()};
         t.call("recvmsg", ::recvmsg(p.server, &message, 0));
         t.say("bytes", b.data());
     }},
    {"read and write are recv and send",
     [](transcript& t) {
         const pair p;
         t.call("write", ::write(p.client, "rw", 2));
         wait_for(p.server, POLLIN);
         std::array<char, 8> b = {};
         t.call("read", ::read(p.server, b.data(), b.size()));
     }},
    {"a send of nothing", [](transcript& t) { t.call("send", put(pair().client, "")); }},
    {"a peer that does not read fills both buffers",
     [](transcript& t) {
         const pair p;
         const std::size_t all = fill(p.client);
         t.say("state", state(p.client));
         t.say("arrives", drain(p.server) > 0 && all > 0 ? "yes" : "no");
         wait_for(p.client, POLLOUT);
         t.say("state", state(p.client));
         t.call("send", put(p.client, "x"));
     }},
    {"nothing is lost when buffers were full",
     [](transcript& t) {
         const pair p;
         const std::size_t sent = fill(p.client);
         std::size_t got = 0;
         for (int i = 0; i < 1000 && got < sent; ++i) {
             wait_for(p.server, POLLIN);
             got += drain(p.server);
         }
         t.say("all", got == sent ? "yes" : "no");
     }},
    {"a small send buffer takes a part",
     [](transcript& t) {
         const pair p;
         set(p.server, SOL_SOCKET, SO_RCVBUF, 4096);
         set(p.client, SOL_SOCKET, SO_SNDBUF, 8192);
         const std::vector<char> much(8U << 20U, 'm');
         const long n = ::send(p.client, much.data(), much.size(), MSG_NOSIGNAL);
         t.say("send", n > 0 && n < static_cast<long>(much.size()) ? "a part" : "all or nothing");
     }},
    {"MSG_DONTWAIT does not wait",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const descriptor client = make_socket(0);
         const sockaddr_in to = name_of(listener);
         ::connect(client, as_sockaddr(to), sizeof to);
         t.say("recv", take(client, 8, MSG_DONTWAIT));
     }},

    // -- ends
    {"a close is the end of the stream, once what was sent is read",
     [](transcript& t) {
         pair p;
         put(p.client, "bye");
         p.client.close();
         wait_for(p.server, POLLIN);
         settle();
         t.say("state", state(p.server));
         t.say("recv", take(p.server));
         t.say("recv", take(p.server));
         t.say("recv", take(p.server));
     }},
    {"half-close: the other direction stays open",
     [](transcript& t) {
         const pair p;
         t.call("shutdown", ::shutdown(p.client, SHUT_WR));
         wait_for(p.server, POLLIN);
         t.say("state", state(p.server));
         t.say("recv", take(p.server));
         t.call("send", put(p.server, "still"));
         wait_for(p.client, POLLIN);
         t.say("recv", take(p.client));
         t.say("state", state(p.client));
         t.call("send", put(p.client, "x"));
     }},
    {"both halves closed hang up",
     [](transcript& t) {
         const pair p;
         ::shutdown(p.client, SHUT_WR);
         wait_for(p.server, POLLIN);
         ::shutdown(p.server, SHUT_WR);
         wait_for(p.client, POLLIN);
         settle();
         t.say("client", state(p.client));
         t.say("server", state(p.server));
         t.say("recv", take(p.client));
         t.call("shutdown", ::shutdown(p.client, SHUT_WR));
         t.call("SO_ERROR", get(p.client, SOL_SOCKET, SO_ERROR));
     }},
    {"shutdown for reading is an end",
     [](transcript& t) {
         const pair p;
         put(p.client, "kept");
         wait_for(p.server, POLLIN);
         t.call("shutdown", ::shutdown(p.server, SHUT_RD));
         t.say("state", state(p.server));
         t.say("recv", take(p.server));
         t.say("recv", take(p.server));
     }},
    {"shutdown with a number that is none",
     [](transcript& t) { t.call("shutdown", ::shutdown(pair().client, 7)); }},
    {"shutdown of a listening socket",
     [](transcript& t) {
         const descriptor listener = make_listener();
         t.call("for writing", ::shutdown(listener, SHUT_WR));
         t.call("for reading", ::shutdown(listener, SHUT_RD));
         t.call("accept", ::accept(listener, nullptr, nullptr));
     }},
    {"a close with unread bytes is a reset",
     [](transcript& t) {
         pair p;
         put(p.client, "unread");
         wait_for(p.server, POLLIN);
         p.server.close();
         wait_for(p.client, POLLIN);
         t.say("state", state(p.client));
         t.say("recv", take(p.client));
         t.say("recv", take(p.client));
         t.call("send", put(p.client, "x"));
     }},
    {"a close with linger 0 is a reset",
     [](transcript& t) {
         pair p;
         resets_on_close(p.server);
         p.server.close();
         wait_for(p.client, POLLIN);
         t.say("SO_ERROR", transcript::error_name(get(p.client, SOL_SOCKET, SO_ERROR)));
         t.say("recv", take(p.client));
         t.say("state", state(p.client));
     }},
    {"bytes that came before a reset can still be read",
     [](transcript& t) {
         pair p;
         put(p.server, "last words");
         wait_for(p.client, POLLIN);
         resets_on_close(p.server);
         p.server.close();
         settle();
         t.say("state", state(p.client));
         t.say("recv", take(p.client));
         t.say("recv", take(p.client));
         t.say("recv", take(p.client));
     }},
    {"a reset is told once: to the write, and the read then sees an end",
     [](transcript& t) {
         pair p;
         resets_on_close(p.server);
         p.server.close();
         wait_for(p.client, POLLIN);
         t.call("send", put(p.client, "x"));
         t.say("recv", take(p.client));
         t.call("send", put(p.client, "x"));
     }},
    {"a reset after an end is a broken pipe",
     [](transcript& t) {
         pair p;
         put(p.client, "x");
         settle();
         ::shutdown(p.server, SHUT_WR);
         wait_for(p.client, POLLIN);
         p.server.close(); // with a byte unread
         settle();
         t.say("state", state(p.client));
         t.say("recv", take(p.client));
         t.say("SO_ERROR", transcript::error_name(get(p.client, SOL_SOCKET, SO_ERROR)));
     }},
    {"bytes for a socket that is closed come back as a reset",
     [](transcript& t) {
         pair p;
         p.server.close();
         wait_for(p.client, POLLIN);
         t.call("send", put(p.client, "first"));
         settle();
         t.say("state", state(p.client));
         t.call("send", put(p.client, "second"));
         t.say("recv", take(p.client));
     }},
    {"SIGPIPE comes unless MSG_NOSIGNAL says no",
     [](transcript& t) {
         static volatile std::sig_atomic_t heard = 0;
         heard = 0;
         auto* const before = std::signal(SIGPIPE, [](int) { heard = 1; });
         const pair p;
         ::shutdown(p.client, SHUT_WR);
         put(p.client, "x");
         t.call("quiet", heard);
         t.call("send", ::send(p.client, "x", 1, 0));
         t.call("heard", heard);
         std::signal(SIGPIPE, before);
     }},
    {"what was sent before a close is delivered after it",
     [](transcript& t) {
         pair p;
         const std::size_t sent = fill(p.client);
         p.client.close();
         std::size_t got = 0;
         for (int i = 0; i < 1000 && got < sent; ++i) {
             wait_for(p.server, POLLIN);
             got += drain(p.server);
         }
         t.say("all", got == sent ? "yes" : "no");
         wait_for(p.server, POLLIN);
         t.say("recv", take(p.server));
     }},
    {"a duplicate keeps the socket open",
     [](transcript& t) {
         pair p;
         const descriptor other(::dup(p.client));
         p.client.close();
         t.say("state", state(p.server));
         t.call("send", put(other, "x"));
         wait_for(p.server, POLLIN);
         t.say("recv", take(p.server));
     }},

    // -- options
    {"options as they are at first",
     [](transcript& t) {
         const descriptor s = make_socket();
         t.call("SO_KEEPALIVE", get(s, SOL_SOCKET, SO_KEEPALIVE));
         t.call("TCP_NODELAY", get(s, IPPROTO_TCP, TCP_NODELAY));
         t.call("TCP_KEEPIDLE", get(s, IPPROTO_TCP, TCP_KEEPIDLE));
         t.call("TCP_KEEPINTVL", get(s, IPPROTO_TCP, TCP_KEEPINTVL));
         t.call("TCP_KEEPCNT", get(s, IPPROTO_TCP, TCP_KEEPCNT));
         t.call("TCP_USER_TIMEOUT", get(s, IPPROTO_TCP, TCP_USER_TIMEOUT));
         t.call("SO_TYPE", get(s, SOL_SOCKET, SO_TYPE));
         t.call("SO_ACCEPTCONN", get(s, SOL_SOCKET, SO_ACCEPTCONN));
         t.call("SO_DOMAIN", get(s, SOL_SOCKET, SO_DOMAIN));
     }},
    {"options that are out of range, or none",
     [](transcript& t) {
         const descriptor s = make_socket();
         t.call("TCP_KEEPIDLE 0", set(s, IPPROTO_TCP, TCP_KEEPIDLE, 0));
         t.call("TCP_KEEPCNT 128", set(s, IPPROTO_TCP, TCP_KEEPCNT, 128));
         t.call("TCP_USER_TIMEOUT -1", set(s, IPPROTO_TCP, TCP_USER_TIMEOUT, -1));
         t.call("no such option", set(s, IPPROTO_TCP, 9999, 1));
         t.call("too short", set(s, SOL_SOCKET, SO_KEEPALIVE, char(1)));
         t.call("SO_ERROR", set(s, SOL_SOCKET, SO_ERROR, 1));
     }},
    {"switches are 0 or 1, and buffers twice what is asked for",
     [](transcript& t) {
         const descriptor s = make_socket();
         set(s, SOL_SOCKET, SO_KEEPALIVE, 5);
         set(s, IPPROTO_TCP, TCP_NODELAY, 5);
         set(s, SOL_SOCKET, SO_SNDBUF, 10000);
         set(s, SOL_SOCKET, SO_RCVBUF, 10000);
         t.call("SO_KEEPALIVE", get(s, SOL_SOCKET, SO_KEEPALIVE));
         t.call("TCP_NODELAY", get(s, IPPROTO_TCP, TCP_NODELAY));
         t.call("SO_SNDBUF", get(s, SOL_SOCKET, SO_SNDBUF));
         t.call("SO_RCVBUF", get(s, SOL_SOCKET, SO_RCVBUF));
         set(s, SOL_SOCKET, SO_SNDBUF, 1);
         set(s, SOL_SOCKET, SO_RCVBUF, 1);
         t.call("SO_SNDBUF", get(s, SOL_SOCKET, SO_SNDBUF));
         t.call("SO_RCVBUF", get(s, SOL_SOCKET, SO_RCVBUF));
     }},
    {"a listener says that it is one",
     [](transcript& t) {
         t.call("SO_ACCEPTCONN", get(make_listener(), SOL_SOCKET, SO_ACCEPTCONN));
     }},
    {"a deferred accept waits for the first bytes",
     [](transcript& t) {
         const descriptor listener = make_listener();
         set(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
         const sockaddr_in to = name_of(listener);
         const descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         wait_for(client, POLLOUT);
         settle();
         t.say("before", state(listener));
         put(client, "now");
         wait_for(listener, POLLIN);
         t.say("after", state(listener));
         const descriptor server(::accept(listener, nullptr, nullptr));
         t.say("recv", take(server));
     }},
};
} // namespace

const std::vector<row>& connection_rows()
{
    return connection_table;
}
} // namespace conformance
