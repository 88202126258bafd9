// fairlead: what differs between the supported versions of Asio (1.22.1 and later), in one place.
// The only file that tests ASIO_VERSION; the others write `detail::token` and know nothing of
// versions.

#ifndef FAIRLEAD_DETAIL_ASIO_HPP
#define FAIRLEAD_DETAIL_ASIO_HPP

#include <asio/awaitable.hpp>
#include <asio/detail/config.hpp>
#include <asio/version.hpp>

#if ASIO_VERSION < 102201
#error "fairlead needs Asio 1.22.1 or later"
#endif

#if !defined(ASIO_HAS_CO_AWAIT)
#error "Asio has found no coroutines: compile as C++20 (README, Compatibility, for older Clang)"
#endif

#if ASIO_VERSION >= 102300
#include <asio/as_tuple.hpp>
#include <asio/deferred.hpp>
#else
#include <asio/experimental/as_tuple.hpp>
#include <asio/use_awaitable.hpp>
#endif

#include <asio/associated_allocator.hpp>
#include <asio/associated_executor.hpp>
#include <asio/associator.hpp>
#include <asio/post.hpp>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace fairlead::detail
{
/// The completion token of the library's own coroutines: `auto [ec, n] = co_await op(..., token);`,
/// no exception.
#if ASIO_VERSION >= 102300
inline constexpr auto token = asio::as_tuple(asio::deferred);
#else
inline constexpr auto token = asio::experimental::as_tuple(asio::use_awaitable);
#endif

/// A completion handler that runs `function(handler, args...)`, and is to Asio what `handler` is:
/// it has its executor, its allocator and its cancellation slot. The step between an operation of a
/// socket and the operation of a connection that is built on it.
template <typename Function, typename Handler>
struct wrapped_handler
{
    Function function;
    Handler handler;

    template <typename... Args>
    void operator()(Args&&... args)
    {
        function(std::move(handler), std::forward<Args>(args)...);
    }
};

template <typename Function, typename Handler>
wrapped_handler(Function, Handler) -> wrapped_handler<Function, Handler>;

/// Runs `std::move(handler)(args...)` on the handler's executor, later: never inside the caller.
template <typename Executor, typename Handler, typename... Args>
void post_completion(const Executor& fallback, Handler&& handler, Args... args)
{
    auto executor = asio::get_associated_executor(handler, fallback);
    asio::post(
        executor,
        wrapped_handler{
            [arguments = std::tuple<Args...>(std::move(args)...)](auto&& completed) mutable {
                std::apply(
                    [&](Args&... values) { std::move(completed)(std::move(values)...); },
                    arguments);
            },
            std::forward<Handler>(handler)});
}
} // namespace fairlead::detail

template <
    template <typename, typename> class Associator, typename Function, typename Handler,
    typename DefaultCandidate>
struct asio::associator<
    Associator, fairlead::detail::wrapped_handler<Function, Handler>, DefaultCandidate>
    : Associator<Handler, DefaultCandidate>
{
    using wrapper = fairlead::detail::wrapped_handler<Function, Handler>;

    static typename Associator<Handler, DefaultCandidate>::type get(const wrapper& wrapped) noexcept
    {
        return Associator<Handler, DefaultCandidate>::get(wrapped.handler);
    }

    static auto get(const wrapper& wrapped, const DefaultCandidate& candidate) noexcept
        -> decltype(Associator<Handler, DefaultCandidate>::get(wrapped.handler, candidate))
    {
        return Associator<Handler, DefaultCandidate>::get(wrapped.handler, candidate);
    }
};

#endif // FAIRLEAD_DETAIL_ASIO_HPP
