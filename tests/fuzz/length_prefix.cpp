#include "fuzz.hpp"
#include <fairlead/codec/length_prefix.hpp>

#include <bit>
#include <cstddef>
#include <limits>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    constexpr std::ptrdiff_t far = std::numeric_limits<std::ptrdiff_t>::max();
    fuzz::input input(data, size);
    fairlead::codec::length_prefix codec;
    codec.length_bytes = input.one_of<std::size_t>({4, 1, 2, 3, 8, 5});
    codec.byte_order = input.flag() ? std::endian::little : std::endian::big;
    codec.length_offset = input.one_of<std::size_t>({0, 1, 2, 7});
    codec.length_adjustment = input.one_of<std::ptrdiff_t>(
        {0, 1, 2, -1, -2, -3, -4, -8, 100, far, far - 1, -far, -far - 1});
    // The header, or something else.
    const std::size_t header = codec.length_offset + codec.length_bytes;
    const std::size_t strip = input.byte();
    codec.bytes_to_strip = strip % 2 == 0 ? header : strip == 255 ? input.limit() : strip / 2;
    codec.max_frame = input.limit();
    const bool strips_header = codec.bytes_to_strip == header;
    fuzz::check(
        codec, input.rest(), strips_header ? fuzz::promise::payload : fuzz::promise::nothing,
        strips_header);
    return 0;
}
