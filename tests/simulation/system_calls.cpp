#include <fairlead/testing/system_calls.hpp>
