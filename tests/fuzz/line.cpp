#include "fuzz.hpp"
#include <fairlead/codec/line.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::input input(data, size);
    const std::size_t max_frame = input.limit();
    const std::size_t flags = input.byte();
    const fairlead::codec::line codec{
        .max_frame = max_frame, .keep = (flags & 1) != 0, .crlf = (flags & 2) != 0};
    fuzz::check(codec, input.rest(), codec.keep ? fuzz::promise::frame : fuzz::promise::payload);
    return 0;
}
