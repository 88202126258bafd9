// fairlead: what the members of connection that take more than one step do.

#ifndef FAIRLEAD_DETAIL_CONNECTION_VERBS_HPP
#define FAIRLEAD_DETAIL_CONNECTION_VERBS_HPP

#include <fairlead/detail/connection/closing.hpp>
#include <fairlead/detail/connection/io.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>

#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <type_traits>

namespace FAIRLEAD_NAMESPACE::detail
{
template <typename MutableBuffers, typename Token>
auto read_some(connection_operations& connection, const MutableBuffers& buffers, Token completion)
{
    return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
        initiate_read_some<complete_with_zero_at_end>{&connection}, completion, buffers);
}

template <typename ConstBuffers, typename Token>
auto write_all(connection_operations& connection, const ConstBuffers& buffers, Token completion)
{
    if constexpr (std::is_convertible_v<const ConstBuffers&, asio::const_buffer>) {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            initiate_write_all{&connection}, completion, asio::const_buffer(buffers));
    } else {
        return asio::async_initiate<Token, void(std::error_code, std::size_t)>(
            initiate_write_all{&connection}, completion, buffers);
    }
}

template <typename Token>
auto wait_for_input(connection_operations& connection, Token completion)
{
    return asio::async_initiate<Token, void(std::error_code, bool)>(
        initiate_wait_input{&connection}, completion);
}

/// Without waiting, and so without an operation: what `readable()` has found.
template <typename MutableBuffers>
asio::awaitable<std::size_t> read_at_hand(
    connection_operations& connection, MutableBuffers buffers, std::error_code& error)
{
    if (connection.may_read_at_hand()) { // it was, when this was called
        if (const auto bytes = connection.read_at_hand(buffers, error)) {
            co_return *bytes;
        }
    }
    co_return co_await read_some(
        connection, buffers, asio::redirect_error(asio::use_awaitable, error));
}

template <typename MutableBuffers>
asio::awaitable<std::size_t> read_at_hand(connection_operations& connection, MutableBuffers buffers)
{
    std::error_code error;
    const std::size_t bytes = co_await read_at_hand(connection, buffers, error);
    if (error) {
        throw std::system_error(error);
    }
    co_return bytes;
}

/// Fills the buffers, unless the stream ends.
template <typename MutableBuffers>
asio::awaitable<std::size_t> read_all(
    connection_operations& connection, MutableBuffers buffers, std::error_code& error)
{
    error.clear();
    std::size_t total = 0;
    const auto end = asio::buffer_sequence_end(buffers);
    for (auto it = asio::buffer_sequence_begin(buffers); it != end; ++it) {
        asio::mutable_buffer rest(*it);
        while (rest.size() != 0) {
            std::size_t bytes = 0;
            if (connection.may_read_at_hand()) {
                bytes = co_await read_at_hand(connection, rest, error);
            } else {
                bytes = co_await read_some(
                    connection, rest, asio::redirect_error(asio::use_awaitable, error));
            }
            if (bytes == 0) {
                if (!error && total != 0) {
                    error = asio::error::eof;
                }
                co_return total;
            }
            total += bytes;
            rest += bytes;
        }
    }
    co_return total;
}

template <typename Token>
auto read_ahead(connection_operations& connection, Token completion)
{
    return asio::async_initiate<Token, void(std::error_code, bool)>(
        initiate_read_ahead{&connection}, completion);
}

inline asio::awaitable<std::span<const std::byte>> peek(
    connection_operations& connection, std::size_t size, std::error_code& error)
{
    error.clear();
    if (size > prefetch::most) {
        error = std::make_error_code(std::errc::invalid_argument);
        co_return std::span<const std::byte>();
    }
    connection.late_pre_open_begins(connection.accepted_at);
    while (connection.stream.ahead().size() < size) {
        const bool has_more =
            co_await read_ahead(connection, asio::redirect_error(asio::use_awaitable, error));
        if (!has_more) {
            break;
        }
    }
    connection.late_pre_open_ends();
    const auto ahead = connection.stream.ahead();
    co_return ahead.first(std::min(ahead.size(), size));
}

/// `connection::send_file`
inline asio::awaitable<std::uint64_t> send_file(
    connection_operations& connection, int fd, std::uint64_t offset, std::uint64_t size,
    std::error_code& error)
{
    if (!file_source::can_be(offset, size)) {
        error = std::make_error_code(std::errc::invalid_argument);
        co_return 0;
    }
    file_source file(fd, offset, integer_cast<std::size_t>(size), connection.home.buffers);
    auto completion = asio::redirect_error(asio::use_awaitable, error);
    const std::size_t bytes =
        co_await asio::async_initiate<decltype(completion), void(std::error_code, std::size_t)>(
            initiate_send_file{&connection, &file}, completion);
    if (!error) {
        error = file.failure();
    }
    co_return bytes;
}

inline asio::awaitable<void> completed()
{
    co_return;
}

inline asio::awaitable<void> wait_until_sent(connection_operations& connection)
{
    const connection_ref keep(connection); // it may run in a coroutine that nobody waits for
    while (!connection.is_sending_over()) {
        co_await asio::async_initiate<const asio::use_awaitable_t<>, void(std::error_code)>(
            initiate_sent_wait{&connection}, asio::use_awaitable);
    }
    if (const std::error_code error = connection.why_not_finished()) {
        throw std::system_error(error);
    }
}

/// `connection::shutdown_send`
inline asio::awaitable<void> finish_sending(connection_operations& connection)
{
    if (connection.end().refuses_write() || !connection.is_open()) {
        return completed(); // it has ended, as somebody has been told
    }
    connection.sending_shall_end();
    if (connection.output) {
        connection.output->flush();
    }
    finish_when_asked(connection);
    const bool is_done = connection.is_sending_over() && !connection.why_not_finished();
    return is_done ? completed() : wait_until_sent(connection);
}

template <typename Initiation>
asio::awaitable<void> wait_with(Initiation initiation)
{
    return asio::async_initiate<const asio::use_awaitable_t<>, void(std::error_code)>(
        initiation, asio::use_awaitable);
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_VERBS_HPP
