#include "fuzz.hpp"
#include <fairlead/codec/delimiter.hpp>

// Options: the limit, `keep`, how many delimiters, and of each its size and its bytes.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    fuzz::input input(data, size);
    fairlead::codec::delimiter codec;
    codec.max_frame = input.limit();
    codec.keep = input.flag();
    codec.delimiters.resize(input.byte() % 5);
    for (std::string& each : codec.delimiters) {
        each.resize(input.byte() % 6);
        for (char& byte : each) {
            byte = static_cast<char>(input.byte());
        }
    }
    // What another delimiter has ended may contain a part of the one that `encode` writes.
    const bool always = codec.delimiters.size() == 1;
    fuzz::check(
        codec, input.rest(), codec.keep ? fuzz::promise::frame : fuzz::promise::payload, always);
    return 0;
}
