// What the load generator sends, and how it knows that exactly that came back.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_PAYLOAD_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_PAYLOAD_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace bench
{
/// An endless stream of bytes: byte `i` of it repeats only after a prime number of bytes, so that a
/// lost, doubled or displaced piece shows whatever the message size is. Every connection begins
/// somewhere else in it.
class payload
{
public:
    /// No more is read or written in one go.
    static constexpr std::size_t largest_piece = 65536;

    payload() : bytes_(period + largest_piece)
    {
        std::mt19937 random(1);
        for (std::size_t i = 0; i < period; ++i)
            bytes_[i] = static_cast<char>(random() & 0xff);
        std::memcpy(bytes_.data() + period, bytes_.data(), period);
        for (std::size_t i = 2 * period; i < bytes_.size(); ++i)
            bytes_[i] = bytes_[i - period];
    }

    /// The stream from `position` on, valid for `largest_piece` bytes.
    const char* at(std::uint64_t position) const noexcept
    {
        return bytes_.data() + position % period;
    }

    bool matches(std::uint64_t position, const char* data, std::size_t size) const noexcept
    {
        return std::memcmp(at(position), data, size) == 0;
    }

private:
    static constexpr std::size_t period = 65521;

    std::vector<char> bytes_;
};
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_PAYLOAD_HPP
