// detail/io/: sockets that wait on the reactor. What holds for both reactors is tested with both;
// the events of a batch, and whose turn it is, with our own.

#include "support/catch.hpp"
#include <fairlead/detail/io/buffers.hpp>
#include <fairlead/detail/io/reactor.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::detail::attempt;
using fairlead::detail::channel;
using fairlead::detail::reactor;
using fairlead::detail::stream_socket;

namespace test::reactors
{
using condition = attempt::condition;
using completion = std::function<void(std::error_code, std::size_t)>;

/// A socket that waits on the reactor, and the other end of it. Shared, as a connection is: each
/// operation keeps it.
struct stream final : std::enable_shared_from_this<stream>, fairlead::detail::hang_up_listener
{
    explicit stream(asio::io_context& context) : home(prepared(context)), socket(home)
    {
        std::array<int, 2> ends{};
        REQUIRE(
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) == 0);
        peer = fairlead::detail::native::descriptor(ends[1]);
        REQUIRE_FALSE(socket.assign(fairlead::detail::native::descriptor(ends[0])));
    }

    static reactor& prepared(asio::io_context& context)
    {
        reactor& made = fairlead::detail::reactor_of(context);
        made.open();
        return made;
    }

    template <typename Handler>
    void read(Handler told)
    {
        socket.run(
            [this] {
                const auto got = socket.bytes().receive(&byte, 1);
                return attempt{
                    .bytes = got.bytes,
                    .waits_for = got.would_block ? condition::readable : condition::nothing,
                    .error = got.error};
            },
            std::move(told));
    }

    /// The usual handler: keeps this.
    completion keeping(completion told)
    {
        return [self = shared_from_this(), told = std::move(told)](auto error, auto bytes) {
            told(error, bytes);
        };
    }

    void say(const char* text) const
    {
        REQUIRE(::send(peer.get(), text, std::char_traits<char>::length(text), MSG_NOSIGNAL) > 0);
    }

    void peer_has_gone() override
    {
        ++gone;
    }

    reactor& home;
    stream_socket socket;
    fairlead::detail::native::descriptor peer;
    char byte = 0;
    int gone = 0;
};

std::shared_ptr<stream> make_stream(asio::io_context& context)
{
    return std::make_shared<stream>(context);
}

/// Notes in `log` what it is told.
completion noting(std::vector<std::error_code>& log)
{
    return [&log](std::error_code error, std::size_t) { log.push_back(error); };
}

/// Sees to it that a handler is destroyed.
struct witness
{
    explicit witness(int& of) : destroyed(&of)
    {}

    witness(const witness&) = delete;
    witness& operator=(const witness&) = delete;

    ~witness()
    {
        ++*destroyed;
    }

    int* destroyed;
};
} // namespace test::reactors

using namespace test::reactors;

TEST_CASE("an operation is never told inside the call that begins it", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    std::vector<std::error_code> log;
    one->socket.run([] { return attempt{.bytes = 1}; }, one->keeping(noting(log)));
    CHECK(log.empty());
    context.run();
    CHECK(log.size() == 1);
}

TEST_CASE("a context runs as long as something waits, and no longer", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    std::vector<std::error_code> log;
    CHECK(context.run() == 0); // it is registered, and nobody waits
    context.restart();
    one->read(one->keeping(noting(log)));
    context.run_for(1ms);
    CHECK(log.empty());
    CHECK_FALSE(context.stopped());
    SECTION("until it comes")
    {
        one->say("x");
        context.run();
        CHECK(log == std::vector<std::error_code>{{}});
    }
    SECTION("until it is cancelled")
    {
        one->socket.cancel();
        context.run();
        CHECK(log.at(0) == asio::error::operation_aborted);
    }
    SECTION("until it is closed")
    {
        one->socket.close();
        context.run();
        CHECK(log.at(0) == asio::error::operation_aborted);
    }
    SECTION("and again")
    {
        one->say("xy");
        context.run();
        context.restart();
        one->read(one->keeping(noting(log)));
        context.run();
        CHECK(log == std::vector<std::error_code>(2));
    }
    CHECK(context.stopped());
}

TEST_CASE("input that came while nobody waited is there", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    const auto other = make_stream(context);
    std::vector<std::error_code> log;
    one->say("a");
    other->read(other->keeping(noting(log))); // the event of the first is fetched with the second's
    other->say("b");
    context.run();
    context.restart();
    one->read(one->keeping(noting(log)));
    context.run();
    CHECK(log == std::vector<std::error_code>(2));
    CHECK(one->byte == 'a');
}

TEST_CASE("handlers that wait for a context that ends are destroyed and not called", "[reactor]")
{
    int destroyed = 0;
    std::vector<std::error_code> log;
    {
        asio::io_context context(1);
        const auto waits = make_stream(context);
        const auto ready = make_stream(context);
        const auto closed = make_stream(context);
        const auto keep = [&](const std::shared_ptr<stream>& of) {
            return of->keeping([&log, seen = std::make_shared<witness>(destroyed)](
                                   auto error, auto) { log.push_back(error); });
        };
        waits->read(keep(waits));
        waits->socket.run([] { return attempt{.waits_for = condition::writable}; }, keep(waits));
        ready->socket.run([] { return attempt{}; }, keep(ready));
        closed->read(keep(closed));
        closed->socket.close();
    }
    CHECK(destroyed == 4);
    CHECK(log.empty());
}

TEST_CASE("a cancellation slot cancels its operation and no other", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    std::vector<std::error_code> cancelled;
    std::vector<std::error_code> goes_on;
    std::optional<asio::cancellation_signal> signal(std::in_place);
    const auto begin = [&] {
        one->read(asio::bind_cancellation_slot(signal->slot(), one->keeping(noting(cancelled))));
    };
    begin();
    one->socket.run(
        [first = true]() mutable {
            return std::exchange(first, false) ? attempt{.waits_for = condition::readable}
                                               : attempt{};
        },
        one->keeping(noting(goes_on)));
    SECTION("that waits")
    {
        signal->emit(asio::cancellation_type::terminal);
        CHECK(cancelled.empty());
        context.run_for(1ms);
        CHECK(cancelled.at(0) == asio::error::operation_aborted);
        CHECK(goes_on.empty());
    }
    SECTION("not one that is over")
    {
        one->say("x");
        context.run();
        signal->emit(asio::cancellation_type::terminal);
        context.restart();
        context.run();
        CHECK(cancelled == std::vector<std::error_code>{{}});
    }
    SECTION("which may outlive the signal")
    {
        signal.reset();
        one->say("x");
        context.run();
        CHECK(cancelled == std::vector<std::error_code>{{}});
    }
    SECTION("and then the next one")
    {
        one->say("x");
        context.run();
        context.restart();
        begin();
        signal->emit(asio::cancellation_type::partial);
        context.run();
        REQUIRE(cancelled.size() == 2);
        CHECK(cancelled.at(1) == asio::error::operation_aborted);
    }
    one->socket.close();
    context.restart();
    context.run();
}

TEST_CASE("a peer that goes is told of, once, also when it had gone before", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    const bool had_gone = GENERATE(false, true);
    CAPTURE(had_gone);
    std::vector<std::error_code> log;
    if (had_gone) {
        one->say("x");
        one->peer.reset();
        one->read(one->keeping(noting(log)));
        context.run();
        context.restart();
        one->socket.watch(*one);
    } else {
        one->socket.watch(*one);
        one->say("x");
        CHECK(context.run_for(1ms) <= 1);
        CHECK(one->gone == 0);
        one->peer.reset();
    }
    context.run(); // out of work when it is told
    CHECK(one->gone == 1);
    one->socket.watch(*one);
    one->socket.unwatch();
    context.restart();
    context.run();
    CHECK(one->gone <= 2);
}

TEST_CASE("an exception of a handler loses nothing that was fetched with it", "[reactor]")
{
    asio::io_context context(1);
    std::vector<std::shared_ptr<stream>> streams;
    std::vector<std::error_code> log;
    int thrown = 0;
    for (int index = 0; index < 5; ++index) {
        streams.push_back(make_stream(context));
        streams.back()->read(streams.back()->keeping([&](auto error, auto) {
            log.push_back(error);
            throw std::runtime_error("of a handler");
        }));
        streams.back()->say("x");
    }
    while (!context.stopped()) {
        try {
            context.run();
        } catch (const std::runtime_error&) {
            ++thrown;
        }
    }
    CHECK(thrown == 5);
    CHECK(log == std::vector<std::error_code>(5));
}

TEST_CASE("a handler that stops the context is one of the last of its run", "[reactor]")
{
    asio::io_context context(1);
    std::vector<std::shared_ptr<stream>> streams;
    int told = 0;
    for (int index = 0; index < 50; ++index) {
        streams.push_back(make_stream(context));
        streams.back()->read(streams.back()->keeping([&](auto, auto) {
            ++told;
            context.stop();
        }));
        streams.back()->say("x");
    }
    for (int before = 0; before != 50; before = told) {
        context.run();
        REQUIRE(told > before);
        CHECK(told - before <= 12);
        context.restart();
    }
}

TEST_CASE("a stream that is always ready does not keep the others from being heard", "[reactor]")
{
    asio::io_context context(1);
    const auto busy = make_stream(context);
    const auto quiet = make_stream(context);
    const auto way = GENERATE(0, 1); // each operation is over at once; one goes on and on
    CAPTURE(way);
    std::size_t steps = 0;
    std::vector<std::error_code> heard;
    std::function<void(std::error_code, std::size_t)> again = [&](std::error_code error,
                                                                  std::size_t) {
        ++steps;
        if (!error && heard.empty() && steps < 100'000) {
            busy->socket.run([] { return attempt{}; }, busy->keeping(again));
        }
    };
    if (way == 0) {
        again({}, 0);
    } else {
        busy->socket.run(
            [&] {
                const bool is_done = !heard.empty() || ++steps == 100'000;
                return is_done ? attempt{} : attempt{.waits_for = condition::writable};
            },
            busy->keeping([](std::error_code, std::size_t) {}));
    }
    quiet->read(quiet->keeping(noting(heard)));
    quiet->say("x");
    context.run();
    CHECK(heard == std::vector<std::error_code>{{}});
    CHECK(steps < 1000);
}

TEST_CASE("a read into more buffers than the kernel takes leaves nothing behind", "[reactor]")
{
    asio::io_context context(1);
    const auto one = make_stream(context);
    std::array<char, 100> bytes{};
    std::vector<asio::mutable_buffer> buffers;
    for (char& byte : bytes) {
        buffers.push_back(asio::buffer(&byte, 1));
    }
    one->say(std::string(100, 'x').c_str());
    std::vector<std::size_t> counts;
    const auto read = [&] {
        one->socket.run(
            [&] {
                const auto got = one->socket.bytes().receive_buffers(buffers);
                return attempt{
                    .bytes = got.bytes,
                    .waits_for = got.would_block ? condition::readable : condition::nothing,
                    .error = got.error};
            },
            one->keeping([&](std::error_code, std::size_t count) { counts.push_back(count); }));
        context.restart();
        context.run_for(5s);
    };
    read();
    read();
    CHECK(counts == std::vector<std::size_t>{64, 36});
}

TEST_CASE("an operation that cannot be copied to where it waits is not pending", "[reactor]")
{
    struct breaks
    {
        breaks() = default;

        breaks(const breaks&)
        {
            throw std::bad_alloc();
        }
    };

    asio::io_context context(1);
    const auto one = make_stream(context);
    std::vector<std::error_code> log;
    int destroyed = 0;
    auto handler = [&log, keeps = one, trap = breaks(),
                    seen = std::make_shared<witness>(destroyed)](
                       std::error_code error, std::size_t) { log.push_back(error); };
    CHECK_THROWS_AS(one->socket.run([] { return attempt{}; }, handler), std::bad_alloc);
    one->say("x");
    one->read(one->keeping(noting(log)));
    context.run();
    CHECK(log == std::vector<std::error_code>{{}});
    CHECK(destroyed == 0); // it is the caller's
}

TEST_CASE("what is begun while a context is destroyed is destroyed with it", "[reactor]")
{
    struct begins_another
    {
        ~begins_another()
        {
            of->read([keeps = of, seen = std::make_shared<witness>(*destroyed)](auto, auto) {});
        }

        std::shared_ptr<stream> of;
        int* destroyed;
    };

    int destroyed = 0;
    {
        asio::io_context context(1);
        const auto one = make_stream(context);
        const auto other = make_stream(context);
        one->read([last = std::make_shared<begins_another>(other, &destroyed),
                   keeps = one](auto, auto) {});
    }
    CHECK(destroyed == 1);
}

#if defined(__linux__) && !defined(FAIRLEAD_ASIO_REACTOR)

TEST_CASE("what is ready in the context has its turn beside streams that never rest", "[reactor]")
{
    asio::io_context context(1);
    std::size_t told = 0;
    std::vector<std::size_t> turns;
    std::function<void()> turn = [&] {
        turns.push_back(told);
        if (turns.size() < 10) {
            asio::post(context, turn);
        } else {
            context.stop();
        }
    };
    std::vector<std::shared_ptr<stream>> streams;
    const bool by_events = GENERATE(false, true);
    CAPTURE(by_events);
    std::function<void(stream&)> go_on = [&](stream& one) {
        const auto next = [&](auto, auto) {
            ++told;
            if (by_events) {
                one.say("x");
            }
            go_on(one);
        };
        if (by_events) {
            one.read(one.keeping(next));
        } else {
            one.socket.run([] { return attempt{}; }, one.keeping(next));
        }
    };
    for (int index = 0; index < (by_events ? 600 : 1); ++index) {
        streams.push_back(make_stream(context));
        go_on(*streams.back());
        if (by_events) {
            streams.back()->say("x");
        }
    }
    asio::post(context, turn);
    context.run();
    REQUIRE(turns.size() == 10);
    for (std::size_t index = 1; index < turns.size(); ++index) {
        CHECK(turns[index] - turns[index - 1] <= 320);
    }
    CHECK(told > 500);
    for (const auto& each : streams) {
        each->socket.close();
    }
}

TEST_CASE("an event of a stream that was closed in its batch is dropped", "[reactor]")
{
    asio::io_context context(1);
    auto first = make_stream(context);
    auto second = make_stream(context);
    std::shared_ptr<stream> third;
    std::vector<std::error_code> log;
    const auto close_other = [&](std::shared_ptr<stream>& other) {
        return [&](auto error, auto) {
            log.push_back(error);
            if (third) {
                return;
            }
            const int number = other->socket.native_handle();
            other->socket.close();
            other.reset();
            third = make_stream(context); // gets the number
            CHECK(third->socket.native_handle() == number);
            third->read(third->keeping(noting(log)));
            CHECK(third->socket.bytes().what_comes() == channel::input::nothing);
        };
    };
    first->read(first->keeping(close_other(second)));
    second->read(second->keeping(close_other(first)));
    first->say("x");
    second->say("x");
    context.run_for(5ms);
    REQUIRE(log.size() == 2);
    CHECK_FALSE(log[0]);
    CHECK(log[1] == asio::error::operation_aborted);
    CHECK(third->socket.bytes().what_comes() == channel::input::nothing);
    third->say("y");
    context.run();
    REQUIRE(log.size() == 3);
    CHECK_FALSE(log[2]);
    CHECK(third->byte == 'y');
}

TEST_CASE(
    "a stream of which somebody has another descriptor is told of nothing when it is closed",
    "[reactor]")
{
    asio::io_context context(1);
    auto one = make_stream(context);
    const auto other = make_stream(context);
    std::vector<std::error_code> log;
    const fairlead::detail::native::descriptor copy(::dup(one->socket.native_handle()));
    const auto peer = std::move(one->peer);
    one->socket.close();
    one.reset();
    other->read(other->keeping(noting(log)));
    REQUIRE(::send(peer.get(), "x", 1, MSG_NOSIGNAL) == 1);
    context.run_for(5ms); // an event would be that of freed memory
    CHECK(log.empty());
    other->say("x");
    context.run();
    CHECK(log.size() == 1);
}

#endif

TEST_CASE("a sequence of buffers is gone through window by window", "[reactor]")
{
    const std::size_t taken = GENERATE(1U, 7U, 64U, 1000U);
    CAPTURE(taken);
    std::string text;
    while (text.size() < 5000) {
        text += std::to_string(text.size());
    }
    std::vector<asio::const_buffer> buffers;
    for (std::size_t begin = 0, size = 0; begin < text.size();
         begin += size, size = (size + 1) % 5) {
        buffers.push_back(asio::buffer(text.data() + begin, std::min(size, text.size() - begin)));
    }
    std::string collected;
    for (fairlead::detail::buffer_position done; done.bytes < text.size();) {
        std::size_t taken_now = 0;
        for (const asio::const_buffer& one : fairlead::detail::rest_of(buffers, done, taken)) {
            collected.append(static_cast<const char*>(one.data()), one.size());
            taken_now += one.size();
        }
        REQUIRE(taken_now != 0);
        REQUIRE(taken_now <= taken);
        done.advance(buffers, taken_now);
    }
    CHECK(collected == text);
}
