// fairlead: memory for input and output that a shard's connections share: an idle connection holds
// none of it. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_BUFFER_POOL_HPP
#define FAIRLEAD_DETAIL_UTIL_BUFFER_POOL_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/byte_buffer.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Keeps what connections give back, up to a bound; what is above it is freed. One thread.
class buffer_pool
{
public:
    /// What a connection reads into at first.
    static constexpr std::size_t block_size = std::size_t(16) << 10;
    /// Larger ones are not kept: one large message must not be remembered for ever.
    static constexpr std::size_t largest_kept = std::size_t(64) << 10;
    /// So many of each kind: at most 8 MiB per shard.
    static constexpr std::size_t most_kept = 64;

    byte_block take_block()
    {
        if (blocks_.empty()) {
            return byte_block::make(block_size);
        }
        byte_block block = std::move(blocks_.back());
        blocks_.pop_back();
        return block;
    }

    void give_back(byte_block block) noexcept
    {
        keep(blocks_, std::move(block), block.size >= block_size && block.size <= largest_kept);
    }

    /// An empty one.
    std::vector<std::byte> take_queue() noexcept
    {
        if (queues_.empty()) {
            return {};
        }
        std::vector<std::byte> queue = std::move(queues_.back());
        queues_.pop_back();
        return queue;
    }

    void give_back(std::vector<std::byte> queue) noexcept
    {
        queue.clear();
        const std::size_t capacity = queue.capacity();
        keep(queues_, std::move(queue), capacity != 0 && capacity <= largest_kept);
    }

    std::size_t kept() const noexcept
    {
        return blocks_.size() + queues_.size();
    }

private:
    template <typename Buffer>
    static void keep(std::vector<Buffer>& kept, Buffer&& buffer, bool fits) noexcept
    {
        if (fits && kept.size() < most_kept) {
            try {
                kept.push_back(std::move(buffer));
            } catch (...) { // no memory to remember memory: free it
            }
        }
    }

    std::vector<byte_block> blocks_;
    std::vector<std::vector<std::byte>> queues_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_BUFFER_POOL_HPP
