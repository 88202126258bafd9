// fairlead tests: Catch2 3 where it is installed, else Catch2 2; tests keep to what both have, and skip by SKIP_TEST.

#ifndef FAIRLEAD_TESTS_SUPPORT_CATCH_HPP
#define FAIRLEAD_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_message.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace test
{
/// Whether the test case that runs has skipped anything; support/skip.cpp asks and resets.
inline bool& has_skipped() noexcept
{
    static bool skipped = false;
    return skipped;
}

/// UndefinedBehaviorSanitizer, which is built together with AddressSanitizer, asks a pipe whether memory is readable,
/// and takes objects for broken when it gets no descriptor for one.
constexpr bool sanitizer_needs_descriptors()
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#else
    return false;
#endif
}
} // namespace test

/// Leaves the function, which returns nothing, because this machine cannot run the test: a tool is missing, say. The
/// reason is printed. A program all of whose tests were skipped, and under ctest each test is a program of its own,
/// exits with 77, which ctest calls "skipped"; a check that has failed before counts all the same.
#define SKIP_TEST(reason)                                                                          \
    do {                                                                                           \
        ::test::has_skipped() = true;                                                              \
        WARN("SKIPPED: " << (reason));                                                             \
        return;                                                                                    \
    } while (false)

#endif // FAIRLEAD_TESTS_SUPPORT_CATCH_HPP
