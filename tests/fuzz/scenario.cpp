// A whole scenario on the simulated kernel: the input decides which servers there are, what their
// clients do and when, which calls fail, and what the operator does. The first byte is the seed of
// the network. What must hold is what the random workload checks.

#include "simulation/workload.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    try {
        workload::replay(std::span(data, size));
    } catch (const std::exception& broken) {
        std::fprintf(stderr, "fuzz: %s\n", broken.what());
        std::abort();
    }
    return 0;
}
