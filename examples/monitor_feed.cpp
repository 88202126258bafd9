// Shows: real-time monitoring: every subscriber is sent each reading, and one that does not keep up
//        is thinned out or dropped, by policy, without slowing the others down.
// Run:   monitor_feed [ADDRESS] [thin|drop] [MILLISECONDS]   (127.0.0.1:7910 thin 100)
// Poke:  nc 127.0.0.1 7910                                   and, for a slow one:
//        (sleep 60) | nc 127.0.0.1 7910 | (sleep 5; cat)     says "missed" where readings are left out

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <list>
#include <memory>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
using fairlead::framed;
using fairlead::codec::line;

/// What to do with a subscriber whose queue is full.
enum class slow_policy
{
    thin, // leave readings out, and say how many
    drop,
};

struct settings
{
    slow_policy policy = slow_policy::thin;
    std::chrono::milliseconds interval = 100ms;
};

/// Of all shards.
struct totals
{
    std::atomic<std::uint64_t> readings = 0;
    std::atomic<std::uint64_t> thinned = 0;
    std::atomic<std::uint64_t> dropped = 0;
};

/// So much may be queued for one subscriber; the kernel's buffer comes on top.
constexpr fairlead::framed_options patience{.high_watermark = 64 << 10, .low_watermark = 16 << 10};

class subscriber
{
public:
    explicit subscriber(fairlead::connection& conn) : lines_(conn, line{}, patience)
    {}

    /// Queues a reading, if it keeps up.
    void offer(std::string_view reading, slow_policy policy, totals& sums)
    {
        if (missed_ != 0 && lines_.queued() <= patience.low_watermark) {
            lines_.try_send("missed " + std::to_string(missed_));
            missed_ = 0;
        }
        if (missed_ == 0 && lines_.try_send(reading)) {
            return;
        }
        if (policy == slow_policy::thin) {
            ++sums.thinned;
            ++missed_;
        } else if (lines_.stream().is_open()) {
            ++sums.dropped;
            lines_.stream().abort();
        }
    }

    /// Until it leaves, or the server drains. What subscribers say does not matter.
    asio::awaitable<void> listen()
    {
        for (auto text = co_await lines_.next(); text; text = co_await lines_.next()) {
        }
    }

private:
    framed<line> lines_;
    std::uint64_t missed_ = 0;
};

/// The subscribers of one shard, and the one coroutine that feeds them. Everything here belongs to
/// the shard's thread.
class feed : public std::enable_shared_from_this<feed>
{
public:
    feed(settings rules, std::shared_ptr<totals> sums) : rules_(rules), totals_(std::move(sums))
    {}

    /// A place among the subscribers, for as long as it lives.
    class place
    {
    public:
        place(feed& owner, subscriber& one, const asio::any_io_executor& executor) : owner_(owner)
        {
            position_ = owner_.subscribers_.insert(owner_.subscribers_.end(), &one);
            if (owner_.subscribers_.size() == 1 && !owner_.is_running_) {
                owner_.is_running_ = true;
                asio::co_spawn(executor, run(owner_.shared_from_this()), asio::detached);
            }
        }

        place(const place&) = delete;
        place& operator=(const place&) = delete;

        ~place()
        {
            owner_.subscribers_.erase(position_);
        }

    private:
        feed& owner_;
        std::list<subscriber*>::iterator position_;
    };

private:
    /// While there is anybody to feed.
    static asio::awaitable<void> run(std::shared_ptr<feed> self)
    {
        asio::steady_timer timer(co_await asio::this_coro::executor);
        timer.expires_after(0ms);
        for (; !self->subscribers_.empty(); self->publish()) {
            timer.expires_at(timer.expiry() + self->rules_.interval);
            std::error_code ignored;
            co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
        self->is_running_ = false;
    }

    void publish()
    {
        ++totals_->readings;
        const std::string reading = read_instrument(++sequence_);
        for (subscriber* const each : subscribers_) {
            each->offer(reading, rules_.policy, *totals_); // never waits
        }
    }

    /// Where a real program would look at something.
    static std::string read_instrument(std::uint64_t sequence)
    {
        std::string reading = "reading " + std::to_string(sequence) + " ";
        std::uint64_t value = sequence * 0x9e3779b97f4a7c15U;
        while (reading.size() < 1000) {
            reading += std::to_string(value >> 40U) + " ";
            value = value * 6364136223846793005U + 1442695040888963407U;
        }
        return reading;
    }

    settings rules_;
    std::shared_ptr<totals> totals_;
    std::list<subscriber*> subscribers_;
    std::uint64_t sequence_ = 0;
    bool is_running_ = false;
};

/// The handler. Each shard has its own copy, and each copy its own feed.
class monitor
{
public:
    monitor(settings rules, std::shared_ptr<totals> sums)
        : rules_(rules), totals_(std::move(sums)), feed_(std::make_shared<feed>(rules_, totals_))
    {}

    monitor(const monitor& other) : monitor(other.rules_, other.totals_)
    {}

    monitor& operator=(const monitor&) = delete;

    asio::awaitable<void> operator()(fairlead::connection& conn) const
    {
        subscriber one(conn);
        const feed::place place(*feed_, one, conn.get_executor());
        co_await one.listen();
    }

private:
    settings rules_;
    std::shared_ptr<totals> totals_;
    std::shared_ptr<feed> feed_;
};

int main(int argc, char** argv)
{
    try {
        settings rules;
        rules.policy =
            argc > 2 && std::string_view(argv[2]) == "drop" ? slow_policy::drop : slow_policy::thin;
        if (argc > 3) {
            rules.interval = std::chrono::milliseconds(std::max(1, std::atoi(argv[3])));
        }
        const auto sums = std::make_shared<totals>();
        const auto report = fairlead::serve(
            monitor(rules, sums),
            {.address = argc > 1 ? argv[1] : "127.0.0.1:7910",
             .idle_timeout = 0ms, // a subscriber need not say anything
             .write_timeout = 30s,
             .socket = {.send_buffer = 64 << 10}},
            {.hooks = example::printing_hooks()});
        std::printf(
            "readings=%llu thinned=%llu dropped=%llu\n",
            static_cast<unsigned long long>(sums->readings),
            static_cast<unsigned long long>(sums->thinned),
            static_cast<unsigned long long>(sums->dropped));
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "monitor_feed: %s\n", error.what());
        return 1;
    }
}
