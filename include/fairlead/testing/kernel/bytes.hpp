// fairlead: bytes that wait in a simulated kernel, and the scattered memory that calls name.

#ifndef FAIRLEAD_TESTING_KERNEL_BYTES_HPP
#define FAIRLEAD_TESTING_KERNEL_BYTES_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <sys/uio.h>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// First in, first out. Costs are amortised: what was taken stays in place until it is most of it.
class byte_queue
{
public:
    std::size_t size() const noexcept
    {
        return bytes_.size() - taken_;
    }

    bool empty() const noexcept
    {
        return size() == 0;
    }

    void push(std::span<const char> more)
    {
        bytes_.insert(bytes_.end(), more.begin(), more.end());
    }

    std::span<const char> front(std::size_t count) const noexcept
    {
        return std::span(bytes_).subspan(taken_, std::min(count, size()));
    }

    void pop(std::size_t count) noexcept
    {
        taken_ += std::min(count, size());
        if (taken_ == bytes_.size()) {
            clear();
        } else if (taken_ > 4096 && taken_ > bytes_.size() / 2) {
            bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(taken_));
            taken_ = 0;
        }
    }

    std::vector<char> take(std::size_t count)
    {
        const auto first = front(count);
        std::vector<char> taken(first.begin(), first.end());
        pop(taken.size());
        return taken;
    }

    void clear() noexcept
    {
        bytes_.clear();
        taken_ = 0;
    }

private:
    std::vector<char> bytes_;
    std::size_t taken_ = 0;
};

inline std::size_t size_of(std::span<const iovec> parts) noexcept
{
    std::size_t size = 0;
    for (const iovec& part : parts) {
        size += part.iov_len;
    }
    return size;
}

/// Copies as much as there is and fits; the queue keeps it.
inline std::size_t copy_front(const byte_queue& from, std::span<const iovec> into) noexcept
{
    auto bytes = from.front(size_of(into));
    const std::size_t copied = bytes.size();
    for (const iovec& part : into) {
        const std::size_t count = std::min(part.iov_len, bytes.size());
        if (count > 0) {
            std::memcpy(part.iov_base, bytes.data(), count);
            bytes = bytes.subspan(count);
        }
    }
    return copied;
}

/// Appends at most `limit` bytes.
inline std::size_t push_front_of(std::span<const iovec> from, byte_queue& into, std::size_t limit)
{
    std::size_t pushed = 0;
    for (const iovec& part : from) {
        const std::size_t count = std::min(part.iov_len, limit - pushed);
        into.push({static_cast<const char*>(part.iov_base), count});
        pushed += count;
    }
    return pushed;
}
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_BYTES_HPP
