// Runs the random workload for many seeds:
//   workload [--first N] [--seeds N] [--twice] [--one] [--covered]
// or what a fuzzer has found, each file of a folder:
//   workload --replay FOLDER
#include "simulation/workload.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace
{
struct options
{
    std::uint64_t first = 1;
    std::uint64_t seeds = 100;
    bool is_twice = false;    // the same calls both times
    bool ends_at_one = false; // the first that fails is enough
    bool is_covered = false;  // every failure of the list must have struck
    std::string replayed;     // a folder; empty: none
};

/// False: there is none such.
bool read(options& into, int count, char** arguments)
{
    for (int at = 1; at < count; ++at) {
        const std::string_view word = arguments[at];
        if (word == "--first" && at + 1 < count) {
            into.first = std::stoull(arguments[++at]);
        } else if (word == "--seeds" && at + 1 < count) {
            into.seeds = std::stoull(arguments[++at]);
        } else if (word == "--twice") {
            into.is_twice = true;
        } else if (word == "--one") {
            into.ends_at_one = true;
        } else if (word == "--replay" && at + 1 < count) {
            into.replayed = arguments[++at];
        } else if (word == "--covered") {
            into.is_covered = true;
        } else {
            return false;
        }
    }
    return true;
}

/// How many of the list have not struck; each is named.
int not_reached(const workload::coverage& reached)
{
    int missing = 0;
    for (const auto& one : workload::faults()) {
        const auto calls = fairlead::testing::simulated::calls_named(one.calls);
        bool has_struck = false;
        for (const auto& [what, times] : reached) {
            has_struck = has_struck || (what.second == one.error &&
                                        calls.test(static_cast<std::size_t>(what.first)));
        }
        if (!has_struck) {
            ++missing;
            std::printf("never failed: %s with %s\n", one.calls, std::strerror(one.error));
        }
    }
    return missing;
}

/// The exit code. Nothing to replay is a failure: it would prove nothing.
int replay(const std::string& folder)
{
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        files.push_back(entry.path());
    }
    int failed = 0;
    for (const auto& each : files) {
        std::ifstream file(each, std::ios::binary);
        const std::vector<char> bytes{
            std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
        const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
        try {
            workload::replay(input);
        } catch (const std::exception& error) {
            ++failed;
            std::printf("%s: %s\n", each.c_str(), error.what());
        }
    }
    std::printf("%zu inputs, %d failed\n", files.size(), failed);
    return failed == 0 && !files.empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}
} // namespace

int main(int count, char** arguments)
{
    options how;
    if (!read(how, count, arguments)) {
        std::fprintf(
            stderr,
            "usage: %s [--first N] [--seeds N] [--twice] [--one] [--covered]\n"
            "       %s --replay FOLDER\n",
            arguments[0], arguments[0]);
        return 2;
    }
    if (!how.replayed.empty()) {
        return replay(how.replayed);
    }
    workload::coverage reached;
    std::uint64_t failed = 0;
    std::uint64_t seed = how.first;
    for (; seed < how.first + how.seeds && !(how.ends_at_one && failed != 0); ++seed) {
        try {
            const std::uint64_t hash = workload::run(seed, &reached);
            if (how.is_twice && hash != workload::run(seed)) {
                throw std::runtime_error("two runs differ");
            }
        } catch (const std::exception& error) {
            ++failed;
            std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), error.what());
            std::fflush(stdout);
        }
    }
    const int missing = how.is_covered ? not_reached(reached) : 0;
    std::printf(
        "%llu seeds, %llu failed\n", static_cast<unsigned long long>(seed - how.first),
        static_cast<unsigned long long>(failed));
    return failed == 0 && missing == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
