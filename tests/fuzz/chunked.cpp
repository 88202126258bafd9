#include "fuzz.hpp"
#include <fairlead/codec/chunked.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::input input(data, size);
    const std::size_t max_frame = input.limit();
    const std::size_t max_line = input.limit();
    const std::size_t max_trailers = input.limit();
    const fairlead::codec::chunked codec{
        .max_frame = max_frame, .max_line = max_line, .max_trailers = max_trailers};
    fuzz::check(codec, input.rest(), fuzz::promise::payload);
    return 0;
}
