// A test program that skips, passes and fails; skipping.cmake looks at its exit codes.

#include "support/catch.hpp"

TEST_CASE("skips")
{
    SKIP_TEST("needs a machine from the future");
}

TEST_CASE("skips one of its values")
{
    if (GENERATE(1, 2) == 2) {
        SKIP_TEST("needs another machine from the future");
    }
    CHECK(true);
}

TEST_CASE("passes")
{
    CHECK(true);
}

TEST_CASE("fails and skips")
{
    CHECK(false);
    SKIP_TEST("needs luck");
}
