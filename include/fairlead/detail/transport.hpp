// fairlead: the byte stream under a connection, plain TCP or TLS; the only file that knows which of the two it is.
// No policy: no timeouts, no counters, no reasons. One operation of each direction at a time.

#ifndef FAIRLEAD_DETAIL_TRANSPORT_HPP
#define FAIRLEAD_DETAIL_TRANSPORT_HPP

#include <fairlead/detail/asio.hpp>
#include <fairlead/detail/native.hpp>
#include <fairlead/detail/prefetch.hpp>
#include <fairlead/tls.hpp>

#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ssl/error.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <system_error>
#include <utility>

namespace fairlead::detail
{
/// A socket, and the TLS state above it once `start_tls` was called.
///
/// TLS is driven over the descriptor itself: OpenSSL reads and writes the non-blocking socket through a BIO that
/// is two calls thin, and Asio only says when it is worth trying again. So the library keeps no ciphertext of its
/// own, an idle connection costs OpenSSL's state and nothing more, and the order of alerts, close_notify and FIN
/// is ours to decide; `asio::ssl::stream` holds 75 KB per connection and cannot half-close.
class transport
{
public:
    using executor_type = asio::io_context::executor_type;
    using socket_type = asio::basic_stream_socket<asio::ip::tcp, executor_type>;

    /// What an attempt came to. `waits_for` says for what to wait before the next one.
    struct attempt
    {
        enum class condition
        {
            nothing,
            readable,
            writable,
        };

        std::size_t bytes = 0;
        condition waits_for = condition::nothing;
        std::error_code error = {};
    };

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

    bool is_tls() const noexcept
    {
        return ssl_ != nullptr;
    }

    SSL* tls() const noexcept
    {
        return ssl_.get();
    }

    /// Everything from here on is TLS, as a server of `context`.
    void start_tls(const tls_context& context, std::error_code& error)
    {
        ::ERR_clear_error();
        std::unique_ptr<SSL, ssl_deleter> ssl(::SSL_new(context.native_handle()));
        BIO* const bio = ssl ? ::BIO_new(bio_method()) : nullptr;
        if (bio == nullptr) {
            error = make_error_code(errc::out_of_memory);
            ::ERR_clear_error();
            return;
        }
        ::BIO_set_data(bio, this);
        ::BIO_set_init(bio, 1);
        ::SSL_set_bio(ssl.get(), bio, bio);
        ::SSL_set_accept_state(ssl.get());
        ssl_ = std::move(ssl);
    }

    /// One step of the TLS handshake: as far as it goes with what has arrived.
    attempt handshake()
    {
        ::ERR_clear_error();
        return outcome(::SSL_do_handshake(ssl_.get()));
    }

    /// One attempt to tell the peer that nothing more will come. Nothing to do, and no error: it was told, or
    /// TLS is in a state in which it must not be.
    attempt close_notify()
    {
        if (ssl_ == nullptr || broken_ || ::SSL_in_init(ssl_.get()) != 0 ||
            (::SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0) {
            return {};
        }
        ::ERR_clear_error();
        const int result = ::SSL_shutdown(ssl_.get());
        return result >= 0 ? attempt{} : outcome(result);
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
                    drained_ = drained_ && error;
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

    /// Reads at least one byte; `handler(error, bytes)`. The end is `asio::error::eof`; under TLS an end without
    /// close_notify is `asio::ssl::error::stream_truncated`.
    template <typename Buffers, typename Handler>
    void async_read_some(const Buffers& buffers, Handler&& handler)
    {
        if (ssl_ != nullptr) {
            run(
                [this, buffers] {
                    const auto space = first_buffer<asio::mutable_buffer>(buffers);
                    return space.size() == 0 ? attempt{} : decrypt(space, ::SSL_read);
                },
                std::forward<Handler>(handler), true);
        } else if (!prefetch_.empty()) {
            const auto taken = prefetch_.take(buffers, native_handle());
            post_completion(
                get_executor(), std::forward<Handler>(handler), taken.error, taken.bytes);
        } else {
            socket_.async_read_some(buffers, std::forward<Handler>(handler));
        }
    }

    /// Completes when `async_read_some` would, and leaves the bytes for it; `handler(error, bytes)`. What is held
    /// meanwhile is a few bytes inside this object.
    template <typename Handler>
    void async_wait_input(Handler&& handler)
    {
        if (ssl_ != nullptr) {
            run(
                [this] {
                    char byte = 0;
                    return decrypt(asio::buffer(&byte, 1), ::SSL_peek);
                },
                std::forward<Handler>(handler), true);
        } else if (!prefetch_.empty()) {
            post_completion(
                get_executor(), std::forward<Handler>(handler), std::error_code(),
                prefetch_.size());
        } else {
            socket_.async_read_some(
                prefetch_.space(),
                wrapped_handler{
                    [this](auto&& waiting, const std::error_code& error, std::size_t bytes) {
                        prefetch_.filled(bytes);
                        std::move(waiting)(error, bytes);
                    },
                    std::forward<Handler>(handler)});
        }
    }

    /// Writes at least one byte; `handler(error, bytes)`. Under TLS a sequence of small buffers becomes one record.
    template <typename Buffers, typename Handler>
    void async_write_some(const Buffers& buffers, Handler&& handler)
    {
        if (ssl_ != nullptr) {
            run([this, buffers] { return encrypt(buffers); }, std::forward<Handler>(handler), true);
        } else {
            socket_.async_write_some(buffers, std::forward<Handler>(handler));
        }
    }

    /// Ends the pending operations with `operation_aborted`.
    void cancel() noexcept
    {
        std::error_code ignored;
        socket_.cancel(ignored);
    }

    /// Sends FIN behind everything written.
    void shutdown_send() noexcept
    {
        std::error_code ignored;
        socket_.shutdown(socket_type::shutdown_send, ignored);
    }

    /// Closes the descriptor and ends the pending operations. With `reset` the peer gets RST, and what the kernel
    /// still holds is discarded.
    void close(bool reset = false) noexcept
    {
        if (!socket_.is_open()) {
            return;
        }
        if (reset) {
            native::reset_on_close(socket_.native_handle());
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
        drained_ = false;
        return result;
    }

    /// Bytes that have arrived and were not handed out, as far as that can be told without reading (ciphertext
    /// counts as it is).
    std::size_t input_size() noexcept
    {
        const std::size_t pending = ssl_ != nullptr && ::SSL_has_pending(ssl_.get()) != 0
                                        ? std::max(1, ::SSL_pending(ssl_.get()))
                                        : 0;
        return pending + prefetch_.size() + native::unread_bytes(native_handle());
    }

    /// Bytes that the peer's kernel has acknowledged, given how many plain bytes were written. Grows while the
    /// peer takes anything.
    std::uint64_t acknowledged(std::uint64_t written) noexcept
    {
        const std::uint64_t sent = ssl_ != nullptr ? ciphertext_sent_ : written;
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

    struct ssl_deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            ::SSL_free(ssl);
        }
    };

    /// Attempts, waits and attempts again until there is something to say.
    template <typename Attempt, typename Handler>
    void run(Attempt again, Handler&& handler, bool inside_initiation)
    {
        const attempt result = again();
        if (result.waits_for != attempt::condition::nothing) {
            async_wait(
                result.waits_for, wrapped_handler{
                                      [this, again](auto&& waiting, const std::error_code& error) {
                                          if (error) {
                                              std::move(waiting)(error, std::size_t(0));
                                          } else {
                                              run(again, std::move(waiting), false);
                                          }
                                      },
                                      std::forward<Handler>(handler)});
        } else if (inside_initiation) {
            post_completion(
                get_executor(), std::forward<Handler>(handler), result.error, result.bytes);
        } else {
            std::move(handler)(result.error, result.bytes);
        }
    }

    template <typename Call>
    attempt decrypt(asio::mutable_buffer space, Call call)
    {
        ::ERR_clear_error();
        const int result = call(ssl_.get(), space.data(), clamp(space.size()));
        if (result <= 0) {
            return outcome(result);
        }
        tls_data_received(ssl_.get());
        return {.bytes = static_cast<std::size_t>(result)};
    }

    template <typename Buffers>
    attempt encrypt(const Buffers& buffers)
    {
        auto data = first_buffer<asio::const_buffer>(buffers);
        const std::size_t total = asio::buffer_size(buffers);
        if (data.size() == 0) {
            return {};
        }
        std::array<char, SSL3_RT_MAX_PLAIN_LENGTH>
            record; // NOLINT(cppcoreguidelines-pro-type-member-init)
        if (data.size() < record.size() && data.size() < total) {
            data = asio::buffer(record, asio::buffer_copy(asio::buffer(record), buffers));
        }
        ::ERR_clear_error();
        const int result = ::SSL_write(ssl_.get(), data.data(), clamp(data.size()));
        if (result <= 0) {
            return outcome(result);
        }
        return {.bytes = static_cast<std::size_t>(result)};
    }

    static int clamp(std::size_t size) noexcept
    {
        return static_cast<int>(std::min<std::size_t>(size, std::numeric_limits<int>::max()));
    }

    /// Reads OpenSSL's verdict on a call that returned `result`, and leaves its error queue empty.
    attempt outcome(int result)
    {
        const int reason = ::SSL_get_error(ssl_.get(), result);
        if (result > 0) {
            return {};
        }
        switch (reason) {
        case SSL_ERROR_WANT_READ:
            if (tls_flooded(ssl_.get())) {
                return failed(make_error_code(std::errc::protocol_error));
            }
            return {.waits_for = attempt::condition::readable};
        case SSL_ERROR_WANT_WRITE:
            return {.waits_for = attempt::condition::writable};
        case SSL_ERROR_ZERO_RETURN:
            return {.error = asio::error::eof};
        default:
            break;
        }
        const auto code = ::ERR_get_error();
        ::ERR_clear_error();
        if (socket_error_) {
            return failed(socket_error_);
        }
        if (ended_) {
            return failed(asio::ssl::error::stream_truncated);
        }
        if (code == 0) {
            return failed(make_error_code(std::errc::io_error));
        }
        return failed({static_cast<int>(code), asio::error::get_ssl_category()});
    }

    attempt failed(std::error_code error) noexcept
    {
        broken_ = true;
        return {.error = error};
    }

    static transport& owner(BIO* bio) noexcept
    {
        return *static_cast<transport*>(::BIO_get_data(bio));
    }

    static int bio_read(BIO* bio, char* data, int size)
    {
        transport& self = owner(bio);
        ::BIO_clear_retry_flags(bio);
        if (self.prefetch_.size() != 0) { // plain bytes that arrived before TLS began
            return static_cast<int>(self.prefetch_.copy_out(data, static_cast<std::size_t>(size)));
        }
        if (self.drained_) { // the last read came back short: only a new event can bring more
            ::BIO_set_retry_read(bio);
            return -1;
        }
        const auto result =
            native::receive(self.native_handle(), data, static_cast<std::size_t>(size));
        if (result.would_block) {
            self.drained_ = true;
            ::BIO_set_retry_read(bio);
            return -1;
        }
        if (result.error) {
            self.socket_error_ = result.error;
            return -1;
        }
        self.ended_ = result.bytes == 0;
        self.drained_ = !self.ended_ && result.bytes < static_cast<std::size_t>(size);
        return static_cast<int>(result.bytes);
    }

    static int bio_write(BIO* bio, const char* data, int size)
    {
        transport& self = owner(bio);
        ::BIO_clear_retry_flags(bio);
        const auto result =
            native::send(self.native_handle(), data, static_cast<std::size_t>(size));
        if (result.would_block) {
            ::BIO_set_retry_write(bio);
            return -1;
        }
        if (result.error) {
            self.socket_error_ = result.error;
            return -1;
        }
        self.ciphertext_sent_ += result.bytes;
        return static_cast<int>(result.bytes);
    }

    static long bio_control(BIO* bio, int command, long, void*)
    {
        switch (command) {
        case BIO_CTRL_FLUSH:
            return 1;
        case BIO_CTRL_EOF:
            return owner(bio).ended_ ? 1 : 0;
        default:
            return 0;
        }
    }

    static const BIO_METHOD* bio_method()
    {
        static const BIO_METHOD* const method = [] { // as long as the process: no BIO outlives it
            BIO_METHOD* const made =
                ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "fairlead");
            if (made != nullptr) {
                ::BIO_meth_set_read(made, &transport::bio_read);
                ::BIO_meth_set_write(made, &transport::bio_write);
                ::BIO_meth_set_ctrl(made, &transport::bio_control);
            }
            return made;
        }();
        return method;
    }

    socket_type socket_;
    std::unique_ptr<SSL, ssl_deleter> ssl_;
    std::uint64_t ciphertext_sent_ = 0;
    std::error_code socket_error_; // of the last call that OpenSSL made
    bool drained_ = false;         // the kernel's receive queue was seen empty
    bool ended_ = false;           // FIN was read under TLS
    bool broken_ = false;          // TLS failed: no alert may follow
    prefetch prefetch_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_TRANSPORT_HPP
