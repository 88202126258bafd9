// fairlead: the byte stream under a connection, plain TCP or TLS; the only file that knows which of
// the two it is. No policy: no timeouts, no counters, no reasons. One operation of each direction
// at a time.

#ifndef FAIRLEAD_DETAIL_TRANSPORT_HPP
#define FAIRLEAD_DETAIL_TRANSPORT_HPP

#include <fairlead/detail/asio.hpp>
#include <fairlead/detail/native.hpp>
#include <fairlead/detail/prefetch.hpp>
#include <fairlead/detail/published.hpp>
#include <fairlead/detail/tls_engine.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
/// The first byte of every TLS connection: a record of the handshake (RFC 8446, section 5.1).
inline constexpr std::byte tls_first_byte{0x16};

/// A socket, and the TLS engine above it once `start_tls` was called.
class transport
{
public:
    using executor_type = asio::io_context::executor_type;
    using socket_type = asio::basic_stream_socket<asio::ip::tcp, executor_type>;

    using attempt = detail::attempt;

    explicit transport(const executor_type& executor) : socket_(executor)
    {}

    transport(const transport&) = delete;
    transport& operator=(const transport&) = delete;

    executor_type get_executor() noexcept
    {
        return socket_.get_executor();
    }

    /// Takes over an accepted, non-blocking descriptor; on failure it is closed.
    void assign(const asio::ip::tcp& protocol, native::descriptor accepted, std::error_code& error)
    {
        socket_.assign(protocol, accepted.get(), error);
        if (!error) {
            accepted.release();
        }
    }

    bool is_open() const noexcept
    {
        return socket_.is_open();
    }

    /// -1 once closed.
    int native_handle() noexcept
    {
        return socket_.is_open() ? socket_.native_handle() : -1;
    }

    /// Any thread.
    bool is_tls() const noexcept
    {
        return is_tls_;
    }

    /// Everything from here on is TLS, as a server of `context`.
    void start_tls(const tls_context& context, std::error_code& error)
    {
        tls_ = tls_engine::make(context, native_handle(), prefetch_, error);
        is_tls_ = tls_ != nullptr;
    }

    /// One step of the TLS handshake: as far as it goes with what has arrived.
    attempt handshake()
    {
        return tls_->handshake();
    }

    /// The handshake, which has stopped at the client's hello, may go on.
    void admit_handshake() noexcept
    {
        tls_->admit();
    }

    /// What the handshake agreed upon.
    std::unique_ptr<tls_info> describe_tls() const
    {
        return tls_->describe();
    }

    /// One attempt to tell the peer that nothing more will come. Nothing to do, and no error: it
    /// was told, or it need not be.
    attempt close_notify()
    {
        return tls_ ? tls_->close_notify() : attempt{};
    }

    /// Completes when it is worth trying again; `handler(error)`.
    template <typename Handler>
    void async_wait(attempt::condition condition, Handler&& handler)
    {
        socket_.async_wait(
            condition == attempt::condition::writable ? socket_type::wait_write
                                                      : socket_type::wait_read,
            wrapped_handler{
                [this](auto&& waiting, const std::error_code& error) {
                    if (tls_ && !error) {
                        tls_->input_may_have_come();
                    }
                    std::move(waiting)(error);
                },
                std::forward<Handler>(handler)});
    }

    /// The same, for a coroutine.
    template <typename Token>
    auto wait(attempt::condition condition, Token&& completion)
    {
        return asio::async_initiate<Token, void(std::error_code)>(
            initiate_wait{this}, completion, condition);
    }

    /// Reads at least one byte; `handler(error, bytes)`. The end is `asio::error::eof`; under TLS
    /// an end without close_notify is `asio::ssl::error::stream_truncated`.
    template <typename Buffers, typename Handler>
    void async_read_some(const Buffers& buffers, Handler&& handler)
    {
        if (tls_ != nullptr) {
            run(
                [this, buffers] {
                    const auto space = first_buffer<asio::mutable_buffer>(buffers);
                    return space.size() == 0 ? attempt{} : tls_->read(space);
                },
                std::forward<Handler>(handler));
        } else if (!prefetch_.empty()) {
            const auto taken = prefetch_.take(buffers, native_handle());
            post_completion(
                get_executor(), std::forward<Handler>(handler), taken.error, taken.bytes);
        } else {
            socket_.async_read_some(buffers, std::forward<Handler>(handler));
        }
    }

    /// Completes when `async_read_some` would, and leaves the bytes for it; `handler(error,
    /// bytes)`. What is held meanwhile is a few bytes inside this object.
    template <typename Handler>
    void async_wait_input(Handler&& handler)
    {
        if (tls_ != nullptr) {
            run([this] { return tls_->wait_for_input(); }, std::forward<Handler>(handler));
        } else if (!prefetch_.empty()) {
            post_completion(
                get_executor(), std::forward<Handler>(handler), std::error_code(),
                prefetch_.size());
        } else {
            socket_.async_read_some(prefetch_.space(), std::forward<Handler>(handler));
        }
    }

    /// `async_wait_input` has completed with so many bytes.
    void input_found(std::size_t bytes) noexcept
    {
        if (!tls_ && prefetch_.empty()) {
            prefetch_.filled(bytes);
        }
    }

    /// Reads more of the input ahead, whatever is there already; `handler(error, bytes)`, and
    /// `ahead` has grown. Only while it has room.
    template <typename Handler>
    void async_read_ahead(Handler&& handler)
    {
        if (tls_ != nullptr) {
            run([this] { return tls_->read_ahead(); }, std::forward<Handler>(handler));
        } else {
            socket_.async_read_some(prefetch_.space(), std::forward<Handler>(handler));
        }
    }

    /// `async_read_ahead` has completed with so many bytes.
    void input_read_ahead(std::size_t bytes) noexcept
    {
        if (!tls_) {
            prefetch_.filled(bytes);
        }
    }

    /// The first bytes of the input that were read before somebody asked for them. Valid until the
    /// next operation.
    std::span<const std::byte> ahead() const noexcept
    {
        return tls_ ? tls_->ahead() : prefetch_.bytes();
    }

    /// The next byte of plain TCP, without taking it; empty: none has arrived.
    std::optional<std::byte> first_byte() noexcept
    {
        return prefetch_.size() != 0 ? prefetch_.bytes().front()
                                     : native::first_unread_byte(native_handle());
    }

    /// Reads without waiting what `async_wait_input` has found, and what is behind it; under TLS,
    /// what is there. Only when `has_input_at_hand`.
    template <typename Buffers>
    attempt read_at_hand(const Buffers& buffers)
    {
        if (tls_) {
            const auto space = first_buffer<asio::mutable_buffer>(buffers);
            return space.size() == 0 ? attempt{} : tls_->read(space);
        }
        const auto taken = prefetch_.take(buffers, native_handle());
        return {.bytes = taken.bytes, .error = taken.error};
    }

    bool has_input_at_hand() const noexcept
    {
        return tls_ ? tls_->has_plaintext() : !prefetch_.empty();
    }

    /// Writes at least one byte; `handler(error, bytes)`. Under TLS a sequence of small buffers
    /// becomes one record. `taken(bytes)` is called at once when the kernel has taken them, which
    /// may be a turn of the loop before the handler is.
    template <typename Buffers, typename Taken, typename Handler>
    void async_write_some(const Buffers& buffers, Taken taken, Handler&& handler)
    {
        run(
            [this, buffers, taken] {
                const attempt result = tls_ ? tls_->write(buffers) : write_plainly(buffers);
                taken(result.bytes);
                return result;
            },
            std::forward<Handler>(handler));
    }

    /// Ends the pending operations with `operation_aborted`.
    void cancel() noexcept
    {
        ++cancellations_;
        std::error_code ignored;
        socket_.cancel(ignored);
    }

    /// Sends FIN behind everything written.
    std::error_code shutdown_send() noexcept
    {
        std::error_code error;
        socket_.shutdown(socket_type::shutdown_send, error);
        return error;
    }

    /// Closes the descriptor and ends the pending operations. With `reset` the peer gets RST, and
    /// what the kernel still holds is discarded.
    void close(bool reset = false) noexcept
    {
        if (!socket_.is_open()) {
            return;
        }
        if (reset) {
            native::reset_on_close(socket_.native_handle());
        }
        if (tls_) {
            tls_->detach();
        }
        std::error_code ignored;
        socket_.close(ignored);
    }

    /// Drops arrived bytes without waiting (ciphertext under TLS).
    native::io_result discard() noexcept
    {
        std::array<char, 16 * 1024> dropped; // NOLINT(cppcoreguidelines-pro-type-member-init)
        const auto result =
            native::receive(socket_.native_handle(), dropped.data(), dropped.size());
        if (tls_) {
            tls_->input_may_have_come();
        }
        return result;
    }

    /// Whether plain input has come, which begins with `first`, or its end, without taking it.
    native::io_result peek_input(std::byte& first) noexcept
    {
        return native::receive(native_handle(), &first, 1, MSG_PEEK);
    }

    /// Bytes that have arrived and were not handed out, as far as that can be told without reading
    /// (ciphertext counts as it is).
    std::size_t input_size() noexcept
    {
        const std::size_t pending = tls_ ? tls_->pending() : 0;
        return pending + prefetch_.size() + native::unread_bytes(native_handle());
    }

    /// Bytes that the peer's kernel has acknowledged, given how many plain bytes were written.
    /// Grows while the peer takes anything.
    std::uint64_t acknowledged(std::uint64_t written) noexcept
    {
        const std::uint64_t sent = tls_ ? tls_->ciphertext_sent() : written;
        return sent - std::min<std::uint64_t>(sent, native::unacknowledged_bytes(native_handle()));
    }

private:
    struct initiate_wait
    {
        transport* self;

        template <typename Handler>
        void operator()(Handler&& handler, attempt::condition condition) const
        {
            self->async_wait(condition, std::forward<Handler>(handler));
        }
    };

    template <typename Buffers>
    attempt write_plainly(const Buffers& buffers) noexcept
    {
        const auto sent = native::send_buffers(native_handle(), buffers);
        return {
            .bytes = sent.bytes,
            .waits_for =
                sent.would_block ? attempt::condition::writable : attempt::condition::nothing,
            .error = sent.error};
    }

    /// Waits and attempts again until there is something to say. A cancellation that comes when a
    /// wait is over, and before the attempt, finds no operation of the socket: it is heard here.
    template <typename Attempt, typename Handler>
    struct attempt_loop : handler_wrapper
    {
        using cancellation_slot_type = asio::cancellation_slot;

        attempt_loop(transport& self, Attempt attempt_again, Handler completed)
            : of(&self),
              again(std::move(attempt_again)),
              cancellations_before(self.cancellations_),
              cancellation(
                  asio::get_associated_cancellation_slot(completed),
                  asio::enable_total_cancellation()),
              handler(std::move(completed))
        {}

        cancellation_slot_type get_cancellation_slot() const noexcept
        {
            return cancellation.slot();
        }

        void operator()(const std::error_code& error)
        {
            const attempt result = error ? attempt{.error = error} : again();
            if (result.waits_for == attempt::condition::nothing) {
                std::move(handler)(result.error, result.bytes);
            } else if (is_cancelled()) {
                std::move(handler)(std::error_code(asio::error::operation_aborted), std::size_t(0));
            } else {
                start(std::move(*this), result.waits_for);
            }
        }

        bool is_cancelled() const noexcept
        {
            return cancellations_before != of->cancellations_ ||
                   cancellation.cancelled() != asio::cancellation_type::none;
        }

        static void start(attempt_loop self, attempt::condition condition)
        {
            transport& stream = *self.of;
            stream.async_wait(condition, std::move(self));
        }

        transport* of;
        Attempt again;
        std::uint32_t cancellations_before;
        asio::cancellation_state cancellation; // the user's
        Handler handler;
    };

    /// Attempts until there is something to say.
    template <typename Attempt, typename Handler>
    void run(Attempt again, Handler&& handler)
    {
        const attempt result = again();
        if (result.waits_for == attempt::condition::nothing) {
            post_completion(
                get_executor(), std::forward<Handler>(handler), result.error, result.bytes);
            return;
        }
        using loop = attempt_loop<Attempt, std::decay_t<Handler>>;
        loop::start(
            loop(*this, std::move(again), std::forward<Handler>(handler)), result.waits_for);
    }

    socket_type socket_;
    std::unique_ptr<tls_engine> tls_; // null: plain TCP
    std::uint32_t cancellations_ = 0;
    published<bool> is_tls_ = false;
    prefetch prefetch_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_TRANSPORT_HPP
