// fairlead: what `connection::shutdown_send` returns.

#ifndef FAIRLEAD_HALF_CLOSE_HPP
#define FAIRLEAD_HALF_CLOSE_HPP

#include <fairlead/detail/namespace.hpp>

#include <asio/awaitable.hpp>

#include <utility>

namespace FAIRLEAD_NAMESPACE
{
/// What `connection::shutdown_send` returns: may be awaited, and may be ignored.
class half_close : public asio::awaitable<void>
{
public:
    explicit half_close(asio::awaitable<void> completion) noexcept
        : asio::awaitable<void>(std::move(completion))
    {}
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_HALF_CLOSE_HPP
