// Work on other threads: what it returns comes back to the handler, on the server's own thread.

#include "tests/support/catch.hpp"
#include "tests/support/client.hpp"
#include "tests/support/scripts.hpp"
#include "tests/support/server_fixture.hpp"
#include <fairlead/offload.hpp>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/thread_pool.hpp>

#include <array>
#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

using namespace fairlead;
using namespace std::chrono_literals;

namespace test::offloading
{
/// Counts how many there are.
class counted
{
public:
    explicit counted(std::atomic<int>& count) noexcept : count_(&count)
    {
        ++*count_;
    }

    counted(const counted& other) noexcept : count_(other.count_)
    {
        ++*count_;
    }

    counted& operator=(const counted&) = delete;

    ~counted()
    {
        --*count_;
    }

    int number() const noexcept
    {
        return count_->load();
    }

private:
    std::atomic<int>* count_;
};

/// An aggregate that has to be destroyed.
struct parcel
{
    std::string text;
    int number;
};

inline std::string where(std::thread::id home)
{
    return std::this_thread::get_id() == home ? "home" : "away";
}

inline std::string twice(const std::string& text)
{
    return text + text;
}

inline std::size_t size_of(std::string text)
{
    return text.size();
}

inline int fail(const std::string& why)
{
    throw std::runtime_error(why);
}

inline void mark(std::shared_ptr<std::atomic<bool>> done)
{
    *done = true;
}

inline std::unique_ptr<int> pass(std::unique_ptr<int> one)
{
    return one;
}

inline const std::string& first(const std::string& one, const counted&)
{
    return one;
}

inline void wait_for(const std::atomic<bool>* flag)
{
    flag->wait(false);
}

struct multiplier
{
    int by;

    int operator()(int number) const
    {
        return number * by;
    }

    int times(int number) const
    {
        return number * by;
    }
};

/// Does the work that a byte asks for.
struct worker
{
    asio::thread_pool* pool;
    test::mailbox<std::string>* words;
    std::atomic<bool>* may_end;

    asio::awaitable<void> operator()(connection& conn) const
    {
        const auto home = std::this_thread::get_id();
        std::array<char, 1> order{};
        std::error_code error;
        for (auto n = co_await conn.read_some(asio::buffer(order), error); n != 0;
             n = co_await conn.read_some(asio::buffer(order), error)) {
            std::string answer;
            if (order[0] == 'r') {
                answer = co_await offload(*pool, where, home);
            } else if (order[0] == 'v') {
                auto done = std::make_shared<std::atomic<bool>>(false);
                co_await offload(*pool, mark, done);
                answer = *done ? "done" : "not done";
            } else if (order[0] == 'm') {
                auto moved = co_await offload(*pool, pass, std::make_unique<int>(7));
                answer = std::to_string(*moved);
            } else if (order[0] == 't') {
                try {
                    co_await offload(*pool, fail, std::string("of the pool"));
                } catch (const std::runtime_error& failure) {
                    answer = failure.what();
                }
            } else { // while the client leaves
                co_await offload(*pool, wait_for, may_end);
                words->put(conn.is_open() ? "open" : "ended");
            }
            if (std::this_thread::get_id() != home) {
                words->put("on another thread");
            }
            co_await conn.write(asio::buffer(answer), error);
        }
    }
};

/// Every form of function and argument that is accepted, written inside the `co_await`.
inline asio::awaitable<void> every_form(asio::thread_pool& pool, std::atomic<int>& alive)
{
    const std::string text(100, 't');
    CHECK(co_await offload(pool, twice, text) == text + text);
    CHECK(co_await offload(pool, &twice, std::string(40, 'a')) == std::string(80, 'a'));
    CHECK(co_await offload(pool.get_executor(), size_of, std::string(40, 'a') + text) == 140);
    CHECK(
        co_await offload(
            pool, [](int number) { return number + 1; }, 41) == 42);
    CHECK(co_await offload(pool, std::plus<>(), 40, 2) == 42);
    const multiplier three{3};
    CHECK(co_await offload(pool, three, 14) == 42);
    CHECK(co_await offload(pool, &multiplier::times, three, 14) == 42);
    CHECK(co_await offload(pool, &multiplier::by, three) == 3);
    const auto capturing = [text, held = counted(alive)] { return text.size(); };
    CHECK(alive == 1);
    CHECK(co_await offload(pool, capturing) == 100);
    CHECK(alive == 1);
    CHECK((co_await offload(pool, first, std::string(60, 'f'), counted(alive))).size() == 60);
    CHECK(alive == 1);
    const counted named(alive);
    CHECK(co_await offload(pool, &counted::number, named) >= 3);
    CHECK(alive == 2);
    const auto many = co_await offload(pool, first, std::string(60, 'f') + text, counted(alive));
    CHECK(many.size() == 160);
    CHECK(alive == 2);
    if (co_await offload(pool, twice, std::string(30, 'b')) == std::string(60, 'b')) {
        co_await offload(
            pool, [](const counted& one) { CHECK(one.number() > 2); }, counted(alive));
    }
    CHECK(alive == 2);
    const parcel own{text, 3};
    CHECK(co_await offload(pool, &parcel::text, own) == text);
}

template <typename Function, typename... Args>
concept accepted = requires(asio::thread_pool& pool, Function&& function, Args&&... args)
{
    offload(pool, std::forward<Function>(function), std::forward<Args>(args)...);
};

using capturing_lambda = decltype([text = std::string()] { return text.size(); });

static_assert(accepted<decltype(twice)&, std::string>);
static_assert(accepted<const capturing_lambda&>);
static_assert(!accepted<capturing_lambda>, "g++ 12 destroys its captures twice");
static_assert(!accepted<decltype(twice)&>, "an argument is missing");
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
static_assert(!accepted<decltype(&parcel::text), parcel>, "g++ 12 destroys it twice");
static_assert(accepted<decltype(&parcel::text), const parcel&>);
#endif
} // namespace test::offloading

TEST_CASE("what a pool has worked out comes back to the handler's thread", "[offload]")
{
    asio::thread_pool pool(2);
    test::mailbox<std::string> words;
    std::atomic<bool> may_end = false;
    test::running_server running(test::offloading::worker{&pool, &words, &may_end});
    running.start();
    test::client client(running.port());
    const auto ask = [&](const char* order, const std::string& answer) {
        client.send(order);
        CHECK(client.receive(answer.size()) == answer);
    };
    ask("r", "away");
    ask("v", "done");
    ask("m", "7");
    ask("t", "of the pool");
    client.close();
    CHECK(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.errors().empty());
    CHECK(words.size() == 0);
}

TEST_CASE("a handler comes back from a pool to a connection that has ended", "[offload][drain]")
{
    asio::thread_pool pool(1);
    test::mailbox<std::string> words;
    std::atomic<bool> may_end = false;
    test::running_server running(test::offloading::worker{&pool, &words, &may_end});
    running.start();
    test::client client(running.port());
    client.send("w");
    REQUIRE(test::eventually([&] { return running.server.stats().bytes_read == 1; }));
    const auto id = running.on_shard([&] { return running.log.connections().front().id; });
    REQUIRE(running.server.close_connection(id));
    CHECK(client.receive_rest().bytes.empty());
    auto draining = running.shutdown(5s);
    CHECK(running.on_shard([&] { return running.server.stats().handlers; }) == 1);
    may_end = true;
    may_end.notify_all();
    CHECK(test::report_of(draining).stragglers.empty());
    CHECK(words.take() == "ended");
    CHECK(words.size() == 0);
}

TEST_CASE("every form that offload takes is destroyed once", "[offload]")
{
    asio::thread_pool pool(1);
    asio::io_context context;
    std::atomic<int> alive = 0;
    std::exception_ptr failure;
    asio::co_spawn(
        context, test::offloading::every_form(pool, alive),
        [&](const std::exception_ptr& thrown) { failure = thrown; });
    context.run(); // does not return while something is in the pool
    pool.join();
    CHECK(alive == 0);
    CHECK(failure == nullptr);
}

namespace test::offloading
{
inline asio::awaitable<void> ask_twice(
    asio::thread_pool& pool, const std::atomic<bool>& flag, std::string& answer)
{
    try {
        co_await offload(pool, wait_for, &flag);
        co_await offload(pool, twice, std::string("never"));
        answer = "ran";
    } catch (const std::system_error& error) {
        answer = error.code() == asio::error::operation_aborted ? "dropped" : "failed";
    }
}
} // namespace test::offloading

TEST_CASE("who waits for a pool that is stopped is told", "[offload]")
{
    std::atomic<bool> flag = false;
    std::string answer;
    std::thread::id resumed_on;
    asio::io_context context;
    {
        asio::thread_pool pool(1);
        asio::co_spawn(
            context, test::offloading::ask_twice(pool, flag, answer),
            [&](const std::exception_ptr&) { resumed_on = std::this_thread::get_id(); });
        context.poll();
        pool.stop();
        flag = true;
        flag.notify_all();
        pool.join(); // the second one is queued when nobody will come for it
        context.poll();
    }
    context.run();
    CHECK(answer == "dropped");
    CHECK(resumed_on == std::this_thread::get_id());
}
