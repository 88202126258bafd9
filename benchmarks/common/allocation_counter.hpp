// Counts what a thread takes from the heap, in a program linked with allocation_counter.cpp. It
// counts at malloc's level: Asio 1.22 takes coroutine frames from std::aligned_alloc, which a
// replaced operator new never sees, and operator new itself ends in malloc.

#ifndef FAIRLEAD_BENCHMARKS_COMMON_ALLOCATION_COUNTER_HPP
#define FAIRLEAD_BENCHMARKS_COMMON_ALLOCATION_COUNTER_HPP

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAIRLEAD_BENCHMARKS_FOREIGN_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define FAIRLEAD_BENCHMARKS_FOREIGN_MALLOC 1
#endif
#endif

namespace bench
{
/// False where malloc belongs to a sanitizer or is not glibc's: then everything below counts
/// nothing.
#if defined(FAIRLEAD_BENCHMARKS_FOREIGN_MALLOC) || !defined(__GLIBC__)
inline constexpr bool allocations_are_counted = false;
#else
#define FAIRLEAD_BENCHMARKS_COUNT_MALLOC 1
inline constexpr bool allocations_are_counted = true;
#endif

/// Counts the calling thread's allocations from now on, or no longer.
void count_this_thread(bool on) noexcept;

/// Allocations by counted threads since the program began. Any thread may ask.
std::uint64_t allocations() noexcept;

/// Bytes that the whole process has on the heap: what malloc really set aside, its headers
/// included.
std::int64_t live_heap_bytes() noexcept;

/// Remembers where counted allocations come from while it is on.
void trace_allocations(bool on) noexcept;

/// Prints and forgets the remembered call stacks, the most frequent first, to stdout.
void print_traces();
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_COMMON_ALLOCATION_COUNTER_HPP
