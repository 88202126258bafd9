// Messages without a coroutine for each: `framed::fill`, `take` and `queue`.
#include "simulation/wait_for.hpp"
#include "support/catch.hpp"
#include <fairlead/codec/fixed.hpp>
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/server.hpp>
#include <fairlead/testing/catch2.hpp>

#include <algorithm>
#include <string>
#include <system_error>

using namespace std::chrono_literals;
using fairlead::connection;

namespace batches
{
asio::awaitable<void> echo_lines(connection& client)
{
    fairlead::framed lines(client, fairlead::codec::line{.max_frame = 64});
    for (bool more = co_await lines.fill(); more; more = co_await lines.fill()) {
        while (const auto text = lines.take()) {
            lines.queue(*text);
        }
    }
}

/// Waits for one frame, and tells how that ends.
struct fills_once
{
    std::error_code* told;
    bool* more;

    asio::awaitable<void> operator()(connection& client) const
    {
        fairlead::framed lines(client, fairlead::codec::line{}, {.frame_timeout = 5s});
        *more = co_await lines.fill(*told);
    }
};

asio::awaitable<void> shut_down(fairlead::tcp_server<fills_once>& server)
{
    static_cast<void>(co_await server.shutdown(10s));
}

std::string numbered_lines(int count)
{
    std::string all;
    for (int index = 0; index < count; ++index) {
        all += "line " + std::to_string(index) + "\n";
    }
    return all;
}
} // namespace batches

using namespace batches;

FAIRLEAD_SIMULATION("frames that came together are taken and answered together", sim)
{
    auto& server = sim.serve(echo_lines);
    const std::string all = numbered_lines(2000);
    auto& client = sim.connect(server, {.split = 0.5});
    client.send(all).expect(all);
    client.send("half a li").send("ne\n").expect("half a line\n");
    client.half_close().expect_end();
    CHECK(server.stats().closed_by(fairlead::close_reason::peer_closed) == 1);
}

FAIRLEAD_SIMULATION("what is queued is written though nobody fills or flushes", sim)
{
    auto& server = sim.serve([](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{});
        lines.queue("early");
        co_await test::wait_for(2min);
        lines.queue("late");
    });
    auto& client = sim.connect(server);
    client.expect("early\n");
    CHECK(sim.now() < 1min);
    client.expect("late\n").expect_end();
}

FAIRLEAD_SIMULATION("a peer that does not read stops who fills, and not for ever", sim)
{
    constexpr std::size_t size = 1024;
    std::size_t most = 0;
    std::size_t taken = 0;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed blocks(
            client, fairlead::codec::fixed{.size = size},
            {.high_watermark = 64 * size, .low_watermark = 16 * size});
        for (bool more = co_await blocks.fill(); more; more = co_await blocks.fill()) {
            while (const auto block = blocks.take()) {
                for (int copies = 0; copies < 8; ++copies) {
                    blocks.queue(*block);
                }
                ++taken;
            }
            most = std::max(most, blocks.queued());
        }
    });
    auto& client = sim.connect(server);
    client.stall();
    client.send(std::string(1000 * size, 'b'));
    sim.advance(20s);
    CHECK(taken < 1000);
    CHECK(most <= 64 * size + 8 * 8 * size); // what one read gives, eight times
    client.resume();
    client.expect(std::string(8 * 1000 * size, 'b'));
    CHECK(taken == 1000);
}

FAIRLEAD_SIMULATION("what is wrong with a frame is told where it is taken", sim)
{
    const bool throws = GENERATE(false, true);
    std::error_code told;
    int good = 0;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{.max_frame = 8});
        bool more = co_await lines.fill();
        while (more && !told) {
            try {
                const auto text = throws ? lines.take() : lines.take(told);
                good += text ? 1 : 0;
                if (!text && !told) {
                    more = co_await lines.fill();
                }
            } catch (const std::system_error& failure) {
                told = failure.code();
            }
        }
        co_await lines.send("too long");
    });
    auto& client = sim.connect(server);
    client.send("one\ntwo\nthis is too long\nthree\n").expect("too long\n").expect_end();
    CHECK(good == 2);
    CHECK(told == fairlead::errc::frame_too_large);
}

FAIRLEAD_SIMULATION("fill ends as next does: in a drain, by a timeout, inside a frame", sim)
{
    const auto way = GENERATE(0, 1, 2);
    std::error_code told;
    bool more = true;
    auto& server = sim.serve(fills_once{&told, &more});
    auto& client = sim.connect(server);
    sim.advance(1s);
    if (way == 0) {
        sim.spawn(shut_down(server));
    } else {
        client.send("half a");
        if (way == 1) {
            client.half_close();
        }
    }
    sim.advance(8s);
    CHECK_FALSE(more);
    CHECK(
        told == (way == 0   ? std::error_code()
                 : way == 1 ? std::error_code(fairlead::errc::truncated_frame)
                            : std::error_code(fairlead::errc::deadline_exceeded)));
}

FAIRLEAD_SIMULATION("a close behind finish cuts nothing", sim)
{
    const std::string large(2U << 20U, 'm');
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{.max_frame = 4U << 20U});
        lines.queue(large);
        co_await lines.finish();
        client.close();
    });
    auto& client = sim.connect(server);
    client.expect(large + "\n").expect_end();
}

FAIRLEAD_SIMULATION("nothing is queued for a connection that has ended", sim)
{
    std::error_code told;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{});
        client.close();
        try {
            lines.queue("too late");
        } catch (const std::system_error& failure) {
            told = failure.code();
        }
        co_return;
    });
    auto& client = sim.connect(server);
    client.expect_end();
    CHECK(told == fairlead::errc::connection_closed);
    CHECK(client.received().empty());
}

FAIRLEAD_SIMULATION("a frame that is whole has no time limit any more", sim)
{
    auto& server = sim.serve([](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{}, {.frame_timeout = 1s});
        co_await lines.fill();
        co_await test::wait_for(5s);
        while (const auto text = lines.take()) {
            lines.queue(*text);
        }
    });
    auto& client = sim.connect(server);
    sim.advance(1s);
    client.send("a");
    sim.advance(100ms);
    client.send("b\n").expect("ab\n").expect_end();
}

FAIRLEAD_SIMULATION("nor has one that will never be whole", sim)
{
    auto& server = sim.serve([](connection& client) -> asio::awaitable<void> {
        fairlead::framed lines(client, fairlead::codec::line{}, {.frame_timeout = 1s});
        std::error_code error;
        co_await lines.fill(error);
        co_await test::wait_for(5s);
        lines.queue(error.message());
        co_await lines.finish();
    });
    auto& client = sim.connect(server);
    sim.advance(1s);
    client.send("half a li").half_close();
    client.expect(make_error_code(fairlead::errc::truncated_frame).message() + "\n").expect_end();
}
