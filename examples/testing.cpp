// A test of a handler without a network: the real server, Asio and the handler run on a kernel inside this program, in
// virtual time. An hour of idleness passes in a millisecond, and what happened with a seed happens with it again.
//
//   build/dev/examples/testing        runs the tests of starter/shout.hpp; with a number, from that seed
//
// With Catch2 there is FAIRLEAD_SIMULATION (fairlead/testing/catch2.hpp), which draws a seed and tells it on failure.
// Linux only.

#include "starter/shout.hpp"
#include <fairlead/testing/simulation.hpp>
#include <fairlead/testing/system_calls.hpp> // in one file of the program

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using fairlead::testing::simulation;

namespace
{
void check(bool holds, const char* what)
{
    if (!holds) {
        throw std::runtime_error(what);
    }
}

void each_line_is_answered(simulation& sim)
{
    auto& server = sim.serve(shout, {.idle_timeout = 5min});
    auto& client = sim.connect(server, {.latency = 20ms, .split = 0.5});
    client.send("hello\nwor").expect("HELLO\n").send("ld\n").expect("WORLD\n");
    client.half_close().expect_end();
}

void who_says_nothing_is_closed(simulation& sim)
{
    auto& server = sim.serve(shout, {.idle_timeout = 1h});
    auto& client = sim.connect(server);
    sim.advance(59min);
    check(client.is_connected(), "nobody is closed before the hour");
    client.expect_end().close();
    check(sim.settles_within(10s), "it is over soon afterwards");
    check(server.stats().closed_by(fairlead::close_reason::idle_timeout) == 1, "it was idle");
}

void descriptors_run_out_and_come_back(simulation& sim)
{
    auto& server = sim.serve(shout);
    sim.fail("accept4", EMFILE, {.nth = 1, .times = 5});
    sim.connect(server);
    sim.advance(10s);
    sim.connect(server).send("still there?\n").expect("STILL THERE?\n");
}

void a_slow_client_keeps_nobody_waiting(simulation& sim)
{
    auto& server = sim.serve(shout);
    auto& slow = sim.connect(server);
    slow.drip(1, 1s).send("slow\n");
    sim.connect(server).send("fast\n").expect("FAST\n");
    slow.expect("SLOW\n");
    check(sim.now() > 4s, "a byte a second");
}
} // namespace

int main(int argc, char** argv)
{
    const std::uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
    try {
        fairlead::testing::simulate(seed, each_line_is_answered);
        fairlead::testing::simulate(seed, who_says_nothing_is_closed);
        fairlead::testing::simulate(seed, descriptors_run_out_and_come_back);
        fairlead::testing::simulate_twice(seed, a_slow_client_keeps_nobody_waiting);
        std::cout << "all of it holds, with seed " << seed << '\n';
    } catch (const std::exception& failure) {
        std::cerr << "with seed " << seed << ": " << failure.what() << '\n';
        return 1;
    }
}
