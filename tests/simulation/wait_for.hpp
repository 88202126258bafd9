// For coroutines of tests: waits in virtual time.

#ifndef FAIRLEAD_TESTS_SIMULATION_WAIT_FOR_HPP
#define FAIRLEAD_TESTS_SIMULATION_WAIT_FOR_HPP

#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <asio/this_coro.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>

namespace test
{
inline asio::awaitable<void> wait_for(std::chrono::milliseconds time)
{
    asio::steady_timer timer(co_await asio::this_coro::executor, time);
    co_await timer.async_wait(asio::use_awaitable);
}
} // namespace test

#endif // FAIRLEAD_TESTS_SIMULATION_WAIT_FOR_HPP
