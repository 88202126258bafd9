// The first of two translation units that include the whole library; see CMakeLists.txt beside this file.

// Standard headers that bring names of ours by argument-dependent lookup, before us: std::quoted, for one.
#include <fairlead/fairlead.hpp>

#include <algorithm>
#include <cstdio>
#include <iomanip>
#include <ranges>

// What the other translation unit sees of the same objects.
const std::error_category* category_in_second();
std::uint16_t port_in_second();

namespace
{
asio::awaitable<void> nothing(fairlead::connection&)
{
    co_return;
}
} // namespace

int main()
{
    // One category object in the whole program, or equal error codes would compare unequal.
    if (&fairlead::category() != category_in_second()) {
        std::puts("the error category exists twice");
        return 1;
    }

    // The same templates instantiated in both.
    asio::io_context context;
    fairlead::tcp_server server(context, nothing, {.address = "127.0.0.1:0"});
    server.open();
    const bool open_in_both = server.local_endpoint().port() != 0 && port_in_second() != 0;
    server.close();
    return open_in_both ? 0 : 1;
}
