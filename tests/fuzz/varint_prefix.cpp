#include "fuzz.hpp"
#include <fairlead/codec/varint_prefix.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::input input(data, size);
    const fairlead::codec::varint_prefix codec{.max_frame = input.limit()};
    fuzz::check(codec, input.rest(), fuzz::promise::payload);
    return 0;
}
