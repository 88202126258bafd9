// The other half of SKIP_TEST, linked into every test program: the exit code 77 when all that ran was skipped.
// Catch2 3 has a SKIP of its own, Catch2 2 has none; with this one both behave alike.

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using event_listener = Catch::EventListenerBase;
#else
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>
using event_listener = Catch::TestEventListenerBase;
#endif
#include "support/catch.hpp"

#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace
{
constexpr int skipped_exit_code = 77;

[[noreturn]] void exit_as_skipped()
{
    std::cout.flush();
    std::fflush(nullptr);
    std::_Exit(skipped_exit_code);
}

/// Counts, and has the last word on the exit code when there was nothing but skipped tests.
class skip_listener : public event_listener
{
public:
    using event_listener::event_listener;

    void testCaseStarting(const Catch::TestCaseInfo&) override
    {
        test::has_skipped() = false;
    }

    void testCaseEnded(const Catch::TestCaseStats& statistics) override
    {
        const bool failed = statistics.totals.testCases.failed > 0;
        all_skipped_ = all_skipped_ && !failed && test::has_skipped();
        ++test_cases_;
    }

    void testRunEnded(const Catch::TestRunStats&) override
    {
        if (all_skipped_ && test_cases_ > 0) {
            std::atexit(exit_as_skipped); // after Catch2 has printed its summary
        }
    }

private:
    bool all_skipped_ = true;
    int test_cases_ = 0;
};
} // namespace

CATCH_REGISTER_LISTENER(skip_listener)
