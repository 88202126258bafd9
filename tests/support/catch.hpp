// fairlead tests: Catch2 3 where it is installed, else Catch2 2; tests keep to what both have.

#ifndef FAIRLEAD_TESTS_SUPPORT_CATCH_HPP
#define FAIRLEAD_TESTS_SUPPORT_CATCH_HPP

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif // FAIRLEAD_TESTS_SUPPORT_CATCH_HPP
