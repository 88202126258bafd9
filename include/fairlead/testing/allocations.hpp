// fairlead: memory that runs out in a simulation (`simulation::fail_allocation`). To be included in
// exactly one source file of the test program, where it replaces `operator new` and `delete`.

#ifndef FAIRLEAD_TESTING_ALLOCATIONS_HPP
#define FAIRLEAD_TESTING_ALLOCATIONS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/allocation_fault.hpp>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
inline void* allocate(std::size_t size) noexcept
{
    return allocation_fault::of_this_thread().strikes() ? nullptr
                                                        : std::malloc(size == 0 ? 1 : size);
}

inline void* allocate(std::size_t size, std::align_val_t alignment) noexcept
{
    const auto step = static_cast<std::size_t>(alignment);
    return allocation_fault::of_this_thread().strikes()
               ? nullptr
               : std::aligned_alloc(step, (size + step - 1) / step * step);
}

template <typename... Alignment>
void* allocate_or_throw(std::size_t size, Alignment... alignment)
{
    if (void* const memory = allocate(size, alignment...)) {
        return memory;
    }
    throw std::bad_alloc();
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

void* operator new(std::size_t size)
{
    return fairlead::testing::simulated::allocate_or_throw(size);
}

void* operator new[](std::size_t size)
{
    return fairlead::testing::simulated::allocate_or_throw(size);
}

void* operator new(std::size_t size, std::align_val_t alignment)
{
    return fairlead::testing::simulated::allocate_or_throw(size, alignment);
}

void* operator new[](std::size_t size, std::align_val_t alignment)
{
    return fairlead::testing::simulated::allocate_or_throw(size, alignment);
}

void* operator new(std::size_t size, const std::nothrow_t&) noexcept
{
    return fairlead::testing::simulated::allocate(size);
}

void* operator new[](std::size_t size, const std::nothrow_t&) noexcept
{
    return fairlead::testing::simulated::allocate(size);
}

void operator delete(void* memory) noexcept
{
    std::free(memory);
}

void operator delete[](void* memory) noexcept
{
    std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept
{
    std::free(memory);
}

void operator delete[](void* memory, std::size_t) noexcept
{
    std::free(memory);
}

void operator delete(void* memory, std::align_val_t) noexcept
{
    std::free(memory);
}

void operator delete[](void* memory, std::align_val_t) noexcept
{
    std::free(memory);
}

void operator delete(void* memory, std::size_t, std::align_val_t) noexcept
{
    std::free(memory);
}

void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept
{
    std::free(memory);
}

void operator delete(void* memory, const std::nothrow_t&) noexcept
{
    std::free(memory);
}

void operator delete[](void* memory, const std::nothrow_t&) noexcept
{
    std::free(memory);
}

#endif // FAIRLEAD_TESTING_ALLOCATIONS_HPP
