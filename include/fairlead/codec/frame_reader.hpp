// fairlead: a codec over a growing buffer: bytes go in as they come, frames come out. No socket and
// no clock: for one over a connection see framed.hpp. Ring 0.

#ifndef FAIRLEAD_CODEC_FRAME_READER_HPP
#define FAIRLEAD_CODEC_FRAME_READER_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/byte_buffer.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::codec
{
/// Finds the frames of one stream. May be fed one byte at a time or a megabyte at once, with the
/// same result. Its memory grows with the bytes that it was fed and that no frame has taken yet,
/// never with what a header announces.
///
/// A frame is a view into the reader's buffer, valid until the next call of a member that is not
/// const. A stream that was found malformed stays so: there is no way to tell where its next frame
/// begins. Do not feed it any more; what it is fed is kept.
///
/// One thread at a time.
/// \code
/// codec::frame_reader reader(codec::line{});
/// reader.feed(bytes);
/// std::error_code error;
/// while (const auto frame = reader.next(error)) {
///     use(*frame);
/// }
/// if (error) { ... }
/// \endcode
template <codec Codec>
class frame_reader
{
public:
    /// A payload: bytes, or text where the codec says so.
    using frame = frame_of<Codec>;

    /// Throws `std::system_error` with `errc::invalid_config` when the codec's options are wrong.
    explicit frame_reader(Codec rules) : codec_(std::move(rules))
    {
        detail::require_valid(codec_);
    }

    /// Copies the next bytes of the stream in.
    void feed(std::span<const std::byte> bytes)
    {
        step_over();
        buffer_.append(bytes);
    }

    /// For reading in place: room for at least `size` bytes, more when there is. `commit` says how
    /// many of them came.
    std::span<std::byte> prepare(std::size_t size)
    {
        step_over();
        return buffer_.prepare(size);
    }

    /// The first `size` bytes of what `prepare` has returned are the next ones of the stream.
    void commit(std::size_t size) noexcept
    {
        buffer_.commit(size);
    }

    /// The next frame's payload. Empty: more bytes are needed, or `error` says why there is none,
    /// now and for ever: `errc::frame_too_large`, `errc::malformed_frame`.
    std::optional<frame> next(std::error_code& error)
    {
        error.clear();
        step_over();
        look();
        if (seen_.what == decode_result::outcome::failed) {
            error = make_error_code(seen_.error);
            return std::nullopt;
        }
        if (seen_.what == decode_result::outcome::incomplete) {
            return std::nullopt;
        }
        handed_out_ = seen_.consumed;
        const std::span<std::byte> payload = buffer_.data().subspan(seen_.offset, seen_.size);
        forget();
        if constexpr (packing_codec<Codec>) {
            return frame(codec_.unpack(payload));
        } else {
            return frame(payload);
        }
    }

    /// A call of `next` would find a frame, or an error.
    bool has_next()
    {
        step_over();
        look();
        return seen_.what != decode_result::outcome::incomplete;
    }

    /// The stream has ended. `errc::truncated_frame`: inside a frame; or the error that `next` has
    /// met. Frames that were not taken yet are not an error.
    std::error_code finish() const
    {
        decode_progress progress;
        auto rest = pending();
        for (;;) {
            const auto seen = codec_.decode(rest, progress);
            if (seen.what == decode_result::outcome::failed) {
                return make_error_code(seen.error);
            }
            if (seen.what == decode_result::outcome::incomplete) {
                return rest.empty() ? std::error_code() : make_error_code(errc::truncated_frame);
            }
            rest = rest.subspan(seen.consumed);
            progress = {};
        }
    }

    /// At least so many more bytes are needed before `next` can find another frame; 0: it finds one
    /// now, or has failed.
    std::size_t wanted() const
    {
        look();
        return seen_.what == decode_result::outcome::incomplete ? seen_.size : 0;
    }

    /// What was fed and has not been handed out as a frame. Valid like a frame.
    std::span<const std::byte> pending() const noexcept
    {
        return buffer_.data().subspan(handed_out_);
    }

    const Codec& rules() const noexcept
    {
        return codec_;
    }

    /// Memory that the reader holds, in bytes.
    std::size_t capacity() const noexcept
    {
        return buffer_.capacity();
    }

    /// Uses this memory instead of its own; only while nothing is pending. For pools.
    void lend(detail::byte_block block) noexcept
    {
        step_over();
        buffer_.adopt(std::move(block));
    }

    /// Gives its memory away; only while nothing is pending, and no frame is in use.
    detail::byte_block give_back() noexcept
    {
        step_over();
        return buffer_.release();
    }

private:
    /// The frame that was handed out last is done with.
    void step_over() noexcept
    {
        buffer_.consume(std::exchange(handed_out_, 0));
    }

    /// Const, so that `wanted` leaves what it has found to `next`, and nothing is looked at twice.
    void look() const
    {
        const auto bytes = pending();
        if (seen_.what != decode_result::outcome::incomplete ||
            (looked_at_ != 0 && looked_at_ == bytes.size())) {
            return; // nothing new
        }
        seen_ = codec_.decode(bytes, progress_);
        looked_at_ = bytes.size();
    }

    void forget() noexcept
    {
        seen_ = {};
        progress_ = {};
        looked_at_ = 0;
    }

    Codec codec_;
    detail::byte_buffer buffer_;
    std::size_t handed_out_ = 0; // bytes at the front that the last frame took
    // What the decoder has seen of the frame that comes next.
    mutable std::size_t looked_at_ = 0; // bytes of it
    mutable decode_progress progress_;
    mutable decode_result seen_;
};
} // namespace FAIRLEAD_NAMESPACE::codec

#endif // FAIRLEAD_CODEC_FRAME_READER_HPP
