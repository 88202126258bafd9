// fairlead: frames in Consistent Overhead Byte Stuffing. Ring 0.

#ifndef FAIRLEAD_CODEC_COBS_HPP
#define FAIRLEAD_CODEC_COBS_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// A zero byte ends a frame, and nothing else is one: the payload's zeros are replaced by the
/// distances to the next, at a cost of one byte in 254 (S. Cheshire, M. Baker: "Consistent Overhead
/// Byte Stuffing", 1999). A reader that has lost its place finds it again at the next zero.
///
/// Errors: `errc::frame_too_large` at the byte that announces more than `max_frame`;
/// `errc::malformed_frame` for a zero where data was announced, and for a zero that ends nothing
/// (the empty payload is 01 00).
struct cobs
{
    /// Most bytes of a payload.
    std::size_t max_frame = std::size_t(1) << 20;

    /// Empty: nothing can be wrong with the options.
    std::string_view problem() const noexcept
    {
        return {};
    }

    decode_result decode(std::span<const std::byte> bytes, decode_progress& progress) const noexcept
    {
        while (progress.scanned < bytes.size()) {
            if (const std::size_t left = progress.state & left_mask; left != 0) {
                const auto rest = bytes.subspan(progress.scanned);
                const std::size_t size = std::min(left, rest.size());
                if (std::memchr(rest.data(), 0, size) != nullptr) {
                    return decode_result::failed(errc::malformed_frame);
                }
                progress.scanned += size;
                progress.state -= static_cast<unsigned>(size);
                continue;
            }
            const auto code = std::to_integer<unsigned>(bytes[progress.scanned]);
            if (code == 0) {
                return progress.scanned == 0
                           ? decode_result::failed(errc::malformed_frame)
                           : decode_result::frame(progress.scanned + 1, 0, progress.scanned);
            }
            progress.found += code - 1 + ((progress.state & zero_follows) != 0 ? 1 : 0);
            if (progress.found > max_frame) {
                return decode_result::failed(errc::frame_too_large);
            }
            progress.state = (code - 1) | (code != full ? zero_follows : 0);
            ++progress.scanned;
        }
        return decode_result::needs(bytes.empty() ? 2 : (progress.state & left_mask) + 1);
    }

    /// The payload, in the place of what `decode` has found.
    std::span<std::byte> unpack(std::span<std::byte> packed) const noexcept
    {
        std::size_t size = 0;
        for (std::size_t i = 0; i < packed.size();) {
            const auto code = std::to_integer<std::size_t>(packed[i]);
            std::memmove(packed.data() + size, packed.data() + i + 1, code - 1);
            size += code - 1;
            i += code;
            if (code != full && i < packed.size()) {
                packed[size++] = std::byte{0};
            }
        }
        return packed.first(size);
    }

    /// Appends a frame. Throws `std::system_error` with `errc::frame_too_large` above `max_frame`.
    void encode(std::span<const std::byte> payload, std::vector<std::byte>& out) const
    {
        detail::require_size(payload.size(), max_frame);
        make_room(out, payload.size() + payload.size() / (full - 1) + 2);
        for (;;) {
            const std::size_t most = std::min<std::size_t>(payload.size(), full - 1);
            const void* const zero = most != 0 ? std::memchr(payload.data(), 0, most) : nullptr;
            const std::size_t size =
                zero != nullptr
                    ? static_cast<std::size_t>(static_cast<const std::byte*>(zero) - payload.data())
                    : most;
            out.push_back(static_cast<std::byte>(size + 1));
            const auto block = payload.first(size);
            out.insert(out.end(), block.begin(), block.end());
            if (size == payload.size()) {
                break; // also after a full block: nothing follows it
            }
            payload = payload.subspan(zero != nullptr ? size + 1 : size);
            if (payload.empty() && zero != nullptr) {
                out.push_back(std::byte{1}); // the zero was the last byte
                break;
            }
        }
        out.push_back(std::byte{0});
    }

private:
    /// So that nothing can fail half-way. Grows like `push_back`, because frame after frame may be
    /// appended to the same bytes.
    static void make_room(std::vector<std::byte>& out, std::size_t size)
    {
        if (out.capacity() - out.size() < size) {
            out.reserve(std::max(out.size() + size, out.capacity() + out.capacity() / 2));
        }
    }

    static constexpr unsigned full = 0xff;          // a block without a zero behind it
    static constexpr unsigned left_mask = 0xff;     // bytes of the block that are still to come
    static constexpr unsigned zero_follows = 0x100; // unless the frame ends with the block
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_COBS_HPP
