// fairlead: work that takes long, on other threads: the coroutine that waits for it stays on its own.

#ifndef FAIRLEAD_OFFLOAD_HPP
#define FAIRLEAD_OFFLOAD_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/offloading.hpp>

#include <asio/awaitable.hpp>

#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
/// What may be written as the function of `offload`: a pointer to a function or to a member, an
/// object without state such as a lambda that captures nothing, or the name of an object, which is
/// copied. Not a lambda that captures and is written on the spot: g++ 12 destroys its captures twice
/// when that is inside a `co_await`. Hand values as arguments, or name the lambda before.
template <typename Function>
concept offload_function =
    std::is_lvalue_reference_v<Function> || std::is_empty_v<std::remove_reference_t<Function>> ||
    std::is_pointer_v<std::decay_t<Function>> || std::is_member_pointer_v<std::decay_t<Function>>;

/// What may be an argument of `offload`: everything; with g++ 12 no temporary of an aggregate that
/// has to be destroyed (`request{std::move(text), 3}`), because it destroys that twice, too. Give it a
/// name and hand that, which copies it, or give the type a constructor.
template <typename Argument>
concept offload_argument =
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
    std::is_lvalue_reference_v<Argument> || !std::is_aggregate_v<std::remove_cvref_t<Argument>> ||
    std::is_trivially_destructible_v<std::remove_cvref_t<Argument>>;
#else
    true;
#endif

/// Runs `function(arguments...)` on `pool`, an `asio::thread_pool`, another context or an executor,
/// and goes on here, on the coroutine's own thread, with what it has returned. For work that would
/// keep a shard's other connections waiting.
///
/// Function and arguments are copied, or moved where they are temporaries or `std::move` is written,
/// and the function is called with the copies as `std::thread` does: it may take them by value, by
/// `const&` or by `&&`. A result that is a reference is copied.
/// \code
/// const std::string digest = co_await fairlead::offload(pool, slow_hash, std::move(text));
/// \endcode
///
/// Lifetime: the function runs on another thread and must not touch connections, nor the coroutine's
/// variables by reference. It runs to its end, whatever becomes of the connection; the coroutine
/// comes back in any case, and what it then does with a connection that has ended fails as always.
/// So a drain waits for it, as for every handler, and `run()` of the shard's context does not return
/// meanwhile. It cannot be cancelled. The pool outlives the call; a shard's context outlives the
/// work: join the pool before the context is destroyed, or let the server end in order, as `serve`
/// does.
///
/// Throws what the function throws; `asio::error::operation_aborted` when the pool was stopped
/// before it ran, or had no memory to queue it.
template <typename Pool, offload_function Function, offload_argument... Args>
    requires std::is_invocable_v<std::decay_t<Function>, std::decay_t<Args>...>
auto offload(Pool&& pool, Function&& function, Args&&... args) -> asio::awaitable<
    std::decay_t<std::invoke_result_t<std::decay_t<Function>, std::decay_t<Args>...>>>
{
    using call = detail::prepared_call<std::decay_t<Function>, std::decay_t<Args>...>;
    return detail::offload_to(
        detail::executor_of(pool),
        call(std::forward<Function>(function), std::forward<Args>(args)...));
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_OFFLOAD_HPP
