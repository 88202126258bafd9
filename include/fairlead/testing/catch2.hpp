// fairlead: simulations as Catch2 tests (version 2 or 3). Include Catch2 first.

#ifndef FAIRLEAD_TESTING_CATCH2_HPP
#define FAIRLEAD_TESTING_CATCH2_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/simulation.hpp>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace FAIRLEAD_NAMESPACE::testing
{
/// `FAIRLEAD_SEED` of the environment; where that is not set, one that is drawn.
inline std::uint64_t seed_of_this_run()
{
    if (const char* const told = std::getenv("FAIRLEAD_SEED")) {
        return std::stoull(told);
    }
    std::random_device device;
    return (std::uint64_t(device()) << 32U) | device();
}

/// `FAIRLEAD_TWICE` of the environment is set: every seed is run twice, and compared.
inline bool runs_twice()
{
    return std::getenv("FAIRLEAD_TWICE") != nullptr;
}
} // namespace FAIRLEAD_NAMESPACE::testing

#define FAIRLEAD_SIMULATION_NAMED(function, name, sim)                                             \
    static void function(::fairlead::testing::simulation& sim);                                    \
    TEST_CASE(name, "[simulation]")                                                                \
    {                                                                                              \
        const std::uint64_t seed = ::fairlead::testing::seed_of_this_run();                        \
        INFO("this run again: FAIRLEAD_SEED=" << seed);                                            \
        if (::fairlead::testing::runs_twice()) {                                                   \
            ::fairlead::testing::simulate_twice(seed, function);                                   \
        } else {                                                                                   \
            ::fairlead::testing::simulate(seed, function);                                         \
        }                                                                                          \
    }                                                                                              \
    static void function([[maybe_unused]] ::fairlead::testing::simulation& sim)
#define FAIRLEAD_SIMULATION_JOIN(left, right) left##right
#define FAIRLEAD_SIMULATION_NUMBERED(number, name, sim)                                            \
    FAIRLEAD_SIMULATION_NAMED(FAIRLEAD_SIMULATION_JOIN(fairlead_simulation_, number), name, sim)

/// A test whose body is given a `simulation& sim`. A failure tells the seed, which
/// `FAIRLEAD_SEED=` in the environment repeats; without it each run draws one.
#define FAIRLEAD_SIMULATION(name, sim) FAIRLEAD_SIMULATION_NUMBERED(__COUNTER__, name, sim)

#endif // FAIRLEAD_TESTING_CATCH2_HPP
