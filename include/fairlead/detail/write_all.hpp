// fairlead: a write of all of the buffers, which knows when the connection ends in the middle of it.

#ifndef FAIRLEAD_DETAIL_WRITE_ALL_HPP
#define FAIRLEAD_DETAIL_WRITE_ALL_HPP

#include <fairlead/detail/connection_io.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_state.hpp>
#include <asio/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <system_error>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
/// Some of the buffers of a sequence, from a byte on.
class buffer_window
{
public:
    template <typename ConstBuffers>
    buffer_window(const ConstBuffers& buffers, std::size_t skipped)
    {
        const auto end = asio::buffer_sequence_end(buffers);
        for (auto it = asio::buffer_sequence_begin(buffers); it != end && size_ < most; ++it) {
            asio::const_buffer buffer(*it);
            const std::size_t used = std::min(skipped, buffer.size());
            skipped -= used;
            buffer += used;
            if (buffer.size() != 0) {
                buffers_[size_++] = buffer;
            }
        }
    }

    const asio::const_buffer* begin() const noexcept
    {
        return buffers_.data();
    }

    const asio::const_buffer* end() const noexcept
    {
        return buffers_.data() + size_;
    }

private:
    static constexpr std::size_t most = 8;

    std::array<asio::const_buffer, most> buffers_;
    std::size_t size_ = 0;
};

inline asio::const_buffer rest_of(const asio::const_buffer& buffer, std::size_t written) noexcept
{
    return buffer + written;
}

template <typename ConstBuffers>
buffer_window rest_of(const ConstBuffers& buffers, std::size_t written)
{
    return buffer_window(buffers, written);
}

/// A write of all of the buffers, under way. Unlike `asio::async_write` it knows when the
/// connection ends between two parts of it.
template <typename ConstBuffers, typename Handler>
struct write_all_loop : handler_wrapper, runs_at_home
{
    using executor_type = shard::executor_type;
    using cancellation_slot_type = asio::cancellation_slot;

    write_all_loop(connection_operations& of, const ConstBuffers& what, Handler completed)
        : connection(of),
          executor(of.get_executor()),
          buffers(what),
          size(asio::buffer_size(what)),
          cancellation(
              asio::get_associated_cancellation_slot(completed),
              asio::enable_partial_cancellation()),
          handler(std::move(completed))
    {}

    /// It also hears what comes between two parts.
    cancellation_slot_type get_cancellation_slot() const noexcept
    {
        return cancellation.slot();
    }

    executor_type get_executor() const noexcept
    {
        return executor;
    }

    void operator()(const std::error_code& error, std::size_t bytes)
    {
        written += bytes;
        const bool is_cancelled = cancellation.cancelled() != asio::cancellation_type::none;
        if (!error && written != size && !is_cancelled) {
            start(std::move(*this));
            return;
        }
        const connection_ref keep = std::move(connection);
        keep->write_all_ends(written != 0 && written != size);
        const finish_behind_handler then(*keep);
        const bool is_whole = error || written == size;
        std::move(handler)(
            is_whole ? error : std::error_code(asio::error::operation_aborted), written);
    }

    static void start(write_all_loop self)
    {
        const initiate_write_some next{&*self.connection, write_kind::part};
        const auto rest = rest_of(self.buffers, self.written);
        next(std::move(self), rest);
    }

    connection_ref connection;
    executor_type executor;
    ConstBuffers buffers;
    std::size_t size;
    std::size_t written = 0;
    asio::cancellation_state cancellation;
    Handler handler;
};

struct initiate_write_all
{
    connection_operations* connection;

    template <typename Handler, typename ConstBuffers>
    void operator()(Handler&& handler, const ConstBuffers& buffers) const
    {
        if (const std::error_code refusal = connection->refuses_write(write_kind::whole)) {
            post_completion(
                connection->get_executor(), std::forward<Handler>(handler), refusal,
                std::size_t(0));
            return;
        }
        connection->write_all_begins(asio::buffer_size(buffers));
        try {
            at_home(*connection, std::forward<Handler>(handler), [&](auto&& local) {
                using loop = write_all_loop<ConstBuffers, std::decay_t<decltype(local)>>;
                loop::start(loop(*connection, buffers, std::forward<decltype(local)>(local)));
            });
        } catch (...) {
            connection->write_all_could_not_wait(asio::buffer_size(buffers));
            throw;
        }
    }
};

} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_WRITE_ALL_HPP
