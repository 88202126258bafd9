// fairlead: what a handler is given: a byte stream whose operations end, by themselves, when a
// limit says so. What the server does with a connection is in server.hpp; what may be configured,
// in config.hpp.

#ifndef FAIRLEAD_CONNECTION_HPP
#define FAIRLEAD_CONNECTION_HPP

#include <fairlead/deadline_slot.hpp>
#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/connection/session.hpp>
#include <fairlead/detail/connection/verbs.hpp>
#include <fairlead/detail/io/credentials.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>
#include <fairlead/endpoint.hpp>
#include <fairlead/half_close.hpp>
#include <fairlead/peer_credentials.hpp>
#include <fairlead/tls.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
class connection;

namespace detail
{
connection_operations& core_of(connection& connection) noexcept;
connection_ref make_connection(environment& home, connection_owner& owner, const endpoint& remote);
} // namespace detail

/// One client. Lives exactly as long as its handler runs, and belongs to its server's thread: every
/// member is to be called there, which inside the handler goes without saying. From other threads
/// there is `tcp_server::close_connection(id)`.
///
/// At most one read (or `readable()`) and one write may be pending at a time; one of each is fine,
/// from two coroutines of the same thread. A second one ends with
/// `std::errc::operation_in_progress`. Operations end on this thread, whatever their completion
/// handler's executor is; only the handler is called there. A composed operation of Asio's
/// (`asio::async_write`) runs its steps on its handler's executor, so that has to be this thread's.
/// What is cut by the end of the connection ends in a reset; between two steps of such an operation
/// that is so when its executor is the connection's own, and the connection cannot know that one
/// which is cancelled there had more to send. `write` is always one piece. While messages of a
/// `framed` are queued, a write beside them ends with `operation_in_progress`: it would overtake them.
///
/// An operation that ends because of the server says why: `errc::idle_timeout`, `write_timeout`,
/// `deadline_exceeded`, `max_lifetime`, `connection_closed`, `server_closed`, `shutdown_timeout`.
/// The peer's doings come as Asio tells them: `asio::error::connection_reset` and so on; under TLS
/// an end of the stream without close_notify is `asio::ssl::error::stream_truncated`. Letting such
/// an error out of the handler as an exception is the usual way to end it, and is not reported as a
/// failure.
class connection
{
public:
    using executor_type = asio::any_io_executor;

    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    /// Reads what is there, at least one byte; waits for it. Returns how many bytes; 0: the peer
    /// has finished (FIN, or close_notify under TLS), and writing still works. Throws
    /// `std::system_error`.
    template <typename MutableBuffers>
    asio::awaitable<std::size_t> read_some(const MutableBuffers& buffers)
    {
        return core_.may_read_at_hand() ? detail::read_at_hand(core_, buffers)
                                        : detail::read_some(core_, buffers, asio::use_awaitable);
    }

    /// The same; nothing is thrown, and `error` is cleared on success.
    template <typename MutableBuffers>
    asio::awaitable<std::size_t> read_some(const MutableBuffers& buffers, std::error_code& error)
    {
        return core_.may_read_at_hand()
                   ? detail::read_at_hand(core_, buffers, error)
                   : detail::read_some(
                         core_, buffers, asio::redirect_error(asio::use_awaitable, error));
    }

    /// Fills the buffers. Returns their size; 0: the peer finished before the first byte. When it
    /// finishes later, throws `std::system_error` with `asio::error::eof`.
    template <typename MutableBuffers>
    asio::awaitable<std::size_t> read(MutableBuffers buffers)
    {
        std::error_code error;
        const std::size_t bytes = co_await read(buffers, error);
        if (error) {
            throw std::system_error(error);
        }
        co_return bytes;
    }

    /// The same; nothing is thrown. Returns how many bytes were read before an error.
    template <typename MutableBuffers>
    asio::awaitable<std::size_t> read(MutableBuffers buffers, std::error_code& error)
    {
        return detail::read_all(core_, buffers, error);
    }

    /// Writes all of the buffers. Returns their size. Throws `std::system_error`.
    template <typename ConstBuffers>
    asio::awaitable<std::size_t> write(const ConstBuffers& buffers)
    {
        return detail::write_all(core_, buffers, asio::use_awaitable);
    }

    /// The same; nothing is thrown. Returns how many bytes were written before an error.
    template <typename ConstBuffers>
    asio::awaitable<std::size_t> write(const ConstBuffers& buffers, std::error_code& error)
    {
        return detail::write_all(core_, buffers, asio::redirect_error(asio::use_awaitable, error));
    }

    /// Writes what the kernel takes, at least one byte; waits for it. Returns how many. Throws
    /// `std::system_error`.
    template <typename ConstBuffers>
    asio::awaitable<std::size_t> write_some(const ConstBuffers& buffers)
    {
        return async_write_some(buffers, asio::use_awaitable);
    }

    /// The same; nothing is thrown.
    template <typename ConstBuffers>
    asio::awaitable<std::size_t> write_some(const ConstBuffers& buffers, std::error_code& error)
    {
        return async_write_some(buffers, asio::redirect_error(asio::use_awaitable, error));
    }

    /// Writes `size` bytes of a file, from `offset` on, as one write; returns how many. On plain TCP
    /// the kernel takes them from the file (sendfile(2), Linux); else, and under TLS, they are read in
    /// pieces of 16 KiB. The descriptor stays the caller's, and open until this completes; its own
    /// position is not used. Blocks the thread while the disk reads. Throws `std::system_error`; with
    /// `asio::error::eof` when the file is shorter: what was there is sent, and the write counts as
    /// cut, as it does when the file cannot be read on.
    asio::awaitable<std::uint64_t> send_file(int fd, std::uint64_t offset, std::uint64_t size)
    {
        std::error_code error;
        const std::uint64_t bytes = co_await send_file(fd, offset, size, error);
        if (error) {
            throw std::system_error(error);
        }
        co_return bytes;
    }

    /// The same; nothing is thrown. Returns how many bytes were sent before an error.
    asio::awaitable<std::uint64_t> send_file(
        int fd, std::uint64_t offset, std::uint64_t size, std::error_code& error)
    {
        return detail::send_file(core_, fd, offset, size, error);
    }

    /// Waits until there is something to read, without holding a buffer meanwhile. False: the peer
    /// has finished, or the server drains and nothing has arrived; return from the handler. A drain
    /// ends the wait at once: a handler that waits for its next request here is one that may be
    /// sent home. To notice that the peer has left, beside other work, take `closed()`, which a drain
    /// does not end; to notice a drain, `drain_begun()`. Throws `std::system_error`.
    asio::awaitable<bool> readable()
    {
        return detail::wait_for_input(core_, asio::use_awaitable);
    }

    /// The same; nothing is thrown.
    asio::awaitable<bool> readable(std::error_code& error)
    {
        return detail::wait_for_input(core_, asio::redirect_error(asio::use_awaitable, error));
    }

    /// At most so many bytes can be looked at by `peek`.
    static constexpr std::size_t max_peek = detail::prefetch::most;

    /// Looks at the first `size` bytes of what a read would give, and leaves them: to tell
    /// protocols apart. Waits for them no longer than until `server_config::pre_open_timeout` after
    /// the accept; then the connection ends with `errc::pre_open_timeout`. Fewer bytes: the peer
    /// has finished behind them, or a drain has begun. What is returned is valid until the next
    /// operation. Throws `std::system_error`, with `std::errc::invalid_argument` when `size` is
    /// above `max_peek`.
    asio::awaitable<std::span<const std::byte>> peek(std::size_t size)
    {
        std::error_code error;
        const auto bytes = co_await peek(size, error);
        if (error) {
            throw std::system_error(error);
        }
        co_return bytes;
    }

    /// The same; nothing is thrown.
    asio::awaitable<std::span<const std::byte>> peek(std::size_t size, std::error_code& error)
    {
        return detail::peek(core_, size, error);
    }

    /// Continues under TLS, as the server of `context`, which must live until this completes: for
    /// protocols with a STARTTLS command. Call it when the command's answer is written and nothing
    /// is pending. The handshake has `server_config::pre_open_timeout` of its own, and its place
    /// among `max_handshakes`; then `tls()` is set, and everything else is as before.
    ///
    /// Refuses with `errc::plaintext_before_tls` when plain text has arrived behind the command: an
    /// attacker may have put it there, to be taken for the client's own words under TLS
    /// (CVE-2011-0411). A handler that reads into buffers of its own must see for itself that
    /// nothing is left in them; `framed` does. `std::errc::operation_in_progress`: an operation is
    /// pending; `std::errc::operation_not_permitted`: it is TLS already. A handshake that fails
    /// ends the connection, and its error is thrown.
    asio::awaitable<void> start_tls(const tls_context& context)
    {
        std::error_code error;
        co_await start_tls(context, error);
        if (error) {
            throw std::system_error(error);
        }
    }

    /// The same; nothing is thrown.
    asio::awaitable<void> start_tls(const tls_context& context, std::error_code& error)
    {
        return detail::start_tls(core_, context, error);
    }

    /// Asio's AsyncReadStream: `void(std::error_code, std::size_t)`; the end of the stream is
    /// `asio::error::eof`.
    template <typename MutableBuffers, typename Token>
    auto async_read_some(const MutableBuffers& buffers, Token&& token)
    {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            detail::initiate_read_some<detail::complete_plainly>{&core_}, token, buffers);
    }

    /// Asio's AsyncWriteStream: `void(std::error_code, std::size_t)`.
    template <typename ConstBuffers, typename Token>
    auto async_write_some(const ConstBuffers& buffers, Token&& token)
    {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            detail::initiate_write_some{&core_}, token, buffers);
    }

    executor_type get_executor() const noexcept
    {
        return core_.home.get_executor();
    }

    /// Half-close: tells the peer that nothing more will come (FIN; under TLS close_notify), and
    /// reading goes on. Idempotent; writing afterwards fails with `asio::error::broken_pipe`. A write
    /// that is pending goes first, and so do messages of a `framed` that are queued, or wait in a
    /// `send` that has begun. Under TLS the socket may have no room for close_notify just then.
    /// Ignored, or when that wait is cancelled, it is sent all the same, as soon as it can. So await
    /// the result to know that it is sent. It throws `std::system_error` with what has ended the
    /// connection meanwhile, or `asio::error::broken_pipe`: behind a write that was cut, and messages
    /// that are lost, no end in order is sent. When it had been stopped, or had failed, before, there
    /// is nothing to do, and nothing is thrown.
    half_close shutdown_send()
    {
        return half_close(detail::finish_sending(core_));
    }

    /// Ends the connection in order: pending operations end with `errc::connection_closed`, as all
    /// later ones do, and what was written, or sent as a message, still reaches the peer, within
    /// `linger` (a second when that is 0); a write that is cut short by it is a reset instead. The
    /// handler may go on: a drain waits for it, and `max_connections` counts it, until it returns.
    /// Idempotent. To be called on the server's thread; from others,
    /// `tcp_server::close_connection(id)`.
    void close() noexcept
    {
        core_.close_by_handler();
    }

    /// The same, and `why` (copied) is in the closed event, as `connection_event::why`.
    void close(std::string_view why) noexcept
    {
        core_.close_by_handler(why);
    }

    /// Ends the connection with a reset (RST); what the peer has not received yet is lost. Unix
    /// sockets have no reset: what was written stays readable, and its end looks orderly unless
    /// something was left unread here. So it is wherever this library resets a connection; TLS, and
    /// framed protocols, tell a cut stream all the same.
    void abort() noexcept
    {
        core_.abort_by_handler();
    }

    /// Runs a child of the handler beside it, on this thread. The connection is not closed, and
    /// lives, until the child has returned. An exception that leaves it is as one that leaves the
    /// handler: it ends the connection, and with it the operations of those that still run. When
    /// the handler returns first, the child's `closed()`, `drain_begun()` and `readable()` complete
    /// (`readable()` with false), and its reads and writes go on. A coroutine that was started with
    /// `asio::co_spawn` instead is not waited for: it must not touch the connection once the
    /// handler and its children are done, except by an operation that is pending then. After that,
    /// the child is dropped without having run.
    void spawn(asio::awaitable<void> child)
    {
        detail::spawn_child(core_, std::move(child));
    }

    /// Completes when the peer has finished or reset (on Linux also behind input that nobody has
    /// read; elsewhere, and for TLS' close_notify, when a read meets it), or the connection was
    /// stopped by whomever. Neither data nor a drain completes it. For handlers that work without
    /// reading; where half-closing is part of the protocol, use a read. Any number may wait, beside
    /// a read and a write. Its cancellation slot works.
    asio::awaitable<void> closed()
    {
        return detail::wait_with(detail::initiate_closed{&core_});
    }

    /// Completes when the server's drain has begun, or the connection was stopped. As `closed()`.
    asio::awaitable<void> drain_begun()
    {
        return detail::wait_with(detail::initiate_drain_begun{&core_});
    }

    /// Bounds everything from here on: when `timeout` is over, the pending operation ends with
    /// `errc::deadline_exceeded`, and the connection with it. A new call replaces the time; 0 or
    /// less: off. Not a system call, and cheap enough for each message.
    void expires_after(std::chrono::milliseconds timeout)
    {
        core_.expires_after(timeout);
    }

    /// A cancellation slot that hears of this connection's end, for operations on something else: a
    /// timer, a socket to another server. A fresh one per call, because a slot holds one operation.
    [[nodiscard]] deadline_slot deadline()
    {
        deadline_slot made(core_);
        core_.watch();
        return made;
    }

    /// Operations may succeed: neither side has closed the connection, as far as is known without a
    /// read.
    bool is_open() const noexcept
    {
        return core_.is_open() && !core_.is_stopped() && !core_.end().has_transport_error();
    }

    /// The server drains: finish the current message, then return.
    bool draining() const noexcept
    {
        return core_.home.draining;
    }

    /// Unique in the process, never reused.
    std::uint64_t id() const noexcept
    {
        return core_.id();
    }

    /// The client, as it was when it was accepted: valid also when it is gone. Of a Unix socket's
    /// client mostly one without a path (`"unix:"`): few bind a name of their own.
    endpoint remote_endpoint() const noexcept
    {
        return core_.remote;
    }

    /// The address that the client connected to.
    endpoint local_endpoint() const noexcept
    {
        return core_.local;
    }

    /// The process that connected to a Unix socket, and its user; empty on TCP, when the connection
    /// is closed, and where the system does not tell.
    std::optional<fairlead::peer_credentials> peer_credentials() const noexcept
    {
        return core_.remote.is_unix()
                   ? detail::native::credentials_of_peer(core_.stream.native_handle())
                   : std::nullopt;
    }

    /// Payload so far; under TLS the plaintext.
    std::uint64_t bytes_read() const noexcept
    {
        return core_.bytes_read.get();
    }

    /// Payload so far; under TLS the plaintext.
    std::uint64_t bytes_written() const noexcept
    {
        return core_.bytes_written.get();
    }

    /// When it was accepted.
    std::chrono::steady_clock::time_point opened_at() const noexcept
    {
        return core_.accepted_at;
    }

    /// What the TLS handshake agreed upon; null on plain TCP. Valid as long as the connection.
    const tls_info* tls() const noexcept
    {
        return core_.tls.get();
    }

private:
    friend detail::connection_operations& detail::core_of(connection& connection) noexcept;

    friend detail::connection_ref detail::make_connection(
        detail::environment& home, detail::connection_owner& owner, const endpoint& remote);

    /// Connections are made by their server, and destroy themselves.
    connection(detail::environment& home, detail::connection_owner& owner, const endpoint& remote)
        : core_(home, owner, remote, *this)
    {}

    ~connection() = default;

    struct counted_core final : detail::connection_operations
    {
        using detail::connection_operations::connection_operations;

        void destroy() noexcept override
        {
            delete &face;
        }
    };

    counted_core core_;
};

namespace detail
{
/// The server's view of a connection.
inline connection_operations& core_of(connection& connection) noexcept
{
    return connection.core_;
}

inline connection_ref make_connection(
    environment& home, connection_owner& owner, const endpoint& remote)
{
    return connection_ref((new connection(home, owner, remote))->core_);
}
} // namespace detail
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_CONNECTION_HPP
