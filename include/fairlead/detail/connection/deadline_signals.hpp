// fairlead: the cancellation signals that a connection emits when it ends. What they are to a handler,
// is in deadline_slot.hpp. One thread.

#ifndef FAIRLEAD_DETAIL_CONNECTION_DEADLINE_SIGNALS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_DEADLINE_SIGNALS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/cancellation_signal.hpp>
#include <asio/cancellation_type.hpp>

#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
class connection_record;

/// In the list of its connection; unless that is gone already.
struct deadline_signal : list_hook<>
{
    explicit deadline_signal(connection_record& owner) noexcept : of(&owner)
    {}

    ~deadline_signal()
    {
        unlink();
    }

    connection_record* of; // null: gone
    asio::cancellation_signal signal;
};

class deadline_signals
{
public:
    deadline_signals() = default;
    deadline_signals(const deadline_signals&) = delete;
    deadline_signals& operator=(const deadline_signals&) = delete;

    ~deadline_signals()
    {
        forget();
    }

    bool empty() const noexcept
    {
        return waiting_.empty();
    }

    void add(deadline_signal& one) noexcept
    {
        waiting_.push_back(one);
    }

    /// The connection goes, and with it the reason to emit anything.
    void forget() noexcept
    {
        make_due();
        while (!due_.empty()) {
            take_due().of = nullptr;
        }
    }

    /// All are to be emitted. True: `emit` is to be posted, in this memory.
    bool make_due() noexcept
    {
        while (!waiting_.empty()) {
            deadline_signal& one = waiting_.front();
            one.unlink();
            due_.push_back(one);
        }
        return !due_.empty() && !std::exchange(is_posted_, true);
    }

    /// The same for one that was emitted already: there may be something new to cancel.
    bool make_due(deadline_signal& again) noexcept
    {
        again.unlink();
        due_.push_back(again);
        return !std::exchange(is_posted_, true);
    }

    /// What it calls may do anything to the signals.
    void emit()
    {
        is_posted_ = false;
        while (!due_.empty()) {
            deadline_signal& one = take_due();
            waiting_.push_back(one);
            one.signal.emit(asio::cancellation_type::terminal);
        }
    }

    spare_memory& memory() noexcept
    {
        return memory_;
    }

private:
    deadline_signal& take_due() noexcept
    {
        deadline_signal& one = due_.front();
        one.unlink();
        return one;
    }

    intrusive_list<deadline_signal> waiting_;
    intrusive_list<deadline_signal> due_;
    bool is_posted_ = false;
    spare_memory memory_; // of the post
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_DEADLINE_SIGNALS_HPP
