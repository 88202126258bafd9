// fairlead: an operation of a socket that has not been told to its handler yet: it waits for the
// socket, or for its turn. What moves bytes is the attempt that it repeats; when, is the reactor's.

#ifndef FAIRLEAD_DETAIL_IO_PENDING_OPERATION_HPP
#define FAIRLEAD_DETAIL_IO_PENDING_OPERATION_HPP

#include <fairlead/detail/io/attempt.hpp>
#include <fairlead/detail/io/operation_memory.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/associated_allocator.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/error.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class cancellation_link;

class pending_operation
{
public:
    enum class stage : std::uint8_t
    {
        waits,  // for the socket
        ready,  // in the reactor's line, to attempt again
        is_over // in the reactor's line, to be told
    };

    pending_operation(const pending_operation&) = delete;
    pending_operation& operator=(const pending_operation&) = delete;

    /// Its turn in the line: it attempts, or is told. It may be gone then, and its socket too.
    void take_turn()
    {
        step_(*this, action::go_on);
    }

    /// Its context ends: the handler is destroyed without being called, and the operation with it.
    void drop()
    {
        step_(*this, action::drop);
    }

    /// Its handler's cancellation signal was emitted.
    void cancel() noexcept
    {
        step_(*this, action::cancel);
    }

    pending_operation* next_of_socket = nullptr;
    pending_operation* next_in_line = nullptr;
    cancellation_link* link = nullptr; // of a slot that is connected
    attempt outcome;
    stage now = stage::is_over;
    bool is_immediate = false; // in the line without having waited

protected:
    enum class action : std::uint8_t
    {
        go_on,
        drop,
        cancel,
    };

    using step = void (*)(pending_operation&, action);

    explicit pending_operation(step next) noexcept : step_(next)
    {}

    ~pending_operation() = default;

private:
    step step_;
};

/// Operations, first come first served. Owns none.
class operation_line
{
public:
    operation_line() = default;
    operation_line(const operation_line&) = delete;
    operation_line& operator=(const operation_line&) = delete;

    bool empty() const noexcept
    {
        return first_ == nullptr;
    }

    void push_back(pending_operation& operation) noexcept
    {
        operation.next_in_line = nullptr;
        *end_ = &operation;
        end_ = &operation.next_in_line;
    }

    /// Not when it is empty.
    pending_operation& pop_front() noexcept
    {
        pending_operation& popped = *first_;
        first_ = popped.next_in_line;
        end_ = first_ == nullptr ? &first_ : end_;
        return popped;
    }

    /// All of the other, behind these.
    void append(operation_line& other) noexcept
    {
        if (!other.empty()) {
            *end_ = std::exchange(other.first_, nullptr);
            end_ = std::exchange(other.end_, &other.first_);
        }
    }

private:
    pending_operation* first_ = nullptr;
    pending_operation** end_ = &first_;
};

/// What an operation leaves in its handler's cancellation slot. Each of the two knows the other, and
/// whichever goes first says so: a signal may be emitted when the operation is long over, and go
/// when it is not.
class cancellation_link
{
public:
    explicit cancellation_link(pending_operation& operation) noexcept : operation_(&operation)
    {
        operation.link = this;
    }

    cancellation_link(const cancellation_link&) = delete;
    cancellation_link& operator=(const cancellation_link&) = delete;

    ~cancellation_link()
    {
        if (operation_ != nullptr) {
            operation_->link = nullptr;
        }
    }

    void operator()(asio::cancellation_type type) noexcept
    {
        if (operation_ != nullptr && type != asio::cancellation_type::none) {
            operation_->cancel();
        }
    }

    /// The operation is over.
    static void cut(pending_operation& operation) noexcept
    {
        if (operation.link != nullptr) {
            std::exchange(operation.link, nullptr)->operation_ = nullptr;
        }
    }

private:
    pending_operation* operation_;
};

/// `again()` is an attempt; `handler(error, bytes)` is told of the first that comes to something.
/// `Socket` has `memory()`, and is told of the operation's ways: that it `waits` for its
/// `outcome.waits_for`, that it `is_over`, and that it is to `cancel` it.
template <typename Socket, typename Attempt, typename Handler>
class operation_of final : public pending_operation
{
public:
    /// Throws what the copies throw, and `std::bad_alloc`.
    template <typename Given>
    static operation_of* make(Socket& socket, Attempt&& again, Given&& handler)
    {
        static_assert(alignof(operation_of) <= alignof(std::max_align_t));
        void* memory = socket.memory().take(sizeof(operation_of), has_no_allocator);
        if (memory == nullptr) {
            allocator own(asio::get_associated_allocator(handler));
            memory = std::allocator_traits<allocator>::allocate(own, 1);
        }
        try {
            return new (memory)
                operation_of(socket, std::move(again), std::forward<Given>(handler));
        } catch (...) { // of a user's buffers, or of his handler
            give_back(socket, memory, handler);
            throw;
        }
    }

    /// What it calls may cancel it.
    void attempts()
    {
        now = stage::ready;
        const attempt result = again_();
        if (now == stage::ready) {
            outcome = result;
        } else {
            outcome.bytes = result.bytes;
        }
    }

    auto cancellation_slot() const noexcept
    {
        return asio::get_associated_cancellation_slot(handler_);
    }

private:
    using allocator = typename std::allocator_traits<
        asio::associated_allocator_t<Handler>>::template rebind_alloc<operation_of>;

    /// Its handler does not care where its memory is from.
    static constexpr bool has_no_allocator = requires
    {
        requires std::same_as<
            typename std::allocator_traits<allocator>::template rebind_alloc<std::byte>,
            std::allocator<std::byte>>;
    };

    template <typename Given>
    operation_of(Socket& socket, Attempt&& again, Given&& handler)
        : pending_operation(&operation_of::take_step),
          socket_(socket),
          again_(std::move(again)),
          handler_(std::forward<Given>(handler))
    {}

    ~operation_of() = default;

    static void take_step(pending_operation& base, action what)
    {
        auto& self = static_cast<operation_of&>(base);
        switch (what) {
        case action::cancel:
            return self.socket_.cancel(self);
        case action::drop: {
            const Handler handler = self.taken_out();
            return;
        }
        case action::go_on:
            break;
        }
        if (self.now == stage::ready) {
            self.attempts();
            if (self.outcome.waits_for != attempt::condition::nothing) {
                self.socket_.waits(self);
                return;
            }
        }
        const attempt outcome = self.outcome;
        Handler handler = self.taken_out(); // goes last: it may be all that keeps the socket
        std::move(handler)(std::error_code(outcome.error), outcome.bytes);
    }

    /// The operation is gone then.
    Handler taken_out()
    {
        cancellation_link::cut(*this);
        socket_.is_over(*this);
        Handler handler(std::move(handler_));
        Socket& socket = socket_;
        void* const block = this;
        this->~operation_of();
        give_back(socket, block, handler);
        return handler;
    }

    template <typename OfHandler>
    static void give_back(Socket& socket, void* block, const OfHandler& handler) noexcept
    {
        if (!socket.memory().give_back(block, sizeof(operation_of), has_no_allocator)) {
            allocator memory(asio::get_associated_allocator(handler));
            std::allocator_traits<allocator>::deallocate(
                memory, static_cast<operation_of*>(block), 1);
        }
    }

    Socket& socket_;
    Attempt again_;
    Handler handler_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_PENDING_OPERATION_HPP
