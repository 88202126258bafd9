// CPU time of another process in nanoseconds, from the scheduler's own account of its threads.

#ifndef FAIRLEAD_BENCHMARKS_LOAD_SERVER_CPU_HPP
#define FAIRLEAD_BENCHMARKS_LOAD_SERVER_CPU_HPP

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace bench
{
/// The sum over /proc/PID/task/*/schedstat; 0 when there is no such process. Threads that have
/// ended are missing, those that run are late by at most one tick.
inline std::uint64_t process_cpu_nanoseconds(int pid)
{
    std::uint64_t sum = 0;
    std::error_code ignored;
    const auto tasks = "/proc/" + std::to_string(pid) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks, ignored)) {
        std::uint64_t on_cpu = 0;
        if (std::ifstream(task.path() / "schedstat") >> on_cpu)
            sum += on_cpu;
    }
    return sum;
}
} // namespace bench

#endif // FAIRLEAD_BENCHMARKS_LOAD_SERVER_CPU_HPP
