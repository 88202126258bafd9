// The memory that operations of a connection ask their handlers for: where it comes from, and what
// is left when there is none.
#include "simulation/wait_for.hpp"
#include "support/catch.hpp"
#include <fairlead/server.hpp>
#include <fairlead/testing/catch2.hpp>

#include <asio/bind_cancellation_slot.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/strand.hpp>
#include <asio/use_awaitable.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <new>
#include <string>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;
using fairlead::connection;

namespace handler_memory
{
struct account
{
    int asked = 0;
    int in_use = 0;
    bool is_empty = false;
};

template <typename T>
struct accounted
{
    using value_type = T;

    explicit accounted(account& with) noexcept : of(&with)
    {}

    template <typename U>
    accounted(const accounted<U>& other) noexcept : of(other.of) // NOLINT: as allocators convert
    {}

    T* allocate(std::size_t count)
    {
        if (of->is_empty) {
            throw std::bad_alloc();
        }
        ++of->asked;
        ++of->in_use;
        return static_cast<T*>(::operator new(count * sizeof(T)));
    }

    void deallocate(T* memory, std::size_t) noexcept
    {
        --of->in_use;
        ::operator delete(memory);
    }

    template <typename U>
    bool operator==(const accounted<U>& other) const noexcept
    {
        return of == other.of;
    }

    account* of;
};

template <typename Executor>
struct handler
{
    using allocator_type = accounted<char>;
    using executor_type = Executor;

    allocator_type get_allocator() const noexcept
    {
        return allocator_type(*memory);
    }

    executor_type get_executor() const noexcept
    {
        return executor;
    }

    void operator()(const std::error_code& error, std::size_t)
    {
        *told = error;
    }

    account* memory;
    std::error_code* told;
    Executor executor;
    std::array<char, 256> captured{}; // more than a connection has room for
};
} // namespace handler_memory

using namespace handler_memory;

FAIRLEAD_SIMULATION("an operation uses its handler's memory, wherever the handler runs", sim)
{
    const bool is_foreign = GENERATE(false, true);
    std::array<account, 2> memory;
    std::array<std::error_code, 2> told;
    told.fill(asio::error::would_block);
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        std::array<char, 8> buffer;
        const auto start = [&](auto executor) {
            using of = handler<decltype(executor)>;
            client.async_write_some(asio::buffer("x", 1), of{memory.data(), told.data(), executor});
            client.async_read_some(
                asio::buffer(buffer), of{&memory.back(), &told.back(), executor});
        };
        if (is_foreign) {
            start(asio::make_strand(client.get_executor()));
        } else {
            start(client.get_executor());
        }
        co_await test::wait_for(1s);
    });
    sim.connect(server).send("y").expect("x");
    sim.advance(2s);
    for (const auto& each : memory) {
        CHECK(each.asked > 0);
        CHECK(each.in_use == 0);
    }
    CHECK(told == std::array<std::error_code, 2>{});
}

FAIRLEAD_SIMULATION("a read that had no memory to wait in is not pending", sim)
{
    account memory{.is_empty = true};
    std::error_code told;
    bool has_thrown = false;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        std::array<char, 8> buffer;
        try {
            client.async_read_some(
                asio::buffer(buffer),
                handler<asio::any_io_executor>{&memory, &told, client.get_executor()});
        } catch (const std::bad_alloc&) {
            has_thrown = true;
        }
        const auto bytes = co_await client.read_some(asio::buffer(buffer));
        co_await client.write(asio::buffer(buffer, bytes));
    });
    auto& client = sim.connect(server);
    sim.advance(1s);
    client.send("y").expect("y").expect_end();
    CHECK(has_thrown);
}

FAIRLEAD_SIMULATION(
    "a write that had no memory to wait in is not pending, and has cut nothing", sim)
{
    const std::string large(4U << 20U, 'm');
    account memory;
    std::error_code told;
    bool has_thrown = false;
    auto& server = sim.serve([&](connection& client) -> asio::awaitable<void> {
        using callback = handler<asio::any_io_executor>;
        const auto executor = client.get_executor();
        while (told != asio::error::operation_aborted) { // until the kernel takes nothing more
            told = asio::error::would_block;
            asio::cancellation_signal stop;
            client.async_write_some(
                asio::buffer(large),
                asio::bind_cancellation_slot(stop.slot(), callback{&memory, &told, executor}));
            co_await test::wait_for(10ms);
            stop.emit(asio::cancellation_type::terminal);
            co_await test::wait_for(10ms);
        }
        memory.is_empty = true;
        try {
            client.async_write_some(asio::buffer(large), callback{&memory, &told, executor});
        } catch (const std::bad_alloc&) {
            has_thrown = true;
        }
        co_await test::wait_for(5s);
        co_await client.write(asio::buffer("after", 5));
    });
    auto& client = sim.connect(server);
    client.stall();
    sim.advance(2s);
    client.resume();
    sim.advance(20s);
    CHECK(has_thrown);
    CHECK(client.received().ends_with("after"));
    CHECK(client.has_ended());
}
