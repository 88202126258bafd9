// fairlead: how a coroutine sleeps on its connection's wheel: what is pending lives in its own frame.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SLEEP_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SLEEP_HPP

#include <fairlead/detail/connection/operations.hpp>
#include <fairlead/detail/connection/sleeping.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/error.hpp>
#include <asio/post.hpp>

#include <chrono>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// In the frame of who sleeps: nothing is asked of the heap, and waking cannot fail.
struct sleep_room
{
    spare_memory sleep;
    spare_memory wake;
};

/// The frame owns the room, the room the handler, and the handler the frame. That circle is cut
/// when the sleep ends; it does with its connection, at the latest when the server is destroyed,
/// and the post that is left then goes with the context.
template <typename Handler>
class sleep_of final : public sleeping
{
public:
    static void begin(
        connection_operations& connection, sleep_room& room, environment::time_point until,
        Handler handler)
    {
        const connection_ref keep(connection); // what it watches may have come to its end
        auto& sleeps = connection.extras().sleeps;
        void* const memory = room.sleep.take(sizeof(sleep_of));
        auto* const begun = new (memory) sleep_of(connection, room, std::move(handler));
        try {
            begun->obey(asio::get_associated_cancellation_slot(begun->handler_));
        } catch (...) { // the room may go with the handler: that comes last
            const Handler dropped = std::move(begun->handler_);
            begun->~sleep_of();
            room.sleep.give_back(memory);
            throw;
        }
        sleeps.push_back(*begun);
        connection.home.schedule(*begun, until);
        try {
            connection.watch();
        } catch (...) { // no memory to watch in: an operation will meet a reset
        }
    }

    void end(const std::error_code& why) noexcept override
    {
        this->unlink();
        connection_->home.cancel(*this);
        auto slot = asio::get_associated_cancellation_slot(handler_);
        if (slot.is_connected()) {
            slot.clear();
        }
        const auto associated = work_.get_executor();
        spared_handler wake{
            &room_.wake, [handler = std::move(handler_), work = std::move(work_),
                          error = why]() mutable { std::move(handler)(error); }};
        const auto keep = std::move(connection_);
        sleep_room& room = room_;
        this->~sleep_of();
        room.sleep.give_back(this);
        const auto home = keep->get_executor();
        if (is_same_executor(home, associated)) {
            asio::post(home, std::move(wake));
        } else {
            post_elsewhere(associated, std::move(wake));
        }
    }

private:
    using work = outstanding_work<asio::associated_executor_t<Handler, environment::executor_type>>;

    sleep_of(connection_operations& connection, sleep_room& room, Handler&& handler)
        : connection_(connection),
          room_(room),
          work_(asio::get_associated_executor(handler, connection.get_executor())),
          handler_(std::move(handler))
    {}

    ~sleep_of() = default;

    template <typename Slot>
    void obey(Slot slot)
    {
        if (slot.is_connected()) {
            slot.assign([this](asio::cancellation_type type) {
                if (type != asio::cancellation_type::none) {
                    end(asio::error::operation_aborted);
                }
            });
        }
    }

    connection_ref connection_;
    sleep_room& room_;
    work work_; // keeps the context of who sleeps running meanwhile
    Handler handler_;
};

struct initiate_sleep
{
    connection_operations* connection;
    sleep_room* room;
    std::chrono::milliseconds time;

    template <typename Handler>
    void operator()(Handler&& handler) const
    {
        const std::error_code ended = connection->why_wait_no_longer();
        if (ended || time.count() <= 0) {
            post_completion(connection->get_executor(), std::forward<Handler>(handler), ended);
            return;
        }
        sleep_of<std::decay_t<Handler>>::begin(
            *connection, *room, later(environment::clock::now(), time),
            std::forward<Handler>(handler));
    }
};

template <typename Token>
asio::awaitable<void> sleep(
    connection_operations& connection, std::chrono::milliseconds time, Token completion)
{
    sleep_room room; // NOLINT(cppcoreguidelines-pro-type-member-init)
    co_await asio::async_initiate<Token, void(std::error_code)>(
        initiate_sleep{&connection, &room, time}, completion);
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SLEEP_HPP
