#include "simulation/conformance.hpp"
#include "support/catch.hpp"
#include <fairlead/testing/kernel/kernel.hpp>

#include <cstdlib>

namespace
{
void compare(const conformance::row& row)
{
    conformance::transcript real;
    row.run(real);
    conformance::transcript simulated;
    {
        fairlead::testing::simulated::kernel kernel(1);
        row.run(simulated);
        CHECK(kernel.table.count() == 0);
    }
    INFO(row.name);
    CHECK(simulated.text() == real.text());
}
} // namespace

TEST_CASE("sockets answer on the simulated kernel as on the real one", "[conformance]")
{
    for (const conformance::row& row : conformance::connection_rows()) {
        compare(row);
    }
}

TEST_CASE("what waits is told on the simulated kernel as on the real one", "[conformance]")
{
    for (const conformance::row& row : conformance::waiting_rows()) {
        compare(row);
    }
}

TEST_CASE("the conformance table has rows enough to mean something", "[conformance]")
{
    CHECK(conformance::connection_rows().size() + conformance::waiting_rows().size() >= 60);
}
