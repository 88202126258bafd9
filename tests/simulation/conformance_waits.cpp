#include "simulation/conformance.hpp"

#include <csignal>
#include <sys/mman.h>
#include <sys/sendfile.h>

namespace conformance
{
namespace
{
constexpr std::uint32_t edge = EPOLLET;

itimerspec after(long milliseconds, long then_every = 0)
{
    return {
        .it_interval = {.tv_sec = 0, .tv_nsec = then_every * 1'000'000},
        .it_value = {.tv_sec = 0, .tv_nsec = milliseconds * 1'000'000}};
}

std::string count_in(int fd)
{
    std::uint64_t count = 0;
    return ::read(fd, &count, sizeof count) < 0 ? transcript::error_name(errno)
                                                : std::to_string(count);
}

/// A file of the real kernel's.
descriptor make_file(std::string_view content)
{
    descriptor made(::memfd_create("conformance", MFD_CLOEXEC));
    ::pwrite(made, content.data(), content.size(), 0);
    return made;
}

const std::vector<row> waiting_table = {
    // -- level-triggered
    {"a level is told as long as it holds",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN);
         t.say("before", w.now());
         put(p.client, "abc");
         t.say("after", w.soon());
         t.say("again", w.now());
         take(p.server);
         t.say("read", w.now());
     }},
    {"a level of what is ready already",
     [](transcript& t) {
         const pair p;
         put(p.client, "abc");
         wait_for(p.server, POLLIN);
         waits w;
         t.call("add", w.add(p.server, EPOLLIN | EPOLLOUT));
         t.say("now", w.now());
     }},
    {"hang-ups and errors are told unasked",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.client, 0);
         resets_on_close(p.server);
         p.server.close();
         t.say("soon", w.soon());
     }},
    {"a peer's end is told to who asks for it",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.client, EPOLLRDHUP);
         put(p.server, "x");
         settle();
         t.say("bytes", w.now());
         ::shutdown(p.server, SHUT_WR);
         t.say("end", w.soon());
     }},
    {"a listener is ready as long as somebody waits",
     [](transcript& t) {
         const descriptor listener = make_listener();
         waits w;
         w.add(listener, EPOLLIN);
         t.say("before", w.now());
         const sockaddr_in to = name_of(listener);
         const descriptor client = make_socket();
         ::connect(client, as_sockaddr(to), sizeof to);
         t.say("after", w.soon());
         t.say("again", w.now());
         const descriptor server(::accept(listener, nullptr, nullptr));
         t.say("accepted", w.now());
     }},

    // -- edge-triggered
    {"an edge is told once",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | edge);
         put(p.client, "abc");
         t.say("first", w.soon());
         t.say("again", w.now());
     }},
    {"more bytes are another edge, also when the first are unread",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | edge);
         put(p.client, "abc");
         t.say("first", w.soon());
         put(p.client, "def");
         t.say("second", w.soon());
         t.say("third", w.now());
     }},
    {"two edges before the wait are one",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | edge);
         put(p.client, "abc");
         settle();
         put(p.client, "def");
         settle();
         t.say("first", w.now());
         t.say("second", w.now());
     }},
    {"what was read before the wait is no edge",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | edge);
         put(p.client, "abc");
         wait_for(p.server, POLLIN);
         take(p.server);
         t.say("now", w.now());
     }},
    {"a new registration sees what is there",
     [](transcript& t) {
         const pair p;
         put(p.client, "abc");
         wait_for(p.server, POLLIN);
         waits w;
         w.add(p.server, EPOLLIN | edge);
         t.say("first", w.now());
         t.say("second", w.now());
         t.call("modify", w.modify(p.server, EPOLLIN | edge));
         t.say("third", w.now());
     }},
    {"a connected socket is writable, as an edge once",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.client, EPOLLIN | EPOLLOUT | edge);
         t.say("first", w.now());
         t.say("second", w.now());
     }},
    {"an edge for reading tells of writing as well",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | EPOLLOUT | edge);
         w.now();
         put(p.client, "abc");
         t.say("edge", w.soon());
     }},
    {"a full socket that has room again is an edge",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.client, EPOLLOUT | edge);
         w.now();
         fill(p.client);
         w.now();
         t.say("full", w.now());
         while (drain(p.server) > 0) {
             settle();
         }
         t.say("room", w.soon());
     }},
    {"a socket with room that gets more room is no edge",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.client, EPOLLOUT | edge);
         w.now();
         put(p.client, "abc");
         settle();
         take(p.server);
         settle();
         t.say("now", w.now());
     }},
    {"an end and a reset are edges",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.client, EPOLLIN | EPOLLRDHUP | edge);
         w.now();
         ::shutdown(p.server, SHUT_WR);
         t.say("end", w.soon());
         t.say("again", w.now());
         put(p.client, "x");
         settle();
         p.server.close();
         t.say("reset", w.soon());
     }},
    {"each client is an edge of the listener",
     [](transcript& t) {
         const descriptor listener = make_listener();
         waits w;
         w.add(listener, EPOLLIN | edge);
         const sockaddr_in to = name_of(listener);
         const descriptor first = make_socket();
         const descriptor second = make_socket();
         ::connect(first, as_sockaddr(to), sizeof to);
         t.say("first", w.soon());
         t.say("again", w.now());
         ::connect(second, as_sockaddr(to), sizeof to);
         t.say("second", w.soon());
     }},
    {"a connect that ends is an edge",
     [](transcript& t) {
         const descriptor listener = make_listener();
         const descriptor client = make_socket();
         waits w;
         const sockaddr_in to = name_of(listener);
         ::connect(client, as_sockaddr(to), sizeof to);
         w.add(client, EPOLLIN | EPOLLOUT | edge);
         t.say("first", w.soon());
         t.say("again", w.now());
     }},

    // -- one-shot, changes, removal
    {"a one-shot is told once, and again when it is asked for",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN | EPOLLONESHOT);
         put(p.client, "abc");
         t.say("first", w.soon());
         put(p.client, "def");
         settle();
         t.say("off", w.now());
         w.modify(p.server, EPOLLIN | EPOLLONESHOT);
         t.say("on", w.now());
     }},
    {"a one-shot that is off is silent about hang-ups too",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.server, EPOLLIN | EPOLLONESHOT);
         put(p.client, "abc");
         w.soon();
         resets_on_close(p.client);
         p.client.close();
         settle();
         t.say("off", w.now());
     }},
    {"mistakes of registration",
     [](transcript& t) {
         const pair p;
         waits w;
         t.call("add", w.add(p.server, EPOLLIN));
         t.call("twice", w.add(p.server, EPOLLIN));
         t.call("modify another", w.modify(p.client, EPOLLIN));
         t.call("remove another", w.remove(p.client));
         t.call("remove", w.remove(p.server));
         t.call("itself", w.add(w.fd(), EPOLLIN));
         t.call("on a socket", ::epoll_ctl(p.server, EPOLL_CTL_DEL, p.client, nullptr));
         descriptor gone = make_socket();
         const int number = gone;
         gone.close();
         t.call("what is closed", w.add(number, EPOLLIN));
     }},
    {"a closed descriptor is registered no more",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.server, EPOLLIN);
         put(p.client, "abc");
         wait_for(p.server, POLLIN);
         p.server.close();
         t.say("now", w.now());
     }},
    {"a registration outlives a descriptor that has a duplicate",
     [](transcript& t) {
         pair p;
         waits w;
         w.add(p.server, EPOLLIN);
         const descriptor other(::dup(p.server));
         p.server.close();
         put(p.client, "abc");
         t.say("soon", w.soon());
     }},
    {"a wait for no events at all",
     [](transcript& t) {
         const waits w;
         epoll_event none = {};
         t.call("0", ::epoll_wait(w.fd(), &none, 0, 0));
     }},
    {"a wait takes turns when it is told of one at a time",
     [](transcript& t) {
         const pair a;
         const pair b;
         const waits w;
         epoll_event event{.events = EPOLLIN, .data = {.u32 = 1}};
         ::epoll_ctl(w.fd(), EPOLL_CTL_ADD, a.server, &event);
         event.data.u32 = 2;
         ::epoll_ctl(w.fd(), EPOLL_CTL_ADD, b.server, &event);
         put(a.client, "x");
         wait_for(a.server, POLLIN);
         put(b.client, "x");
         wait_for(b.server, POLLIN);
         std::string turns;
         for (int i = 0; i < 4; ++i) {
             ::epoll_wait(w.fd(), &event, 1, 0);
             turns += std::to_string(event.data.u32);
         }
         t.say("turns", turns);
     }},

    // -- nested
    {"an epoll in an epoll",
     [](transcript& t) {
         const pair p;
         waits inner;
         waits outer;
         inner.add(p.server, EPOLLIN);
         t.call("add", outer.add(inner.fd(), EPOLLIN));
         t.say("before", outer.now());
         put(p.client, "abc");
         t.say("after", outer.soon());
         t.say("again", outer.now());
         take(p.server);
         t.say("read", outer.now());
     }},
    {"a nested epoll as an edge",
     [](transcript& t) {
         const pair p;
         waits inner;
         waits outer;
         inner.add(p.server, EPOLLIN | edge);
         outer.add(inner.fd(), EPOLLIN | edge);
         put(p.client, "abc");
         t.say("first", outer.soon());
         t.say("again", outer.now());
         put(p.client, "def");
         t.say("second", outer.soon());
         t.say("inner", inner.now());
         t.say("inner again", inner.now());
     }},
    {"epolls in a circle",
     [](transcript& t) {
         waits a;
         waits b;
         t.call("a in b", b.add(a.fd(), EPOLLIN));
         t.call("b in a", a.add(b.fd(), EPOLLIN));
     }},
    {"an epoll is polled",
     [](transcript& t) {
         const pair p;
         waits w;
         w.add(p.server, EPOLLIN);
         t.say("before", state(w.fd()));
         put(p.client, "abc");
         wait_for(p.server, POLLIN);
         t.say("after", state(w.fd()));
     }},

    // -- timers
    {"a timer fires once",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         t.say("off", count_in(timer));
         const itimerspec value = after(5);
         t.call("set", ::timerfd_settime(timer, 0, &value, nullptr));
         t.say("state", state(timer));
         wait_for(timer, POLLIN);
         t.say("count", count_in(timer));
         t.say("count", count_in(timer));
     }},
    {"a timer that repeats counts what nobody read",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         const itimerspec value = after(2, 2);
         ::timerfd_settime(timer, 0, &value, nullptr);
         ::poll(nullptr, 0, 30);
         t.say("several", std::stoi(count_in(timer)) >= 10 ? "yes" : "no");
     }},
    {"a timer in the past fires at once",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         const itimerspec value = after(1);
         ::timerfd_settime(timer, TFD_TIMER_ABSTIME, &value, nullptr);
         wait_for(timer, POLLIN);
         t.say("count", count_in(timer));
     }},
    {"setting a timer anew forgets that it fired",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         itimerspec value = after(1);
         ::timerfd_settime(timer, 0, &value, nullptr);
         wait_for(timer, POLLIN);
         value = after(500);
         ::timerfd_settime(timer, 0, &value, nullptr);
         t.say("state", state(timer));
         t.say("count", count_in(timer));
         value = after(0);
         itimerspec before = {};
         ::timerfd_settime(timer, 0, &value, &before);
         t.say("before", before.it_value.tv_nsec > 0 ? "armed" : "off");
         ::timerfd_gettime(timer, &before);
         t.say("now", before.it_value.tv_nsec > 0 ? "armed" : "off");
     }},
    {"a timer as an edge: each expiry",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         waits w;
         w.add(timer, EPOLLIN | edge);
         const itimerspec value = after(3);
         ::timerfd_settime(timer, 0, &value, nullptr);
         t.say("first", w.soon());
         t.say("again", w.now());
         ::timerfd_settime(timer, 0, &value, nullptr);
         t.say("second", w.soon());
     }},
    {"times that are none",
     [](transcript& t) {
         const descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
         itimerspec value = {};
         value.it_value.tv_nsec = 1'000'000'000;
         t.call("set", ::timerfd_settime(timer, 0, &value, nullptr));
         t.call("create", ::timerfd_create(9999, 0));
         std::array<char, 4> few = {};
         t.call("read", ::read(timer, few.data(), few.size()));
     }},

    // -- event counters and pipes
    {"an event counter adds up",
     [](transcript& t) {
         const descriptor e(::eventfd(0, EFD_NONBLOCK));
         t.say("empty", count_in(e));
         const std::uint64_t two = 2;
         t.call("write", ::write(e, &two, sizeof two));
         t.call("write", ::write(e, &two, sizeof two));
         t.say("state", state(e));
         t.say("count", count_in(e));
         t.say("state", state(e));
         t.call("short", ::write(e, &two, 4));
     }},
    {"an event counter is an edge at every write",
     [](transcript& t) {
         const descriptor e(::eventfd(0, EFD_NONBLOCK));
         waits w;
         w.add(e, EPOLLIN | edge);
         const std::uint64_t one = 1;
         ::write(e, &one, sizeof one);
         t.say("first", w.now());
         t.say("again", w.now());
         ::write(e, &one, sizeof one);
         t.say("second", w.now());
     }},
    {"a modification tells of an event that was told before",
     [](transcript& t) {
         const descriptor e(::eventfd(1, EFD_NONBLOCK));
         waits w;
         w.add(e, EPOLLIN | edge);
         t.say("first", w.now());
         t.say("again", w.now());
         w.modify(e, EPOLLIN | edge);
         t.say("modified", w.now());
     }},
    {"a semaphore gives one at a time",
     [](transcript& t) {
         const descriptor e(::eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE));
         t.say("first", count_in(e));
         t.say("second", count_in(e));
         t.say("third", count_in(e));
     }},
    {"a pipe",
     [](transcript& t) {
         std::array<int, 2> ends = {};
         t.call("pipe2", ::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC));
         const descriptor reader(ends[0]);
         descriptor writer(ends[1]);
         std::array<char, 8> buffer = {};
         t.call("read", ::read(reader, buffer.data(), buffer.size()));
         t.call("write", ::write(writer, "abc", 3));
         t.say("state", state(reader));
         t.call("read", ::read(reader, buffer.data(), buffer.size()));
         writer.close();
         t.say("state", state(reader));
         t.call("read", ::read(reader, buffer.data(), buffer.size()));
     }},
    {"a pipe that nobody reads fills",
     [](transcript& t) {
         std::array<int, 2> ends = {};
         ::pipe2(ends.data(), O_NONBLOCK);
         const descriptor reader(ends[0]);
         const descriptor writer(ends[1]);
         const std::vector<char> much(100000, 'p');
         t.call("write", ::write(writer, much.data(), much.size()));
         t.call("write", ::write(writer, much.data(), 1));
         t.say("state", state(writer));
     }},
    {"a splice between a socket and a pipe",
     [](transcript& t) {
         const pair p;
         std::array<int, 2> ends = {};
         ::pipe2(ends.data(), O_NONBLOCK);
         const descriptor reader(ends[0]);
         const descriptor writer(ends[1]);
         const unsigned how = SPLICE_F_NONBLOCK;
         t.call("nothing", ::splice(p.server, nullptr, writer, nullptr, 100, how));
         put(p.client, "spliced");
         wait_for(p.server, POLLIN);
         t.call("in", ::splice(p.server, nullptr, writer, nullptr, 100, how));
         t.call("out", ::splice(reader, nullptr, p.server, nullptr, 4, how));
         t.call("rest", ::splice(reader, nullptr, p.server, nullptr, 100, how));
         wait_for(p.client, POLLIN);
         settle();
         t.say("recv", take(p.client));
         t.call("no pipe", ::splice(p.server, nullptr, p.client, nullptr, 1, how));
     }},

    {"a file is sent from a place in it, or from where it is",
     [](transcript& t) {
         const pair p;
         const descriptor file = make_file("abcdefgh");
         off_t at = 2;
         t.call("some", ::sendfile(p.server, file, &at, 3));
         t.call("at", at);
         t.call("rest", ::sendfile(p.server, file, &at, 100));
         t.call("at", at);
         t.call("none", ::sendfile(p.server, file, &at, 100));
         t.call("from where it is", ::sendfile(p.server, file, nullptr, 4));
         t.call("position", ::lseek(file, 0, SEEK_CUR));
         wait_for(p.client, POLLIN);
         settle();
         t.say("recv", take(p.client));
         t.call("no file", ::sendfile(p.server, -1, &at, 1));
         descriptor closed = make_socket();
         const int number = closed;
         closed.close();
         t.call("no socket", ::sendfile(number, file, &at, 1));
     }},
    {"a file that is sent to a full socket, or behind its end",
     [](transcript& t) {
         const pair p;
         const descriptor file = make_file(std::string(65536, 'f'));
         off_t at = 0;
         long sent = 0;
         for (int round = 0; round < 10000 && sent >= 0; ++round) {
             at = 0;
             sent = ::sendfile(p.server, file, &at, 65536);
         }
         t.call("full", sent);
         t.call("at", at);
         const auto before = std::signal(SIGPIPE, SIG_IGN);
         ::shutdown(p.server, SHUT_WR);
         t.call("behind the end", ::sendfile(p.server, file, &at, 3));
         t.call("at", at);
         std::signal(SIGPIPE, before);
     }},

    // -- poll
    {"poll of what is closed, and of nothing",
     [](transcript& t) {
         descriptor s = make_socket();
         pollfd asked{.fd = s, .events = POLLIN, .revents = 0};
         s.close();
         t.call("closed", ::poll(&asked, 1, 0));
         t.say("events", (asked.revents & POLLNVAL) != 0 ? "NVAL" : "none");
     }},
    {"poll counts those that are ready",
     [](transcript& t) {
         const pair p;
         std::array<pollfd, 3> all = {{
             {.fd = p.server, .events = POLLIN, .revents = 0},
             {.fd = -1, .events = POLLIN, .revents = 0},
             {.fd = p.client, .events = POLLOUT, .revents = 0},
         }};
         t.call("ready", ::poll(all.data(), all.size(), 0));
         put(p.client, "x");
         settle();
         t.call("ready", ::poll(all.data(), all.size(), 0));
     }},
    {"flags of a descriptor",
     [](transcript& t) {
         const descriptor s = make_socket(0);
         t.call("F_GETFL", ::fcntl(s, F_GETFL) & O_NONBLOCK);
         int on = 1;
         t.call("FIONBIO", ::ioctl(s, FIONBIO, &on));
         t.call("F_GETFL", ::fcntl(s, F_GETFL) & O_NONBLOCK);
         t.call("F_SETFL", ::fcntl(s, F_SETFL, 0));
         t.call("F_GETFL", ::fcntl(s, F_GETFL) & O_NONBLOCK);
         t.call("F_GETFD", ::fcntl(s, F_GETFD));
         t.call("F_SETFD", ::fcntl(s, F_SETFD, 0));
         t.call("F_GETFD", ::fcntl(s, F_GETFD));
         t.call("odd", ::fcntl(s, 9999));
     }},
};
} // namespace

const std::vector<row>& waiting_rows()
{
    return waiting_table;
}
} // namespace conformance
