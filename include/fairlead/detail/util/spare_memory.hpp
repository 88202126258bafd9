// fairlead: memory that is put aside for one operation of Asio's, so that a step on which others
// wait does not fail for want of it.

#ifndef FAIRLEAD_DETAIL_UTIL_SPARE_MEMORY_HPP
#define FAIRLEAD_DETAIL_UTIL_SPARE_MEMORY_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>

#include <asio/post.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <tuple>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Room for one operation at a time. The handler of the operation keeps this alive: Asio gives the
/// memory back before it destroys or calls the handler.
class spare_memory
{
public:
    spare_memory() = default;
    spare_memory(const spare_memory&) = delete;
    spare_memory& operator=(const spare_memory&) = delete;

    /// From the heap when this is in use, or too small. Throws `std::bad_alloc` then, perhaps.
    void* take(std::size_t size)
    {
        return size <= bytes_.size() && !std::exchange(is_taken_, true) ? bytes_.data()
                                                                        : ::operator new(size);
    }

    void give_back(void* memory) noexcept
    {
        if (memory == bytes_.data()) {
            is_taken_ = false;
        } else {
            ::operator delete(memory);
        }
    }

private:
    static constexpr std::size_t largest_operation = 256;

    alignas(std::max_align_t) std::array<std::byte, largest_operation> bytes_;
    bool is_taken_ = false;
};

/// For a handler's `get_allocator()`.
template <typename T>
class spare_allocator
{
public:
    using value_type = T;

    template <typename Other>
    struct rebind
    {
        using other = spare_allocator<Other>;
    };

    explicit spare_allocator(spare_memory& memory) noexcept : memory_(&memory)
    {}

    template <typename Other>
    // NOLINTNEXTLINE(google-explicit-constructor): what allocators do
    spare_allocator(const spare_allocator<Other>& other) noexcept : memory_(&other.memory())
    {}

    T* allocate(std::size_t count)
    {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        return static_cast<T*>(memory_->take(count * sizeof(T)));
    }

    void deallocate(T* memory, std::size_t) noexcept
    {
        memory_->give_back(memory);
    }

    spare_memory& memory() const noexcept
    {
        return *memory_;
    }

    template <typename Other>
    bool operator==(const spare_allocator<Other>& other) const noexcept
    {
        return memory_ == &other.memory();
    }

private:
    spare_memory* memory_;
};

/// A handler whose operation lives in spare memory. `Function` keeps the memory alive.
template <typename Function>
struct spared_handler
{
    using allocator_type = spare_allocator<void>;

    allocator_type get_allocator() const noexcept
    {
        return allocator_type(*memory);
    }

    template <typename... Args>
    void operator()(Args&&... args)
    {
        function(std::forward<Args>(args)...);
    }

    spare_memory* memory;
    Function function;
};

template <typename Function>
spared_handler(spare_memory*, Function) -> spared_handler<Function>;

/// Runs the handler of `waiter` with `args` on its executor, later, by an operation in the waiter's
/// own memory; the waiter is gone when the handler runs. A waiter has a `handler`, its `executor`
/// (`outstanding_work`), the executor `home` of the own context, and `memory`. When the handler's executor
/// is another one, type-erased, Asio asks the heap all the same.
template <typename Waiter, typename... Args>
void post_in_spare_memory(std::unique_ptr<Waiter> waiter, Args... args)
{
    const auto associated = waiter->executor.get_executor();
    const auto home = waiter->home;
    spared_handler wake{
        &waiter->memory,
        [woken = std::move(waiter), arguments = std::tuple<Args...>(std::move(args)...)]() mutable {
            auto handler = std::move(woken->handler);
            const auto work = std::move(woken->executor);
            woken.reset();
            std::apply(
                [&](Args&... values) { std::move(handler)(std::move(values)...); }, arguments);
        }};
    if (is_same_executor(home, associated)) {
        asio::post(home, std::move(wake));
    } else {
        post_elsewhere(associated, std::move(wake));
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_SPARE_MEMORY_HPP
