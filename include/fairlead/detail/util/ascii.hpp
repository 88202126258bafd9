// fairlead: letters of ASCII, whatever the locale is: names on the wire are of those. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_ASCII_HPP
#define FAIRLEAD_DETAIL_UTIL_ASCII_HPP

#include <fairlead/detail/namespace.hpp>

#include <string>

namespace FAIRLEAD_NAMESPACE::detail
{
inline std::string lower_case(std::string text)
{
    for (char& c : text) {
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return text;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_ASCII_HPP
