// Replaces malloc and its relatives by counting ones that forward to glibc's own; where malloc is
// somebody else's, counts nothing.

#include "common/allocation_counter.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#if defined(FAIRLEAD_BENCHMARKS_COUNT_MALLOC)
#include <execinfo.h>
#include <malloc.h>
#include <unistd.h>

extern "C"
{
    void* __libc_malloc(std::size_t size);
    void* __libc_calloc(std::size_t count, std::size_t size);
    void* __libc_realloc(void* memory, std::size_t size);
    void* __libc_memalign(std::size_t alignment, std::size_t size);
    void __libc_free(void* memory);
}

namespace
{
/// Beside the bytes it hands out, glibc keeps one word per block.
constexpr std::int64_t block_header = sizeof(std::size_t);

thread_local bool counted = false;
thread_local bool inside_trace = false;
std::atomic<std::uint64_t> allocation_count = 0;
std::atomic<std::int64_t> live_bytes = 0;
std::atomic<bool> tracing = false;

struct call_stack
{
    std::array<void*, 32> frames{};
    int depth = 0;
    std::uint64_t count = 0;
    std::int64_t bytes = 0;
};

/// Written by counted threads, of which there is one at a time.
std::array<call_stack, 256> stacks{};
std::size_t stack_count = 0;

std::int64_t size_of(void* memory) noexcept
{
    return static_cast<std::int64_t>(::malloc_usable_size(memory)) + block_header;
}

void remember_caller(std::int64_t bytes) noexcept
{
    inside_trace = true;
    call_stack here;
    here.depth = ::backtrace(here.frames.data(), static_cast<int>(here.frames.size()));
    const auto known = std::find_if(stacks.begin(), stacks.begin() + stack_count, [&](auto& stack) {
        return stack.depth == here.depth && stack.frames == here.frames;
    });
    if (known != stacks.begin() + stack_count) {
        ++known->count;
        known->bytes += bytes;
    } else if (stack_count < stacks.size()) {
        here.count = 1;
        here.bytes = bytes;
        stacks[stack_count++] = here;
    }
    inside_trace = false;
}

void* taken(void* memory) noexcept
{
    if (memory == nullptr)
        return memory;
    live_bytes.fetch_add(size_of(memory), std::memory_order_relaxed);
    if (counted && !inside_trace) {
        allocation_count.fetch_add(1, std::memory_order_relaxed);
        if (tracing.load(std::memory_order_relaxed))
            remember_caller(size_of(memory));
    }
    return memory;
}

void given_back(void* memory) noexcept
{
    if (memory != nullptr)
        live_bytes.fetch_sub(size_of(memory), std::memory_order_relaxed);
}
} // namespace

extern "C"
{
    void* malloc(std::size_t size) noexcept
    {
        return taken(__libc_malloc(size));
    }

    void* calloc(std::size_t count, std::size_t size) noexcept
    {
        return taken(__libc_calloc(count, size));
    }

    void* realloc(void* memory, std::size_t size) noexcept
    {
        given_back(memory);
        void* const moved = __libc_realloc(memory, size);
        if (moved == nullptr && size != 0 && memory != nullptr)
            live_bytes.fetch_add(size_of(memory), std::memory_order_relaxed);
        return taken(moved);
    }

    void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept
    {
        return taken(__libc_memalign(alignment, size));
    }

    void* memalign(std::size_t alignment, std::size_t size) noexcept
    {
        return taken(__libc_memalign(alignment, size));
    }

    int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept
    {
        void* const fresh = taken(__libc_memalign(alignment, size));
        if (fresh == nullptr)
            return ENOMEM;
        *memory = fresh;
        return 0;
    }

    void free(void* memory) noexcept
    {
        given_back(memory);
        __libc_free(memory);
    }
}

namespace bench
{
void count_this_thread(bool on) noexcept
{
    counted = on;
}

std::uint64_t allocations() noexcept
{
    return allocation_count.load(std::memory_order_relaxed);
}

std::int64_t live_heap_bytes() noexcept
{
    return live_bytes.load(std::memory_order_relaxed);
}

void trace_allocations(bool on) noexcept
{
    // The first call loads a library, which allocates.
    std::array<void*, 1> frame{};
    ::backtrace(frame.data(), 1);
    tracing = on;
}

void print_traces()
{
    std::sort(stacks.begin(), stacks.begin() + stack_count, [](auto& a, auto& b) {
        return a.count > b.count;
    });
    for (std::size_t i = 0; i < stack_count; ++i) {
        std::printf(
            "%" PRIu64 " allocations of %" PRId64 " bytes from\n", stacks[i].count,
            stacks[i].bytes / static_cast<std::int64_t>(stacks[i].count));
        std::fflush(stdout);
        ::backtrace_symbols_fd(stacks[i].frames.data(), stacks[i].depth, STDOUT_FILENO);
    }
    stack_count = 0;
}
} // namespace bench
#else
namespace bench
{
void count_this_thread(bool) noexcept
{}

std::uint64_t allocations() noexcept
{
    return 0;
}

std::int64_t live_heap_bytes() noexcept
{
    return 0;
}

void trace_allocations(bool) noexcept
{}

void print_traces()
{}
} // namespace bench
#endif
