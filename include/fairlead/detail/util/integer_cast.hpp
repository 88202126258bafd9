// fairlead: a conversion between integer types that are one and the same on some machines, where
// static_cast would draw g++'s -Wuseless-cast, and two on others, where none would draw -Wconversion.

#ifndef FAIRLEAD_DETAIL_UTIL_INTEGER_CAST_HPP
#define FAIRLEAD_DETAIL_UTIL_INTEGER_CAST_HPP

#include <fairlead/detail/namespace.hpp>

#include <type_traits>

namespace FAIRLEAD_NAMESPACE::detail
{
/// `value` as a `To`, as static_cast converts it: the caller knows that it fits.
template <typename To, typename From>
constexpr To integer_cast(From value) noexcept
{
    if constexpr (std::is_same_v<To, From>) {
        return value;
    } else {
        return static_cast<To>(value);
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_INTEGER_CAST_HPP
