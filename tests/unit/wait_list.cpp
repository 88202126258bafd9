// Coroutines that wait for one thing to happen, and may stop waiting.

#include "support/catch.hpp"
#include <fairlead/detail/util/intrusive_ref.hpp>
#include <fairlead/detail/util/wait_list.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/bind_executor.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/io_context.hpp>
#include <asio/strand.hpp>

#include <memory>
#include <system_error>
#include <utility>
#include <vector>

using fairlead::detail::wait_list;

TEST_CASE("who waits is woken once, by a post", "[wait_list]")
{
    asio::io_context context(1);
    wait_list list;
    CHECK(list.empty());
    std::vector<std::error_code> ends;
    for (int i = 0; i < 3; ++i) {
        list.push(
            context.get_executor(), [&](const std::error_code& error) { ends.push_back(error); });
    }
    CHECK_FALSE(list.empty());
    list.notify_all();
    CHECK(list.empty());
    CHECK(ends.empty());
    context.run();
    CHECK(ends == std::vector<std::error_code>(3));
    list.notify_all();
    context.restart();
    CHECK(context.run() == 0);
}

TEST_CASE("a wait keeps its context running, and can be cancelled", "[wait_list]")
{
    asio::io_context context(1);
    wait_list list;
    asio::cancellation_signal first;
    asio::cancellation_signal second;
    std::vector<std::error_code> ends;
    const auto note = [&](const std::error_code& error) { ends.push_back(error); };
    list.push(context.get_executor(), asio::bind_cancellation_slot(first.slot(), note));
    list.push(context.get_executor(), asio::bind_cancellation_slot(second.slot(), note));
    context.poll();
    CHECK_FALSE(context.stopped()); // there is work
    first.emit(asio::cancellation_type::none);
    CHECK(context.poll() == 0);
    first.emit(asio::cancellation_type::terminal);
    first.emit(asio::cancellation_type::terminal); // there is nobody any more
    context.poll();
    REQUIRE(ends.size() == 1);
    CHECK(ends[0] == asio::error::operation_aborted);
    list.notify_all();
    second.emit(asio::cancellation_type::total); // too late
    context.run();
    REQUIRE(ends.size() == 2);
    CHECK_FALSE(ends[1]);
}

TEST_CASE("a wait completes on its handler's own executor", "[wait_list]")
{
    asio::io_context own(1);
    asio::io_context other(1);
    wait_list list;
    int woken = 0;
    list.push(
        own.get_executor(), asio::bind_executor(other, [&](const std::error_code&) { ++woken; }));
    list.notify_all();
    own.run();
    CHECK(woken == 0);
    other.run();
    CHECK(woken == 1);
}

TEST_CASE("a strand over a type-erased executor may be where a wait completes", "[wait_list]")
{
    asio::io_context own(1);
    asio::io_context other(1);
    const auto strand = asio::make_strand(asio::any_io_executor(other.get_executor()));
    wait_list list;
    int woken = 0;
    list.push(own.get_executor(), asio::bind_executor(strand, [&](const std::error_code&) {
                  woken += strand.running_in_this_thread() ? 1 : 0;
              }));
    other.poll();
    CHECK_FALSE(other.stopped()); // there is work, and not only on the strand
    list.notify_all();
    own.run();
    CHECK(woken == 0);
    other.run();
    CHECK(woken == 1);
    CHECK(other.stopped());
}

TEST_CASE("those who still wait when the list dies are destroyed, not called", "[wait_list]")
{
    asio::io_context context(1);
    asio::cancellation_signal signal;
    auto held = std::make_shared<int>(1);
    const std::weak_ptr<int> watched = held;
    int calls = 0;
    {
        wait_list list;
        list.push(
            context.get_executor(), asio::bind_cancellation_slot(
                                        signal.slot(), [held = std::move(held), &calls](
                                                           const std::error_code&) { ++calls; }));
        CHECK_FALSE(watched.expired());
    }
    CHECK(watched.expired());
    context.run();
    CHECK(calls == 0);
}

namespace
{
struct counted
{
    int references = 0;
    int ended = 0;

    void retain() noexcept
    {
        ++references;
    }

    void release() noexcept
    {
        ended += --references == 0 ? 1 : 0;
    }
};
} // namespace

TEST_CASE("the last counted reference ends an object", "[intrusive_ref]")
{
    using ref = fairlead::detail::intrusive_ref<counted>;
    counted one;
    counted two;
    {
        ref first(one);
        ref copy = first;
        CHECK(one.references == 2);
        ref moved = std::move(first);
        CHECK(one.references == 2);
        CHECK(&*moved == &one);
        copy = ref(two);
        CHECK(one.references == 1);
        copy = *&copy;
        CHECK(two.references == 1);
        moved = ref();
        CHECK(one.ended == 1);
        CHECK_FALSE(moved);
        CHECK(two.ended == 0);
    }
    CHECK(two.ended == 1);
}
