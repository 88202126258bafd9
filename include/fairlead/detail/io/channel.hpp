// fairlead: a stream's descriptor, and what is known of its readiness. Bytes move without waiting;
// a call that is known to come to nothing is not made. Who learns of readiness, and waits for it, is
// the socket around it.

#ifndef FAIRLEAD_DETAIL_IO_CHANNEL_HPP
#define FAIRLEAD_DETAIL_IO_CHANNEL_HPP

#include <fairlead/detail/io/attempt.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/io/send_file.hpp>
#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <cstdint>

namespace FAIRLEAD_NAMESPACE::detail
{
class channel
{
public:
    /// What a read would find.
    enum class input : std::uint8_t
    {
        nothing, // the kernel's queue was seen empty, and no event has come since
        perhaps,
        something, // an event has come, and nothing was read since: input, or the end
    };

    channel() = default;

    explicit channel(int descriptor) noexcept : descriptor_(descriptor)
    {}

    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;

    /// -1: closed.
    int descriptor() const noexcept
    {
        return descriptor_;
    }

    /// Nothing is known of it but that it can be written.
    void open(int descriptor, input first) noexcept
    {
        descriptor_ = descriptor;
        input_ = first;
        has_room_ = true;
        ends_ = false;
    }

    void close() noexcept
    {
        descriptor_ = -1;
        input_ = input::perhaps; // an attempt says that it is closed
        has_room_ = true;
    }

    // -- what is known

    input what_comes() const noexcept
    {
        return input_;
    }

    /// Waiting for it would be over at once, as far as is known.
    bool meets(attempt::condition condition) const noexcept
    {
        return condition == attempt::condition::writable ? has_room_ : input_ != input::nothing;
    }

    void input_has_come(input how) noexcept
    {
        input_ = how;
    }

    void room_has_come() noexcept
    {
        has_room_ = true;
    }

    /// The peer has finished or reset, or has sent urgent data, at which a read stops short; or it
    /// is a Unix socket's, where one stops behind a message with descriptors. That the kernel gave
    /// less than it was asked for proves nothing any more.
    void ends() noexcept
    {
        ends_ = true;
    }

    bool has_ended() const noexcept
    {
        return ends_;
    }

    // -- bytes

    native::io_result receive(void* data, std::size_t size) noexcept
    {
        return input_ == input::nothing ? native::io_result{.would_block = true}
                                        : received(native::receive(descriptor_, data, size), size);
    }

    template <typename MutableBuffers>
    native::io_result receive_buffers(const MutableBuffers& buffers) noexcept
    {
        if (input_ == input::nothing) {
            return {.would_block = true};
        }
        std::size_t size = 0; // that the kernel was asked for
        const auto result = native::receive_buffers(descriptor_, buffers, size);
        return received(result, size);
    }

    /// The next byte, without taking it.
    native::io_result peek(std::byte& first) noexcept
    {
        const auto result = input_ == input::nothing
                                ? native::io_result{.would_block = true}
                                : native::receive(descriptor_, &first, 1, MSG_PEEK);
        if (result.would_block) {
            input_ = input::nothing;
        }
        return result;
    }

    native::io_result send(const void* data, std::size_t size) noexcept
    {
        return has_room_ ? sent(native::send(descriptor_, data, size))
                         : native::io_result{.would_block = true};
    }

    template <typename ConstBuffers>
    native::io_result send_buffers(const ConstBuffers& buffers) noexcept
    {
        return has_room_ ? sent(native::send_buffers(descriptor_, buffers))
                         : native::io_result{.would_block = true};
    }

    /// From a file.
    native::io_result send_file(int from, std::uint64_t offset, std::size_t size) noexcept
    {
        return has_room_ ? sent(native::send_file(descriptor_, from, offset, size))
                         : native::io_result{.would_block = true};
    }

private:
    native::io_result received(const native::io_result& result, std::size_t size) noexcept
    {
        ends_ = ends_ || (result.bytes == 0 && size != 0 && !result.would_block);
        const bool is_empty = result.would_block || (result.bytes < size && !ends_);
        input_ = is_empty ? input::nothing : input::perhaps;
        return result;
    }

    native::io_result sent(const native::io_result& result) noexcept
    {
        has_room_ = !result.would_block;
        return result;
    }

    int descriptor_ = -1;
    input input_ = input::perhaps;
    bool has_room_ = true;
    bool ends_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_CHANNEL_HPP
