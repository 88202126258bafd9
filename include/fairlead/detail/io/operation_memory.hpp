// fairlead: where the operations of sockets that are pending lie. Ring 0.

#ifndef FAIRLEAD_DETAIL_IO_OPERATION_MEMORY_HPP
#define FAIRLEAD_DETAIL_IO_OPERATION_MEMORY_HPP

#include <fairlead/detail/namespace.hpp>

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Blocks of one size, kept for the next that needs one. One thread.
class block_pool
{
public:
    static constexpr std::size_t block_size = 256;

    block_pool() = default;
    block_pool(const block_pool&) = delete;
    block_pool& operator=(const block_pool&) = delete;

    ~block_pool()
    {
        while (free_ != nullptr) {
            ::operator delete(std::exchange(free_, free_->next));
        }
    }

    /// Throws `std::bad_alloc`.
    void* take()
    {
        if (free_ == nullptr) {
            return ::operator new(block_size);
        }
        --count_;
        return std::exchange(free_, free_->next);
    }

    void give_back(void* block) noexcept
    {
        if (count_ == most_kept) {
            ::operator delete(block);
        } else {
            ++count_;
            free_ = new (block) link{free_};
        }
    }

private:
    struct link
    {
        link* next;
    };

    static constexpr std::size_t most_kept = 64;

    link* free_ = nullptr;
    std::size_t count_ = 0;
};

/// The memory of one socket. An idle connection has one operation, which waits for input: that fits
/// into the socket itself. The others are soon over, and share what the pool has.
class operation_memory
{
public:
    static constexpr std::size_t inside = 136;

    explicit operation_memory(block_pool& pool) noexcept : pool_(pool)
    {}

    operation_memory(const operation_memory&) = delete;
    operation_memory& operator=(const operation_memory&) = delete;

    /// Null: there is no room in the socket, and the operation is too large for the pool, or `may_be_pooled`
    /// is false. Throws `std::bad_alloc`.
    void* take(std::size_t size, bool may_be_pooled)
    {
        if (size <= inside && !is_taken_) {
            is_taken_ = true;
            return bytes_.data();
        }
        return is_pooled(size, may_be_pooled) ? pool_.take() : nullptr;
    }

    /// With what it was taken with. False: it was not from here.
    bool give_back(void* block, std::size_t size, bool may_be_pooled) noexcept
    {
        if (block == bytes_.data()) {
            is_taken_ = false;
            return true;
        }
        if (is_pooled(size, may_be_pooled)) {
            pool_.give_back(block);
            return true;
        }
        return false;
    }

private:
    static bool is_pooled(std::size_t size, bool may_be_pooled) noexcept
    {
        return may_be_pooled && size <= block_pool::block_size;
    }

    block_pool& pool_;
    alignas(std::max_align_t) std::array<std::byte, inside> bytes_; // of what lies in it
    bool is_taken_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_OPERATION_MEMORY_HPP
