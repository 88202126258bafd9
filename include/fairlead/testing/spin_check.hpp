// fairlead: in a simulation time stands still while anything can run: who never rests is found out.

#ifndef FAIRLEAD_TESTING_SPIN_CHECK_HPP
#define FAIRLEAD_TESTING_SPIN_CHECK_HPP

#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/kernel/trace.hpp>

#include <cstdint>
#include <string>

namespace fairlead::testing
{
class spin_check
{
public:
    /// Throws `simulation_failure` after a million calls at one moment.
    void look(simulated::instant now, const simulated::trace& record)
    {
        if (now != stands_at_) {
            stands_at_ = now;
            calls_before_ = record.count();
        } else if (record.count() - calls_before_ > most_calls) {
            throw simulation_failure(
                "it spins: " + std::to_string(most_calls) +
                " calls while no time passed. The last of them:\n" + record.last(12));
        }
    }

private:
    static constexpr std::uint64_t most_calls = 1'000'000;

    simulated::instant stands_at_{};
    std::uint64_t calls_before_ = 0;
};
} // namespace fairlead::testing

#endif // FAIRLEAD_TESTING_SPIN_CHECK_HPP
