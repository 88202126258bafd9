// fairlead: bytes that wait to be written, of one connection and such as many share. Ring 0.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SHARED_BYTES_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SHARED_BYTES_HPP

#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Never change; any thread.
using shared_bytes = std::shared_ptr<const std::vector<std::byte>>;

/// A queue of bytes: those of the connection in one piece, which the others cut.
class mixed_bytes
{
public:
    /// Where to append the connection's own.
    std::vector<std::byte> own;

    /// Appends what others have too. All or nothing.
    void share(shared_bytes one)
    {
        const std::size_t size = one->size();
        shared_.push_back({own.size(), std::move(one)});
        shared_size_ += size;
    }

    std::size_t size() const noexcept
    {
        return own.size() + shared_size_;
    }

    bool empty() const noexcept
    {
        return size() == 0;
    }

    bool has_shared() const noexcept
    {
        return !shared_.empty();
    }

    /// So many pieces at most.
    std::size_t pieces() const noexcept
    {
        return 2 * shared_.size() + 1;
    }

    /// `visit(std::span<const std::byte>)`, in order.
    template <typename Visitor>
    void for_each_piece(Visitor visit) const
    {
        const std::span<const std::byte> all(own);
        std::size_t done = 0;
        for (const part& each : shared_) {
            if (each.behind != done) {
                visit(all.subspan(done, each.behind - done));
                done = each.behind;
            }
            visit(std::span<const std::byte>(*each.bytes));
        }
        visit(all.subspan(done));
    }

    void clear() noexcept
    {
        own.clear();
        forget_shared();
    }

    void forget_shared() noexcept
    {
        shared_.clear();
        shared_size_ = 0;
    }

private:
    struct part
    {
        std::size_t behind; // so many bytes of the connection's own
        shared_bytes bytes;
    };

    std::vector<part> shared_;
    std::size_t shared_size_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SHARED_BYTES_HPP
