#include <fairlead/testing/allocations.hpp>
#include <fairlead/testing/system_calls.hpp>
