// Coroutines that wait for something other than I/O: order, executors, and what becomes of those that nobody wakes.

#include "support/catch.hpp"
#include <fairlead/detail/util/wait_queue.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_executor.hpp>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace
{
using queue = fairlead::detail::wait_queue<int>;

struct initiate_wait
{
    queue* to;
    asio::io_context* context;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        to->push(context->get_executor(), std::forward<Handler>(handler));
    }
};

asio::awaitable<int> wait(queue& to, asio::io_context& context)
{
    return asio::async_initiate<const asio::use_awaitable_t<>, void(int)>(
        initiate_wait{&to, &context}, asio::use_awaitable);
}

asio::awaitable<void> record(queue& to, asio::io_context& context, std::vector<int>& log, int own)
{
    log.push_back(own);
    const int got = co_await wait(to, context);
    log.push_back(own * 10 + got);
}

void spawn(asio::io_context& context, asio::awaitable<void> coroutine)
{
    asio::co_spawn(context, std::move(coroutine), [](const std::exception_ptr&) {});
}

/// Lives as long as the handler that holds it.
struct handler_with_trace
{
    std::shared_ptr<int> alive;
    int* result;

    void operator()(int value) const
    {
        *result = value;
    }
};
} // namespace

TEST_CASE("those who wait are woken one by one in the order in which they came", "[wait_queue]")
{
    asio::io_context context;
    queue waiting;
    std::vector<int> log;
    for (int i = 1; i <= 3; ++i) {
        spawn(context, record(waiting, context, log, i));
    }
    context.poll();
    CHECK(log == std::vector<int>{1, 2, 3});
    CHECK(waiting.size() == 3);
    waiting.notify_one(7);
    CHECK(log.size() == 3); // not inside the call that wakes
    context.poll();
    CHECK(log == std::vector<int>{1, 2, 3, 17});
    waiting.notify_one(8);
    waiting.notify_one(9);
    CHECK(waiting.empty());
    context.poll();
    CHECK(log == std::vector<int>{1, 2, 3, 17, 28, 39});
}

TEST_CASE("all who wait are woken at once, and only they", "[wait_queue]")
{
    asio::io_context context;
    queue waiting;
    std::vector<int> log;
    waiting.notify_all(1); // nobody: nothing
    spawn(context, record(waiting, context, log, 1));
    spawn(context, record(waiting, context, log, 2));
    context.poll();
    waiting.notify_all(5);
    CHECK(waiting.empty());
    spawn(context, record(waiting, context, log, 3)); // comes too late for that one
    context.poll();
    CHECK(log == std::vector<int>{1, 2, 15, 25, 3});
    CHECK(waiting.size() == 1);
    waiting.notify_all(6);
    context.restart();
    context.poll();
    CHECK(log.back() == 36);
}

TEST_CASE("who waits again from inside its wake-up waits for the next one", "[wait_queue]")
{
    asio::io_context context;
    queue waiting;
    int wakes = 0;
    struct twice
    {
        static asio::awaitable<void> run(queue& to, asio::io_context& context, int& wakes)
        {
            for (int i = 0; i < 2; ++i) {
                wakes += co_await wait(to, context);
            }
        }
    };
    spawn(context, twice::run(waiting, context, wakes));
    context.poll();
    waiting.notify_all(1);
    context.poll();
    CHECK(wakes == 1);
    CHECK(waiting.size() == 1);
    waiting.notify_all(1);
    context.poll();
    CHECK(wakes == 2);
    CHECK(waiting.empty());
}

TEST_CASE("a context does not run out of work while somebody waits on it", "[wait_queue]")
{
    asio::io_context context;
    queue waiting;
    int result = 0;
    waiting.push(context.get_executor(), [&](int value) { result = value; });
    context.poll();
    CHECK_FALSE(context.stopped());
    waiting.notify_one(4);
    CHECK(context.run() == 1); // and ends when the one that waited is served
    CHECK(result == 4);
    CHECK(context.stopped());
}

TEST_CASE("a waiter is resumed on its own executor, whoever wakes it", "[wait_queue]")
{
    asio::io_context home;
    asio::io_context elsewhere;
    queue waiting;
    int result = 0;
    waiting.push(elsewhere.get_executor(), asio::bind_executor(home.get_executor(), [&](int value) {
                     result = value;
                 }));
    CHECK(elsewhere.poll() == 0);
    CHECK(elsewhere.stopped()); // only the waiter's own context has work
    waiting.notify_one(3);
    elsewhere.restart();
    CHECK(elsewhere.poll() == 0);
    CHECK(result == 0);
    CHECK(home.run() == 1);
    CHECK(result == 3);
}

TEST_CASE("a strand over a type-erased executor may be a waiter's own", "[wait_queue]")
{
    asio::io_context home;
    const auto strand = asio::make_strand(asio::any_io_executor(home.get_executor()));
    asio::io_context elsewhere;
    queue waiting;
    int result = 0;
    waiting.push(elsewhere.get_executor(), asio::bind_executor(strand, [&](int value) {
                     result = strand.running_in_this_thread() ? value : -1;
                 }));
    home.poll();
    CHECK_FALSE(home.stopped());
    waiting.notify_one(3);
    CHECK(home.run() != 0);
    CHECK(result == 3);
}

TEST_CASE("a coroutine that nobody wakes is destroyed with the queue", "[wait_queue]")
{
    asio::io_context context;
    const auto trace = std::make_shared<int>(0);
    {
        queue waiting;
        struct holder
        {
            static asio::awaitable<void> run(
                queue& to, asio::io_context& context, std::shared_ptr<int> held)
            {
                *held = 1;
                *held += co_await wait(to, context);
            }
        };
        spawn(context, holder::run(waiting, context, trace));
        context.poll();
        CHECK(*trace == 1);
        CHECK(trace.use_count() > 1);
    }
    context.restart();
    context.poll(); // Asio destroys the coroutine's frame on its executor
    CHECK(trace.use_count() == 1);
    CHECK(*trace == 1);
    CHECK(context.stopped()); // its work went with it
}

TEST_CASE(
    "a waiter may be made on another thread than the one that wakes it", "[wait_queue][threads]")
{
    asio::io_context context;
    const auto trace = std::make_shared<int>(0);
    int result = 0;
    std::unique_ptr<queue::waiter> made;
    std::thread([&] {
        made = queue::make_waiter(context.get_executor(), handler_with_trace{trace, &result});
    }).join();
    queue waiting;
    waiting.push(std::move(made));
    waiting.notify_one(5);
    context.run();
    CHECK(result == 5);
    CHECK(trace.use_count() == 1); // the handler is gone after its call
}
