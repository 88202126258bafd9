// fairlead: what may serve a connection.

#ifndef FAIRLEAD_HANDLER_HPP
#define FAIRLEAD_HANDLER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>

#include <asio/awaitable.hpp>

#include <concepts>
#include <type_traits>

namespace FAIRLEAD_NAMESPACE
{
class connection;

/// A callable `asio::awaitable<void>(connection&)`: a function, a lambda, or an object with state,
/// which may be move-only for `tcp_server` and is copied once per shard for `sharded_server`. It is
/// called once per connection, on the server's thread; its coroutine may use the handler's members
/// for as long as it runs. A lambda that captures must not itself be a temporary: the server keeps
/// the handler alive, as it is.
template <typename Handler>
concept connection_handler =
    std::move_constructible<Handler> && std::invocable<Handler&, connection&> &&
    std::same_as<std::invoke_result_t<Handler&, connection&>, asio::awaitable<void>>;

namespace detail
{
/// True for a null function pointer, an empty `std::function` and the like.
template <typename Handler>
bool is_empty_handler(const Handler& handler)
{
    if constexpr (requires { static_cast<bool>(handler == nullptr); }) {
        return handler == nullptr;
    } else {
        return false;
    }
}
} // namespace detail
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_HANDLER_HPP
