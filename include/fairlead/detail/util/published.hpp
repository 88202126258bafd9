// fairlead: values that one thread writes and any thread reads, each for itself: what is seen of a
// server and its connections from outside. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_PUBLISHED_HPP
#define FAIRLEAD_DETAIL_UTIL_PUBLISHED_HPP

#include <fairlead/detail/namespace.hpp>

#include <atomic>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A number with one writer. Adding is a load and a store, not a locked instruction.
template <typename Integer>
class counter
{
public:
    void add(Integer amount = 1) noexcept
    {
        value_.store(get() + amount, std::memory_order_relaxed);
    }

    Integer get() const noexcept
    {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<Integer> value_ = 0;
};

/// A value that one thread sets and any thread reads.
template <typename Value>
class published
{
public:
    published(Value value = {}) noexcept : value_(value)
    {}

    published& operator=(Value value) noexcept
    {
        value_.store(value, std::memory_order_relaxed);
        return *this;
    }

    operator Value() const noexcept
    {
        return get();
    }

    Value get() const noexcept
    {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<Value> value_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_PUBLISHED_HPP
