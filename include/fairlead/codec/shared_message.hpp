// fairlead: one message for many connections, encoded once. Ring 0.

#ifndef FAIRLEAD_CODEC_SHARED_MESSAGE_HPP
#define FAIRLEAD_CODEC_SHARED_MESSAGE_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/connection/shared_bytes.hpp>
#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// A frame of `Codec`, header and trailer included, that any number of `framed` may queue: each
/// holds a reference until it is with the kernel, and none copies it. (Frames of less than 512 bytes
/// are copied into the queues all the same: that costs less than a reference.)
///
/// Cheap to copy; the bytes go with the last copy. Never changes, so that copies may be used by any
/// thread: make one, and post it to the other shards' rooms.
/// \code
/// const fairlead::shared_message news(fairlead::codec::line{}, text);
/// fairlead::broadcast(everybody, news);
/// \endcode
template <codec Codec>
class shared_message
{
public:
    /// Throws `std::system_error` when the codec has no frame for the payload, as `encode`.
    shared_message(const Codec& rules, std::span<const std::byte> payload)
    {
        auto frame = std::make_shared<std::vector<std::byte>>();
        rules.encode(payload, *frame);
        frame_ = std::move(frame);
    }

    /// The same for a text.
    shared_message(const Codec& rules, std::string_view payload)
        : shared_message(rules, bytes_of(payload))
    {}

    /// The frame, as it is sent.
    const detail::shared_bytes& frame() const noexcept
    {
        return frame_;
    }

private:
    detail::shared_bytes frame_;
};
} // namespace FAIRLEAD_NAMESPACE::codec

namespace FAIRLEAD_NAMESPACE
{
using codec::shared_message;
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_CODEC_SHARED_MESSAGE_HPP
