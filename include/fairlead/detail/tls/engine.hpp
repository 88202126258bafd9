// fairlead: TLS over a non-blocking descriptor, one attempt at a time; who waits between two
// attempts is for the transport to arrange. Beside tls.hpp and what it loads with, the only file
// that names OpenSSL.

#ifndef FAIRLEAD_DETAIL_TLS_ENGINE_HPP
#define FAIRLEAD_DETAIL_TLS_ENGINE_HPP

#include <fairlead/detail/io/buffers.hpp>
#include <fairlead/detail/io/channel.hpp>
#include <fairlead/detail/io/prefetch.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/tls.hpp>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ssl/error.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One step of a handshake reads at most so many bytes.
inline constexpr std::size_t longest_handshake_turn = 16384;

/// The first byte of every TLS connection: a record of the handshake (RFC 8446, section 5.1).
inline constexpr std::byte tls_first_byte{0x16};

/// OpenSSL reads and writes the descriptor itself, through a BIO that is two calls thin. So the
/// library holds no ciphertext, an idle connection costs OpenSSL's state and nothing more, and the
/// order of alerts, close_notify and FIN is ours to decide; `asio::ssl::stream` holds 75 KB per
/// connection and cannot half-close.
class tls_engine
{
public:
    /// A server of `context`. `before` is plain input that was read too early. Null with an error:
    /// no memory.
    static std::unique_ptr<tls_engine> make(
        const tls_context& context, channel& socket, prefetch& before, std::error_code& error)
    {
        auto engine = std::make_unique<tls_engine>(context, socket, before);
        if (engine->ssl_ == nullptr) {
            error = make_error_code(errc::out_of_memory);
            engine.reset();
        }
        return engine;
    }

    tls_engine(const tls_context& context, channel& socket, prefetch& before)
        : channel_(socket), before_(before)
    {
        ::ERR_clear_error();
        std::unique_ptr<SSL, deleter> ssl(::SSL_new(context.native_handle()));
        const BIO_METHOD* const method = ssl && stop_at_hello(ssl.get()) ? bio_method() : nullptr;
        BIO* const bio = method != nullptr ? ::BIO_new(method) : nullptr;
        if (bio != nullptr) {
            ::BIO_set_data(bio, this);
            ::BIO_set_init(bio, 1);
            ::SSL_set_bio(ssl.get(), bio, bio);
            ::SSL_set_accept_state(ssl.get());
            ssl_ = std::move(ssl);
        }
        ::ERR_clear_error();
    }

    tls_engine(const tls_engine&) = delete;
    tls_engine& operator=(const tls_engine&) = delete;

    /// As far as the handshake goes with what has arrived, and not behind the client's hello before
    /// `admit`: until then it costs next to nothing. Others get their turn after so many bytes,
    /// which may be thousands of records.
    attempt handshake()
    {
        begin_call();
        turn_left_ = longest_handshake_turn;
        const attempt result = outcome(::SSL_do_handshake(ssl_.get()));
        turn_left_ = std::numeric_limits<std::size_t>::max();
        return result;
    }

    /// The handshake goes on behind the hello.
    void admit() noexcept
    {
        detail::admit(ssl_.get());
    }

    std::unique_ptr<tls_info> describe() const
    {
        return make_tls_info(ssl_.get());
    }

    /// Nothing to wait for and no error: it has left, or TLS is in a state in which it must not be
    /// sent. Else it is to be called again.
    attempt close_notify()
    {
        // OpenSSL notes it as sent before it writes it, and also when the socket then takes nothing.
        const bool is_noted = (::SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0;
        if (broken_ || ::SSL_in_init(ssl_.get()) != 0 || (is_noted && !notify_waits_)) {
            return {};
        }
        begin_call();
        const int result = ::SSL_shutdown(ssl_.get());
        const attempt sent = result >= 0 ? attempt{} : outcome(result);
        notify_waits_ = sent.waits_for != attempt::condition::nothing;
        return sent;
    }

    attempt read(asio::mutable_buffer space)
    {
        if (ahead_.size() != 0) {
            return {.bytes = ahead_.copy_out(space.data(), space.size())};
        }
        begin_call();
        return received(::SSL_read(ssl_.get(), space.data(), clamp(space.size())));
    }

    /// Of `ahead`.
    prefetch& ahead_memory() noexcept
    {
        return ahead_;
    }

    /// Reads into `ahead`, behind what is there. Its memory is reserved.
    attempt read_ahead()
    {
        const asio::mutable_buffer space = ahead_.space();
        begin_call();
        const attempt result = received(::SSL_read(ssl_.get(), space.data(), clamp(space.size())));
        ahead_.filled(result.bytes);
        return result;
    }

    /// Plaintext that was read before somebody asked for it.
    std::span<const std::byte> ahead() const noexcept
    {
        return ahead_.bytes();
    }

    /// Like `read`, but leaves the bytes.
    attempt wait_for_input()
    {
        if (ahead_.size() != 0) {
            return {.bytes = ahead_.size()};
        }
        char byte = 0;
        begin_call();
        return received(::SSL_peek(ssl_.get(), &byte, 1));
    }

    /// One record; small buffers are gathered into it.
    template <typename ConstBuffers>
    attempt write(const ConstBuffers& buffers)
    {
        auto data = first_buffer<asio::const_buffer>(buffers);
        if (data.size() == 0) {
            return {};
        }
        // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init)
        std::array<char, SSL3_RT_MAX_PLAIN_LENGTH> record;
        if (data.size() < record.size() && data.size() < asio::buffer_size(buffers)) {
            data = asio::buffer(record, asio::buffer_copy(asio::buffer(record), buffers));
        }
        begin_call();
        const int result = ::SSL_write(ssl_.get(), data.data(), clamp(data.size()));
        return result > 0 ? attempt{.bytes = static_cast<std::size_t>(result)} : outcome(result);
    }

    /// Input that OpenSSL has taken and nobody has read; at least 1 when there is any, in whatever
    /// state.
    std::size_t pending() const noexcept
    {
        const auto inside = ::SSL_has_pending(ssl_.get()) != 0
                                ? static_cast<std::size_t>(std::max(1, ::SSL_pending(ssl_.get())))
                                : 0;
        return ahead_.size() + inside;
    }

    /// Decrypted input is there: the next read takes it without waiting.
    bool has_plaintext() const noexcept
    {
        return ahead_.size() != 0 || ::SSL_pending(ssl_.get()) != 0;
    }

    std::uint64_t ciphertext_sent() const noexcept
    {
        return ciphertext_sent_;
    }

private:
    struct deleter
    {
        void operator()(SSL* ssl) const noexcept
        {
            ::SSL_free(ssl);
        }
    };

    static int clamp(std::size_t size) noexcept
    {
        return static_cast<int>(std::min<std::size_t>(size, std::numeric_limits<int>::max()));
    }

    /// OpenSSL adds to the errors of the calls before.
    void begin_call() noexcept
    {
        ::ERR_clear_error();
        socket_error_ = {};
    }

    attempt received(int result)
    {
        if (result <= 0) {
            return outcome(result);
        }
        tls_data_received(ssl_.get());
        return {.bytes = static_cast<std::size_t>(result)};
    }

    /// Reads OpenSSL's verdict on a call that returned `result`, and leaves its error queue empty.
    attempt outcome(int result)
    {
        if (result > 0) {
            return {};
        }
        if (tls_flooded(ssl_.get())) { // the callback has made it look like an orderly end
            ::ERR_clear_error();
            return failed(make_error_code(std::errc::protocol_error));
        }
        switch (::SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            return {.waits_for = attempt::condition::readable};
        case SSL_ERROR_WANT_WRITE:
            return {.waits_for = attempt::condition::writable};
        case SSL_ERROR_WANT_CLIENT_HELLO_CB:
            return {.waits_for = attempt::condition::admission};
        case SSL_ERROR_ZERO_RETURN: // also of a write that fails behind the peer's close_notify
            return socket_error_ ? failed(socket_error_) : attempt{.error = asio::error::eof};
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

    static tls_engine& owner(BIO* bio) noexcept
    {
        return *static_cast<tls_engine*>(::BIO_get_data(bio));
    }

    static int bio_read(BIO* bio, char* data, int size)
    {
        tls_engine& self = owner(bio);
        ::BIO_clear_retry_flags(bio);
        const auto capacity = std::min(static_cast<std::size_t>(size), self.turn_left_);
        if (self.before_.size() != 0) {
            return static_cast<int>(self.before_.copy_out(data, static_cast<std::size_t>(size)));
        }
        const auto result = capacity != 0 ? self.channel_.receive(data, capacity)
                                          : native::io_result{.would_block = true}; // turn is over
        if (result.would_block) {
            ::BIO_set_retry_read(bio);
            return -1;
        }
        if (result.error) {
            self.socket_error_ = result.error;
            return -1;
        }
        self.ended_ = result.bytes == 0;
        self.turn_left_ -= result.bytes;
        return static_cast<int>(result.bytes);
    }

    static int bio_write(BIO* bio, const char* data, int size)
    {
        tls_engine& self = owner(bio);
        ::BIO_clear_retry_flags(bio);
        const auto result = self.channel_.send(data, static_cast<std::size_t>(size));
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

    /// Null: no memory.
    static BIO_METHOD* make_bio_method()
    {
        const int index = ::BIO_get_new_index(); // takes memory for a lock, the first time
        if (index == -1) {
            return nullptr;
        }
        BIO_METHOD* const made = ::BIO_meth_new(index | BIO_TYPE_SOURCE_SINK, "fairlead");
        if (made != nullptr) {
            ::BIO_meth_set_read(made, &tls_engine::bio_read);
            ::BIO_meth_set_write(made, &tls_engine::bio_write);
            ::BIO_meth_set_ctrl(made, &tls_engine::bio_control);
        }
        return made;
    }

    /// Null: no memory.
    static const BIO_METHOD* bio_method()
    {
        // As long as the process: no BIO outlives it. Where there was no memory for it, the next
        // connection tries again.
        static std::atomic<const BIO_METHOD*> shared = nullptr;
        const BIO_METHOD* known = shared.load(std::memory_order_acquire);
        if (known != nullptr) {
            return known;
        }
        BIO_METHOD* const made = make_bio_method();
        if (made == nullptr || shared.compare_exchange_strong(known, made)) {
            return made;
        }
        ::BIO_meth_free(made); // another thread was faster
        return known;
    }

    channel& channel_;
    prefetch& before_;
    prefetch ahead_;
    std::unique_ptr<SSL, deleter> ssl_;
    std::uint64_t ciphertext_sent_ = 0;
    std::size_t turn_left_ = std::numeric_limits<std::size_t>::max();
    std::error_code socket_error_; // of the last call that OpenSSL made
    bool ended_ = false;           // FIN was read
    bool broken_ = false;          // no alert may follow
    bool notify_waits_ = false;    // close_notify is made, and not all of it is with the kernel
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_ENGINE_HPP
