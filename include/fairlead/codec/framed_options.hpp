// fairlead: how a `framed` behaves. Ring 0.

#ifndef FAIRLEAD_CODEC_FRAMED_OPTIONS_HPP
#define FAIRLEAD_CODEC_FRAMED_OPTIONS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <system_error>

namespace FAIRLEAD_NAMESPACE::codec
{
/// How a `framed` behaves.
struct framed_options
{
    /// With more bytes than this queued, senders wait. At least one frame is always taken.
    std::size_t high_watermark = std::size_t(256) << 10;
    /// Senders that wait go on when no more than this is queued.
    std::size_t low_watermark = std::size_t(64) << 10;
    /// A frame whose first byte is here must be complete within this time, or the connection ends
    /// with `errc::deadline_exceeded`; silence between frames is not limited by it. 0: no limit.
    std::chrono::milliseconds frame_timeout = std::chrono::milliseconds(0);
    /// A drain ends the wait for the next frame when nothing of it has arrived. False: go on until
    /// the peer finishes or the drain's deadline, for sessions that only the peer can end.
    bool ends_in_drain = true;
};
} // namespace FAIRLEAD_NAMESPACE::codec

namespace FAIRLEAD_NAMESPACE::detail
{
/// Throws `std::system_error` with `errc::invalid_config`.
inline void require_valid(const codec::framed_options& options)
{
    if (options.low_watermark > options.high_watermark) {
        throw std::system_error(
            make_error_code(errc::invalid_config),
            "low_watermark is " + std::to_string(options.low_watermark) +
                ": it must not be above high_watermark, which is " +
                std::to_string(options.high_watermark));
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_CODEC_FRAMED_OPTIONS_HPP
