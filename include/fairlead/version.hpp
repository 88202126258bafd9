// fairlead: the version, written here and nowhere else; CMake, the package files and the README
// read it.

#ifndef FAIRLEAD_VERSION_HPP
#define FAIRLEAD_VERSION_HPP

#include <fairlead/detail/namespace.hpp>

#define FAIRLEAD_VERSION_MAJOR 0
#define FAIRLEAD_VERSION_MINOR 1
#define FAIRLEAD_VERSION_PATCH 0

namespace FAIRLEAD_NAMESPACE
{
/// The library's version as numbers, for a comparison at compile time.
struct version_numbers
{
    int major_number;
    int minor_number;
    int patch_number;
};

/// The version of these headers. While the major number is 0, a new minor number may break source
/// compatibility.
inline constexpr version_numbers version{
    FAIRLEAD_VERSION_MAJOR, FAIRLEAD_VERSION_MINOR, FAIRLEAD_VERSION_PATCH};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_VERSION_HPP
