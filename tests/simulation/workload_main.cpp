// Runs the random workload for many seeds: workload [--first N] [--seeds N] [--twice]
#include "simulation/workload.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

int main(int count, char** arguments)
{
    std::uint64_t first = 1;
    std::uint64_t seeds = 100;
    bool is_twice = false;
    for (int at = 1; at < count; ++at) {
        const std::string_view word = arguments[at];
        if (word == "--first" && at + 1 < count) {
            first = std::stoull(arguments[++at]);
        } else if (word == "--seeds" && at + 1 < count) {
            seeds = std::stoull(arguments[++at]);
        } else if (word == "--twice") {
            is_twice = true;
        } else {
            std::fprintf(stderr, "usage: %s [--first N] [--seeds N] [--twice]\n", arguments[0]);
            return 2;
        }
    }
    std::uint64_t failed = 0;
    for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
        try {
            const std::uint64_t hash = workload::run(seed);
            if (is_twice && hash != workload::run(seed)) {
                throw std::runtime_error("two runs differ");
            }
        } catch (const std::exception& error) {
            ++failed;
            std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), error.what());
            std::fflush(stdout);
        }
    }
    std::printf(
        "%llu seeds, %llu failed\n", static_cast<unsigned long long>(seeds),
        static_cast<unsigned long long>(failed));
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
