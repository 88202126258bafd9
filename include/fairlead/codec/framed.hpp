// fairlead: messages over a connection: a codec's frames in, frames out. What a frame is says the
// codec; a codec without a connection runs in frame_reader.hpp.

#ifndef FAIRLEAD_CODEC_FRAMED_HPP
#define FAIRLEAD_CODEC_FRAMED_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/codec/framed_options.hpp>
#include <fairlead/codec/shared_message.hpp>
#include <fairlead/connection.hpp>
#include <fairlead/detail/connection/frame_source.hpp>
#include <fairlead/detail/connection/message_sender.hpp>

#include <asio/awaitable.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::codec
{
/// The messages of one connection. `Out` is the codec of what is sent; without it, `In` is for both
/// ways. For answers that are no frames there is `write`.
///
/// Reading: frames that arrived together are handed out one by one without a system call. While
/// nothing of a frame has arrived, no buffer is held; otherwise one comes from the shard's pool.
///
/// Sending: a frame is queued as a whole and written soon, together with what else is sent until
/// then: replies to requests that arrived together leave in one write. `send` waits only while more
/// than the high watermark is queued, so a peer that does not read stops its own handler, until
/// `server_config::write_timeout` ends the connection. What was sent before the handler returns, or
/// throws, is written before the connection closes; so is what was sent before
/// `connection::close()`, within the time that the connection has for closing.
///
/// One coroutine reads; any number may send, of the same thread, and frames never interleave.
/// Outlives no connection. While it is in use, write through it and not to the connection, or after
/// `flush()`.
/// \code
/// asio::awaitable<void> shout(fairlead::connection& conn)
/// {
///     fairlead::codec::framed lines(conn, fairlead::codec::line{});
///     for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
///         if (*text == "quit") { // a std::string_view
///             break;
///         }
///         co_await lines.send(*text);
///     }
/// }
/// \endcode
template <codec In, codec Out = In>
class framed
{
public:
    /// A payload: a view into the buffer, valid until the next call of `next`. Of a `text_codec` it
    /// is a `std::string_view`, which converts to bytes; of others `std::span<const std::byte>`.
    using frame = frame_of<In>;

    /// Throws `std::system_error` with `errc::invalid_config` when the codec's options are wrong,
    /// or the low watermark is above the high one.
    framed(connection& stream, In rules, framed_options options = {}) requires std::same_as<In, Out>
        : framed(stream, std::move(rules), std::nullopt, options)
    {}

    /// Another codec for what is sent.
    template <std::same_as<Out> Sent>
    framed(connection& stream, In rules, Sent sent, framed_options options = {})
        : framed(stream, std::move(rules), std::optional<Out>(std::move(sent)), options)
    {
        detail::require_valid(*sent_);
    }

    /// Goes on with another codec where `before` has stopped, with what it has read and not handed
    /// out. Do not use `before` any more.
    template <typename OtherIn, typename OtherOut>
    framed(framed<OtherIn, OtherOut>& before, In rules, framed_options options = {}) requires
        std::same_as<In, Out> : framed(before.stream(), std::move(rules), options)
    {
        take_over(before.pending());
    }

    /// The same, with another codec for what is sent.
    template <typename OtherIn, typename OtherOut, std::same_as<Out> Sent>
    framed(framed<OtherIn, OtherOut>& before, In rules, Sent sent, framed_options options = {})
        : framed(before.stream(), std::move(rules), std::move(sent), options)
    {
        take_over(before.pending());
    }

    framed(const framed&) = delete;
    framed& operator=(const framed&) = delete;

    ~framed() = default;

    /// The next frame. Empty: the peer finished between frames, or a drain began while nothing of
    /// a frame had arrived; look at `connection::draining()` too where a peer may send without a
    /// pause. Throws `std::system_error`: `errc::frame_too_large`, `errc::malformed_frame`,
    /// `errc::truncated_frame` (the peer finished inside a frame), and what ends a connection.
    /// After the first three the peer can still be told: `send` works.
    asio::awaitable<std::optional<frame>> next()
    {
        std::error_code error;
        auto result = co_await next(error);
        if (error) {
            throw std::system_error(error);
        }
        co_return result;
    }

    /// The same; nothing is thrown.
    asio::awaitable<std::optional<frame>> next(std::error_code& error)
    {
        std::optional<frame> found = source_.take(error);
        if (!found && !error) {
            const bool has_one = co_await source_.fill(error);
            found = has_one ? source_.take(error) : std::nullopt;
        }
        co_return found;
    }

    /// For protocols in which many messages come together: waits until a whole frame is here, and
    /// before that, while more than the high watermark is queued, for room. False as an empty `next`,
    /// and throws as that. What was queued is written when it has to wait. No coroutine for each frame:
    /// \code
    /// for (bool more = co_await frames.fill(); more; more = co_await frames.fill()) {
    ///     while (const auto frame = frames.take()) {
    ///         frames.queue(*frame);
    ///     }
    /// }
    /// \endcode
    asio::awaitable<bool> fill()
    {
        std::error_code error;
        const bool more = co_await fill(error);
        if (error) {
            throw std::system_error(error);
        }
        co_return more;
    }

    /// The same; nothing is thrown.
    asio::awaitable<bool> fill(std::error_code& error)
    {
        error.clear();
        if (sender_.is_full()) {
            outbox_.flush();
            co_await sender_.wait_for_room(error);
        }
        co_return !error && co_await source_.fill(error);
    }

    /// A frame that is here already; empty: the next one is not, call `fill`. Throws as `next`.
    std::optional<frame> take()
    {
        std::error_code error;
        auto found = take(error);
        if (error) {
            throw std::system_error(error);
        }
        return found;
    }

    /// The same; nothing is thrown.
    std::optional<frame> take(std::error_code& error)
    {
        return source_.take(error);
    }

    /// Queues one frame, which is written with the next `fill` that waits, `flush`, or at the end of
    /// this turn of the loop. Never waits, whatever is queued: `fill` does. Throws as `send`.
    void queue(std::span<const std::byte> payload)
    {
        std::error_code error = sender_.refuses();
        if (!error) {
            sender_.encode(sent_rules(), payload, error);
        }
        if (error) {
            throw std::system_error(error);
        }
        outbox_.flush_soon();
    }

    /// The same for a text.
    void queue(std::string_view payload)
    {
        queue(bytes_of(payload));
    }

    /// Sends one frame, and waits while more than the high watermark is queued. That it completes
    /// does not mean that it is written; see `flush`. The payload must live until it completes.
    /// Cancelled, it has sent the whole frame or nothing of it: a large one waits for its turn.
    /// Throws `std::system_error`: `errc::frame_too_large` or `errc::malformed_frame` when the
    /// codec has no frame for the payload (nothing is sent), and what ends a connection.
    asio::awaitable<void> send(std::span<const std::byte> payload)
    {
        std::error_code error;
        co_await send(payload, error);
        if (error) {
            throw std::system_error(error);
        }
    }

    /// The same; nothing is thrown.
    asio::awaitable<void> send(std::span<const std::byte> payload, std::error_code& error)
    {
        error = sender_.refuses();
        if constexpr (enclosing_codec<Out>) {
            if (!error && payload.size() >= sender_.written_in_place) {
                const auto enclose = [this, payload](auto& header, auto& trailer) {
                    sent_rules().encode_trailer(payload, trailer);
                    sent_rules().encode_header(payload, header);
                };
                co_await sender_.write_in_place(payload, enclose, error);
                co_return;
            }
        }
        if (!error) {
            sender_.encode(sent_rules(), payload, error);
        }
        if (error) {
            co_return;
        }
        write_soon();
        co_await sender_.wait_for_room(error);
    }

    /// The same for a text.
    asio::awaitable<void> send(std::string_view payload)
    {
        return send(bytes_of(payload));
    }

    /// The same for a text; nothing is thrown.
    asio::awaitable<void> send(std::string_view payload, std::error_code& error)
    {
        return send(bytes_of(payload), error);
    }

    /// Sends bytes as they are, whatever the codec: for protocols whose answers are not its frames.
    /// They keep their place among the frames; otherwise as `send`.
    asio::awaitable<void> write(std::span<const std::byte> bytes)
    {
        std::error_code error;
        co_await write(bytes, error);
        if (error) {
            throw std::system_error(error);
        }
    }

    /// The same; nothing is thrown.
    asio::awaitable<void> write(std::span<const std::byte> bytes, std::error_code& error)
    {
        error = sender_.refuses();
        if (error) {
            co_return;
        }
        if (bytes.size() >= sender_.written_in_place) {
            const auto nothing = [](auto&, auto&) {};
            co_await sender_.write_in_place(bytes, nothing, error);
            co_return;
        }
        std::vector<std::byte>& queue = outbox_.queue();
        queue.insert(queue.end(), bytes.begin(), bytes.end());
        write_soon();
        co_await sender_.wait_for_room(error);
    }

    /// The same for a text.
    asio::awaitable<void> write(std::string_view text)
    {
        return write(bytes_of(text));
    }

    /// The same for a text; nothing is thrown.
    asio::awaitable<void> write(std::string_view text, std::error_code& error)
    {
        return write(bytes_of(text), error);
    }

    /// Sends a frame for each payload of the range, and writes them together, as far as the high
    /// watermark goes. When the codec has no frame for a payload, those before it are sent.
    template <typename Payloads>
    asio::awaitable<void> send_all(const Payloads& payloads)
    {
        std::error_code error = sender_.refuses();
        const detail::message_sender::under_way sending(sender_);
        for (const auto& payload : payloads) {
            if (!error) {
                sender_.encode(sent_rules(), bytes_of(payload), error);
            }
            if (!error && sender_.is_full()) {
                outbox_.flush();
                co_await sender_.wait_for_room(error);
            }
            if (error) {
                break;
            }
        }
        outbox_.flush();
        if (!error) {
            co_await sender_.wait_for_room(error);
        }
        if (error) {
            throw std::system_error(error);
        }
    }

    /// Sends one frame unless more than the high watermark is queued already, or the connection has
    /// ended; false: it was not sent. Never waits: for senders that must not be stopped by a slow
    /// peer. Throws `std::system_error` when the codec has no frame for the payload.
    bool try_send(std::span<const std::byte> payload)
    {
        if (sender_.refuses() || sender_.is_full()) {
            return false;
        }
        std::error_code error;
        sender_.encode(sent_rules(), payload, error);
        if (error) {
            throw std::system_error(error);
        }
        write_soon();
        return true;
    }

    /// The same for a text.
    bool try_send(std::string_view payload)
    {
        return try_send(bytes_of(payload));
    }

    /// The same for what many connections are sent (`broadcast`), without a copy.
    bool try_send(const shared_message<Out>& message)
    {
        return sender_.try_share(message.frame(), source_.reader.has_next());
    }

    /// Waits until the kernel has taken everything that was sent. Throws `std::system_error`.
    asio::awaitable<void> flush()
    {
        std::error_code error;
        co_await sender_.wait_until_written(error);
        if (error) {
            throw std::system_error(error);
        }
    }

    /// Waits until the kernel has taken everything, and ends our direction (`shutdown_send`): a
    /// `connection::close` behind it cuts nothing. Throws `std::system_error`.
    asio::awaitable<void> finish()
    {
        co_await flush();
        co_await connection_.shutdown_send();
    }

    /// `connection::start_tls` after what was sent is written. Refuses with
    /// `errc::plaintext_before_tls` when anything was read behind the frame that was handed out
    /// last.
    asio::awaitable<void> start_tls(const tls_context& context)
    {
        return connection_.start_tls(context);
    }

    /// Bytes that were sent and that the kernel has not taken yet.
    std::size_t queued() const noexcept
    {
        return outbox_.size();
    }

    /// What was read and not handed out; after an error of the codec, the bytes it is about and
    /// what is behind them. Valid until the next call of `next`.
    std::span<const std::byte> pending() const noexcept
    {
        return source_.reader.pending();
    }

    connection& stream() const noexcept
    {
        return connection_;
    }

    const In& rules() const noexcept
    {
        return source_.reader.rules();
    }

    /// Of what is sent.
    const Out& sent_rules() const noexcept
    {
        if constexpr (std::same_as<In, Out>) {
            return sent_ ? *sent_ : rules();
        } else {
            return *sent_;
        }
    }

private:
    framed(connection& stream, In rules, std::optional<Out> sent, framed_options options)
        : connection_(stream),
          sent_(std::move(sent)),
          sender_(detail::core_of(stream), options.high_watermark, options.low_watermark),
          outbox_(sender_.box()),
          source_(stream, std::move(rules), outbox_, options)
    {
        detail::require_valid(options);
    }

    void take_over(std::span<const std::byte> pending)
    {
        source_.take_over(pending);
    }

    void write_soon()
    {
        sender_.write_soon(source_.reader.has_next());
    }

    connection& connection_;
    std::optional<Out> sent_; // empty: as what is received
    detail::message_sender sender_;
    detail::outbox& outbox_;
    detail::frame_source<In> source_;
};

template <codec In, codec Out>
framed(connection&, In, Out, framed_options = {}) -> framed<In, Out>;

template <typename OtherIn, typename OtherOut, codec In, codec Out>
framed(framed<OtherIn, OtherOut>&, In, Out, framed_options = {}) -> framed<In, Out>;
} // namespace FAIRLEAD_NAMESPACE::codec

namespace FAIRLEAD_NAMESPACE
{
using codec::framed;
using codec::framed_options;
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_CODEC_FRAMED_HPP
