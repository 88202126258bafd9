// fairlead: the messages that a connection's handler receives: reads as much as a frame needs, and
// holds a buffer only while it has some of one. What a message looks like says the codec.

#ifndef FAIRLEAD_DETAIL_CONNECTION_FRAME_SOURCE_HPP
#define FAIRLEAD_DETAIL_CONNECTION_FRAME_SOURCE_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/codec/frame_reader.hpp>
#include <fairlead/codec/framed_options.hpp>
#include <fairlead/connection.hpp>
#include <fairlead/detail/connection/outbox.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
template <codec::codec In>
class frame_source
{
public:
    using frame = codec::frame_of<In>;

    /// What is queued in `box` is written before anything is waited for.
    frame_source(connection& stream, In rules, outbox& box, const codec::framed_options& options)
        : reader(std::move(rules)),
          connection_(stream),
          core_(core_of(stream)),
          outbox_(box),
          options_(options)
    {}

    frame_source(const frame_source&) = delete;
    frame_source& operator=(const frame_source&) = delete;

    ~frame_source()
    {
        core_.frame_ends();
        core_.home.buffers.give_back(reader.give_back());
    }

    void take_over(std::span<const std::byte> pending)
    {
        reader.feed(pending);
        note_unread();
    }

    /// A frame that is here. Empty: there is none, or `error` says why there will be none.
    std::optional<frame> take(std::error_code& error)
    {
        const std::optional<frame> found = reader.next(error);
        note_unread();
        if (found || error) {
            frame_is_over();
        }
        return found;
    }

    /// Waits until there is a frame, or a reason why there is none, for `take`. False: no more comes,
    /// or `error` says why.
    asio::awaitable<bool> fill(std::error_code& error)
    {
        error.clear();
        while (!reader.has_next()) {
            const bool has_more = co_await read_more(error);
            if (!has_more) {
                co_return false;
            }
        }
        frame_is_over();
        co_return true;
    }

    codec::frame_reader<In> reader;

private:
    /// Room for a read inside a frame, at least.
    static constexpr std::size_t smallest_read = std::size_t(4) << 10;

    /// It has no time limit any more.
    void frame_is_over() noexcept
    {
        core_.frame_ends();
        is_timed_ = false;
    }

    void note_unread() noexcept
    {
        outbox_.unread_input = reader.pending().size();
    }

    /// False: no more comes, or `error` says why.
    asio::awaitable<bool> read_more(std::error_code& error)
    {
        outbox_.flush();
        if (reader.pending().empty()) {
            core_.home.buffers.give_back(reader.give_back());
            const bool has_input = co_await connection_.readable(error);
            const bool goes_on = has_input || (connection_.draining() && !options_.ends_in_drain);
            if (error || !goes_on) {
                co_return false;
            }
            reader.lend(core_.home.buffers.take_block());
        } else if (options_.frame_timeout.count() > 0 && !std::exchange(is_timed_, true)) {
            core_.frame_begins(options_.frame_timeout);
        }
        const auto space = reader.prepare(
            std::clamp(reader.wanted(), smallest_read, smallest_read + reader.pending().size()));
        const std::size_t bytes =
            co_await connection_.read_some(asio::buffer(space.data(), space.size()), error);
        reader.commit(bytes);
        note_unread();
        if (bytes == 0 && !error && !reader.pending().empty()) {
            error = errc::truncated_frame;
            frame_is_over(); // no more comes of it: it is not late
        }
        co_return bytes != 0;
    }

    connection& connection_;
    connection_operations& core_;
    outbox& outbox_;
    codec::framed_options options_;
    bool is_timed_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_FRAME_SOURCE_HPP
