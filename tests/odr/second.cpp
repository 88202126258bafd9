// The second of two translation units that include the whole library; see CMakeLists.txt beside this file.

#include <fairlead/fairlead.hpp>

const std::error_category* category_in_second();
std::uint16_t port_in_second();

namespace
{
// One include is enough for a handler that calls another server.
[[maybe_unused]] asio::awaitable<void> call(
    asio::ip::tcp::socket& upstream, asio::ip::tcp::resolver::results_type addresses)
{
    co_await asio::async_connect(upstream, addresses, asio::use_awaitable);
}

asio::awaitable<void> nothing(fairlead::connection&)
{
    co_return;
}
} // namespace

const std::error_category* category_in_second()
{
    return &fairlead::category();
}

std::uint16_t port_in_second()
{
    asio::io_context context;
    fairlead::tcp_server server(context, nothing, {.address = "127.0.0.1:0"});
    server.open();
    const std::uint16_t port = server.local_endpoint().port();
    server.close();
    return port;
}
