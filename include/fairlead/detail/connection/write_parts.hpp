// fairlead: the buffers of a write of messages, and how far it has come.

#ifndef FAIRLEAD_DETAIL_CONNECTION_WRITE_PARTS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_WRITE_PARTS_HPP

#include <fairlead/detail/connection/shared_bytes.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What is queued, then a payload, then a trailer. Refers to all three.
class write_parts
{
public:
    /// The next `begin` asks for no memory when `queued` has one more piece of shared bytes.
    void reserve_for_one_more(const mixed_bytes& queued)
    {
        many_.reserve(queued.pieces() + 4);
    }

    void begin_with(
        const mixed_bytes& queued, std::span<const std::byte> payload,
        std::span<const std::byte> trailer) noexcept
    {
        done_ = 0;
        size_ = queued.size() + payload.size() + trailer.size();
        has_many_ = queued.has_shared();
        if (!has_many_) {
            few_ = {buffer_of(queued.own), buffer_of(payload), buffer_of(trailer)};
            return;
        }
        many_.clear();
        queued.for_each_piece(
            [this](std::span<const std::byte> piece) { many_.push_back(buffer_of(piece)); });
        many_.push_back(buffer_of(payload));
        many_.push_back(buffer_of(trailer));
    }

    /// So many bytes are done.
    void advance(std::size_t bytes) noexcept
    {
        size_ -= bytes;
        for (; bytes != 0; ++done_) {
            asio::const_buffer& part = first()[done_];
            const std::size_t now = std::min(bytes, part.size());
            part += now;
            bytes -= now;
            if (part.size() != 0) {
                break;
            }
        }
    }

    /// Of what is left.
    std::size_t size() const noexcept
    {
        return size_;
    }

    /// What is left of the payload.
    asio::const_buffer& payload() noexcept
    {
        return first()[count() - 2];
    }

    const asio::const_buffer* begin() const noexcept
    {
        return (has_many_ ? many_.data() : few_.data()) + done_;
    }

    const asio::const_buffer* end() const noexcept
    {
        return (has_many_ ? many_.data() : few_.data()) + count();
    }

    void clear() noexcept
    {
        few_ = {};
        has_many_ = false;
        done_ = size_ = 0;
    }

private:
    static asio::const_buffer buffer_of(std::span<const std::byte> bytes) noexcept
    {
        return {bytes.data(), bytes.size()};
    }

    asio::const_buffer* first() noexcept
    {
        return has_many_ ? many_.data() : few_.data();
    }

    std::size_t count() const noexcept
    {
        return has_many_ ? many_.size() : few_.size();
    }

    std::array<asio::const_buffer, 3> few_ = {};
    std::vector<asio::const_buffer> many_; // where something is shared
    std::size_t done_ = 0;                 // parts of which nothing is left, in front
    std::size_t size_ = 0;
    bool has_many_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_WRITE_PARTS_HPP
