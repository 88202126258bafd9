// fairlead: the byte stream under a connection, plain TCP or TLS; the only file that knows which of
// the two it is. No policy: no timeouts, no counters, no reasons. One operation of each direction
// at a time.

#ifndef FAIRLEAD_DETAIL_IO_TRANSPORT_HPP
#define FAIRLEAD_DETAIL_IO_TRANSPORT_HPP

#include <fairlead/detail/io/buffers.hpp>
#include <fairlead/detail/io/file_source.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/io/prefetch.hpp>
#include <fairlead/detail/io/reactor.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/tls/engine.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/detail/util/published.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A socket, and the TLS engine above it once `start_tls` was called.
class transport
{
public:
    using attempt = detail::attempt;

    explicit transport(reactor& home) : socket_(home)
    {}

    transport(const transport&) = delete;
    transport& operator=(const transport&) = delete;

    /// Takes over an accepted, non-blocking descriptor; on failure it is closed.
    std::error_code assign(native::descriptor accepted, bool is_unix)
    {
        const std::error_code error = socket_.assign(std::move(accepted));
        if (is_unix) {
            socket_.bytes().ends(); // a short read is no empty queue
        }
        return error;
    }

    bool is_open() const noexcept
    {
        return socket_.is_open();
    }

    /// -1 once closed.
    int native_handle() const noexcept
    {
        return socket_.native_handle();
    }

    /// Any thread.
    bool is_tls() const noexcept
    {
        return is_tls_;
    }

    /// Everything from here on is TLS, as a server of `context`.
    void start_tls(const tls_context& context, std::error_code& error)
    {
        tls_ = tls_engine::make(context, socket_.bytes(), prefetch_, error);
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

    std::unique_ptr<tls_info> describe_tls() const
    {
        return tls_->describe();
    }

    /// One attempt to tell the peer that nothing more will come. Nothing to do, and no error: it
    /// was told, or it need not be.
    attempt close_notify()
    {
        return tls_ && is_open() ? tls_->close_notify() : attempt{};
    }

    /// Completes when it is worth trying again; `handler(error)`.
    template <typename Handler>
    void async_wait(attempt::condition condition, Handler&& handler)
    {
        socket_.run(
            [this, condition, has_waited = false]() mutable {
                return !socket_.is_open() ? attempt{.error = asio::error::bad_descriptor}
                       : std::exchange(has_waited, true) ? attempt{}
                                                         : attempt{.waits_for = condition};
            },
            without_bytes(std::forward<Handler>(handler)));
    }

    /// Reads at least one byte; `handler(error, bytes)`. The end is `asio::error::eof`; under TLS
    /// an end without close_notify is `asio::ssl::error::stream_truncated`.
    template <typename Buffers, typename Handler>
    void async_read_some(const Buffers& buffers, Handler&& handler)
    {
        socket_.run(
            [this, buffers = Buffers(buffers)] { return unless_it_waits(read(buffers)); },
            std::forward<Handler>(handler));
    }

    /// Completes when `async_read_some` would, and leaves the bytes for it; `handler(error,
    /// bytes)`.
    template <typename Handler>
    void async_wait_input(Handler&& handler)
    {
        socket_.run(
            [this] { return unless_it_waits(look_for_input()); }, std::forward<Handler>(handler));
    }

    /// Reads more of the input ahead, whatever is there already; `handler(error, bytes)`, and
    /// `ahead` has grown. Only while it has room.
    template <typename Handler>
    void async_read_ahead(Handler&& handler)
    {
        (tls_ ? tls_->ahead_memory() : prefetch_).reserve();
        socket_.run(
            [this] { return unless_it_waits(tls_ ? tls_->read_ahead() : read_plainly_ahead()); },
            std::forward<Handler>(handler));
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

    template <typename Buffers>
    attempt read(const Buffers& buffers)
    {
        if (tls_) {
            const auto space = first_buffer<asio::mutable_buffer>(buffers);
            return space.size() == 0 ? attempt{} : tls_->read(space);
        }
        return prefetch_.size() == 0 ? read_plainly(buffers)
                                     : attempt{.bytes = prefetch_.take(buffers)};
    }

    /// A read would not wait, as far as is known.
    bool has_input_at_hand() const noexcept
    {
        return tls_ ? tls_->has_plaintext()
                    : prefetch_.size() != 0 ||
                          socket_.bytes().what_comes() == channel::input::something;
    }

    /// Writes at least one byte; `handler(error, bytes)`. Under TLS a sequence of small buffers
    /// becomes one record. `taken(bytes, waits)` is called at once when the kernel has taken bytes,
    /// or takes no more now.
    template <typename Buffers, typename Taken, typename Handler>
    void async_write_some(const Buffers& buffers, Taken taken, Handler&& handler)
    {
        socket_.run(
            [this, buffers = Buffers(buffers), taken] {
                const attempt result = write(buffers);
                taken(result.bytes, result.waits_for != attempt::condition::nothing);
                return result;
            },
            std::forward<Handler>(handler));
    }

    /// The same for all of the buffers. With an error comes how many bytes went before it. Where it
    /// goes on after a wait `taken.goes_on()` is asked first: false, it was stopped meanwhile.
    template <typename Buffers, typename Taken, typename Handler>
    void async_write(const Buffers& buffers, Taken taken, Handler&& handler)
    {
        write_in_turns(
            [this, buffers = Buffers(buffers), size = asio::buffer_size(buffers)](
                buffer_position& done) { return write_all(buffers, done, size); },
            taken, std::forward<Handler>(handler));
    }

    /// The same for what is in a file, which lives until then. Its failure is none of the socket's.
    template <typename Taken, typename Handler>
    void async_send_file(file_source& file, Taken taken, Handler&& handler)
    {
        write_in_turns(
            [this, &file](buffer_position& done) {
                const attempt result = send_turn_of(file);
                done.bytes = file.sent();
                return result;
            },
            taken, std::forward<Handler>(handler));
    }

    /// From now on what reads takes what has arrived, and ends with `operation_aborted` where it
    /// would wait for more.
    void wait_for_no_input() noexcept
    {
        waits_for_no_input_ = true;
    }

    /// The next attempt to read asks the kernel, whatever is known.
    void look_again() noexcept
    {
        if (socket_.bytes().what_comes() == channel::input::nothing) {
            socket_.bytes().input_has_come(channel::input::perhaps);
        }
    }

    /// Ends the pending operations with `operation_aborted`.
    void cancel() noexcept
    {
        socket_.cancel();
    }

    /// Sends FIN behind everything written.
    std::error_code shutdown_send() noexcept
    {
        return socket_.shutdown_send();
    }

    /// Closes the descriptor and ends the pending operations. With `reset` the peer gets RST, and
    /// what the kernel still holds is discarded.
    void close(bool reset = false) noexcept
    {
        socket_.close(reset);
    }

    /// `listener.peer_has_gone()` will be called, once, at the peer's FIN or reset.
    void watch(hang_up_listener& listener)
    {
        socket_.watch(listener);
    }

    /// Drops arrived bytes without waiting (ciphertext under TLS).
    native::io_result discard() noexcept
    {
        std::array<char, 16 * 1024> dropped; // NOLINT(cppcoreguidelines-pro-type-member-init)
        return socket_.bytes().receive(dropped.data(), dropped.size());
    }

    /// Whether plain input has come, which begins with `first`, or its end, without taking it.
    native::io_result peek_input(std::byte& first) noexcept
    {
        return socket_.bytes().peek(first);
    }

    /// Bytes that have arrived and were not handed out, as far as that can be told without reading
    /// (ciphertext counts as it is).
    std::size_t input_size() noexcept
    {
        const std::size_t pending = tls_ ? tls_->pending() : 0;
        return pending + prefetch_.size() + native::unread_bytes(native_handle());
    }

    /// Bytes that the peer's kernel has acknowledged, given how many plain bytes were written.
    /// Changes while the peer takes anything: of a Unix socket, where what is outstanding counts the
    /// kernel's memory and may be more than was ever sent, it is no count of bytes, and may wrap.
    std::uint64_t acknowledged(std::uint64_t written) noexcept
    {
        const std::uint64_t sent = tls_ ? tls_->ciphertext_sent() : written;
        return sent - native::unacknowledged_bytes(native_handle());
    }

private:
    /// A large write lets others have their turn after so many bytes.
    static constexpr std::size_t longest_write_turn = std::size_t(256) << 10;

    /// Of `handler(error)`, one that takes bytes too.
    template <typename Handler>
    static auto without_bytes(Handler&& handler)
    {
        return wrapped_handler{
            [](auto&& waiting, const std::error_code& error, std::size_t) {
                std::move(waiting)(error);
            },
            std::forward<Handler>(handler)};
    }

    /// `result` of a read into `size` bytes, of which 0 are the end.
    static attempt told(const native::io_result& result, std::size_t size) noexcept
    {
        const bool is_end = result.bytes == 0 && size != 0 && !result.would_block && !result.error;
        return {
            .bytes = result.bytes,
            .waits_for =
                result.would_block ? attempt::condition::readable : attempt::condition::nothing,
            .error = is_end ? failure(asio::error::eof) : result.error};
    }

    template <typename Buffers>
    attempt read_plainly(const Buffers& buffers) noexcept
    {
        const std::size_t size = asio::buffer_size(buffers);
        return size == 0 ? attempt{} : told(socket_.bytes().receive_buffers(buffers), size);
    }

    attempt read_plainly_ahead() noexcept
    {
        const attempt result = read_plainly(prefetch_.space());
        prefetch_.filled(result.bytes);
        return result;
    }

    attempt unless_it_waits(const attempt& result) const noexcept
    {
        return waits_for_no_input_ && result.waits_for != attempt::condition::nothing
                   ? attempt{.bytes = result.bytes, .error = asio::error::operation_aborted}
                   : result;
    }

    attempt look_for_input()
    {
        if (tls_) {
            return tls_->wait_for_input();
        }
        if (has_input_at_hand()) {
            return {};
        }
        std::byte first = {};
        const auto found = told(socket_.bytes().peek(first), 1);
        if (found.bytes != 0) {
            socket_.bytes().input_has_come(channel::input::something);
        }
        return found;
    }

    template <typename Buffers>
    attempt write(const Buffers& buffers)
    {
        return tls_ ? tls_->write(buffers) : write_plainly(buffers);
    }

    /// `turn(done)` goes on from `done` and comes back with what it came to, and the bytes of all.
    template <typename Turn, typename Taken, typename Handler>
    void write_in_turns(Turn turn, Taken taken, Handler&& handler)
    {
        socket_.run(
            [turn = std::move(turn), taken, done = buffer_position(), has_begun = false]() mutable {
                if (std::exchange(has_begun, true) && !taken.goes_on()) {
                    return attempt{.bytes = done.bytes, .waits_for = attempt::condition::writable};
                }
                const std::size_t before = done.bytes;
                const attempt result = turn(done);
                taken(done.bytes - before, result.waits_for != attempt::condition::nothing);
                return result;
            },
            std::forward<Handler>(handler));
    }

    /// As much of a file as goes in a turn.
    attempt send_turn_of(file_source& file)
    {
        const std::size_t turn_ends = file.sent() + longest_write_turn;
        attempt result;
        do {
            result = send_some_of(file, turn_ends - file.sent());
            file.was_sent(result.bytes);
        } while (!result.error && result.waits_for == attempt::condition::nothing &&
                 !file.is_over() && file.sent() < turn_ends);
        result.bytes = file.sent();
        if (result.waits_for == attempt::condition::nothing && !result.error && !file.is_over()) {
            result.waits_for = attempt::condition::writable; // others have their turn
        }
        return result;
    }

    attempt send_some_of(file_source& file, std::size_t most)
    {
        if (tls_ == nullptr && file.may_skip_memory()) {
            const auto sent = socket_.bytes().send_file(
                file.descriptor(), file.position(), std::min(file.left(), most));
            if (sent.would_block || sent.bytes != 0) {
                return plainly(sent);
            }
            file.must_be_read(); // its end, or an error: that way tells which, and whose
        }
        const asio::const_buffer piece = file.piece();
        return piece.size() == 0 ? attempt{} : write(piece);
    }

    /// The rest of a write, from `done` on; as much of it as goes in a turn.
    template <typename Buffers>
    attempt write_all(const Buffers& buffers, buffer_position& done, std::size_t size)
    {
        const std::size_t turn_ends = done.bytes + longest_write_turn;
        attempt result;
        do {
            result = size <= longest_write_turn && done.bytes == 0
                         ? write(buffers)
                         : write(rest_of(buffers, done, turn_ends - done.bytes));
            done.advance(buffers, result.bytes);
        } while (!result.error && result.waits_for == attempt::condition::nothing &&
                 done.bytes != size && done.bytes < turn_ends);
        result.bytes = done.bytes;
        if (!result.error && done.bytes != size) { // others have their turn
            result.waits_for = result.waits_for == attempt::condition::nothing
                                   ? attempt::condition::writable
                                   : result.waits_for;
        }
        return result;
    }

    template <typename Buffers>
    attempt write_plainly(const Buffers& buffers) noexcept
    {
        return plainly(socket_.bytes().send_buffers(buffers));
    }

    static attempt plainly(const native::io_result& sent) noexcept
    {
        return {
            .bytes = sent.bytes,
            .waits_for =
                sent.would_block ? attempt::condition::writable : attempt::condition::nothing,
            .error = sent.error};
    }

    stream_socket socket_;
    std::unique_ptr<tls_engine> tls_; // null: plain TCP
    published<bool> is_tls_ = false;
    bool waits_for_no_input_ = false;
    prefetch prefetch_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_TRANSPORT_HPP
