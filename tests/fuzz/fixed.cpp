#include "fuzz.hpp"
#include <fairlead/codec/fixed.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::input input(data, size);
    const fairlead::codec::fixed codec{.size = input.limit()};
    fuzz::check(codec, input.rest(), fuzz::promise::payload);
    return 0;
}
