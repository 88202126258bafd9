// fairlead: what differs between the supported versions of Asio (1.22.1 and later), in one place.
// The only file that tests ASIO_VERSION; the others write `detail::token` and know nothing of
// versions.

#ifndef FAIRLEAD_DETAIL_UTIL_ASIO_HPP
#define FAIRLEAD_DETAIL_UTIL_ASIO_HPP

#include <fairlead/detail/namespace.hpp>

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
#include <asio/execution/executor.hpp>
#include <asio/execution/outstanding_work.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>

#include <concepts>
#include <tuple>
#include <type_traits>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The completion token of the library's own coroutines: `auto [ec, n] = co_await op(..., token);`,
/// no exception.
#if ASIO_VERSION >= 102300
inline constexpr auto token = asio::as_tuple(asio::deferred);
#else
inline constexpr auto token = asio::experimental::as_tuple(asio::use_awaitable);
#endif

/// A base of completion handlers that hold another one as `handler` and are to Asio what that one
/// is.
struct handler_wrapper
{};

/// Runs `function(handler, args...)`: the step between an operation of a socket and the operation
/// of a connection that is built on it.
template <typename Function, typename Handler>
struct wrapped_handler : handler_wrapper
{
    wrapped_handler(Function step, Handler wrapped)
        : function(std::move(step)), handler(std::move(wrapped))
    {}

    template <typename... Args>
    void operator()(Args&&... args)
    {
        function(std::move(handler), std::forward<Args>(args)...);
    }

    Function function;
    Handler handler;
};

/// Whether `associated`, which may be a type-erased executor, is `own`.
template <typename Executor, typename Associated>
bool is_same_executor(const Executor& own, const Associated& associated) noexcept
{
    if constexpr (std::is_same_v<Executor, Associated>) {
        return own == associated;
    } else if constexpr (requires { associated.template target<Executor>(); }) {
        const Executor* const target = associated.template target<Executor>();
        return target != nullptr && *target == own;
    } else {
        return false;
    }
}

/// Work of an executor's context, which does not run out of it meanwhile; released by the end of
/// this object, or handed on by a move. As Asio's own operations hold it: a strand over a
/// type-erased executor, which has both kinds of interface and only one that compiles, would not do
/// for `executor_work_guard`.
template <typename Executor>
class outstanding_work
{
public:
    explicit outstanding_work(const Executor& executor)
        : tracked_(track(executor)), executor_(executor)
    {}

    /// As it was given: it is not itself that work.
    const Executor& get_executor() const noexcept
    {
        return executor_;
    }

private:
    static auto track(const Executor& executor)
    {
        if constexpr (asio::execution::is_executor<Executor>::value) {
            return asio::prefer(executor, asio::execution::outstanding_work.tracked);
        } else { // of the Networking TS
            return asio::executor_work_guard<Executor>(executor);
        }
    }

    decltype(track(std::declval<const Executor&>())) tracked_;
    Executor executor_; // goes first: a strand is a part of the context that the work keeps
};

/// Posts to a context that perhaps another thread runs. `function` may be the last work there, and
/// the context be destroyed as soon as its `run` returns: that is not before the post, which signals
/// after it has queued, is through.
template <typename Executor, typename Function>
void post_elsewhere(const Executor& executor, Function&& function)
{
    const outstanding_work<Executor> until_posted(executor);
    asio::post(executor, std::forward<Function>(function));
}

/// What `post_completion` posts to an executor that is its handler's own, without asking for that.
template <typename Complete, typename Handler>
struct posted_completion
{
    using allocator_type = asio::associated_allocator_t<Handler>;

    allocator_type get_allocator() const noexcept
    {
        return asio::get_associated_allocator(completed);
    }

    void operator()()
    {
        complete(std::move(completed));
    }

    Complete complete;
    Handler completed;
};

/// Runs `std::move(handler)(args...)` on the handler's executor, or on `own` when it has none;
/// later, never inside the caller. When the two are the same, as they are for coroutines of the
/// server's own thread, nothing goes through a type-erased executor, and nothing is allocated once
/// warm.
template <typename Executor, typename Handler, typename... Args>
void post_completion(const Executor& own, Handler&& handler, Args... args)
{
    const auto associated = asio::get_associated_executor(handler, own);
    auto complete = [arguments =
                         std::tuple<Args...>(std::move(args)...)](auto&& completed) mutable {
        std::apply([&](Args&... values) { std::move(completed)(std::move(values)...); }, arguments);
    };
    if (is_same_executor(own, associated)) {
        using posted = posted_completion<decltype(complete), std::decay_t<Handler>>;
        asio::post(own, posted{std::move(complete), std::forward<Handler>(handler)});
    } else {
        post_elsewhere(
            associated, wrapped_handler{std::move(complete), std::forward<Handler>(handler)});
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

/// Executor, allocator and cancellation slot of a wrapper are those of what it wraps, except those
/// that it names itself.
template <
    template <typename, typename> class Associator, typename Wrapper, typename DefaultCandidate>
    requires std::derived_from<Wrapper, fairlead::detail::handler_wrapper>
struct asio::associator<Associator, Wrapper, DefaultCandidate>
    : Associator<decltype(Wrapper::handler), DefaultCandidate>
{
    using wrapped = Associator<decltype(Wrapper::handler), DefaultCandidate>;

    static typename wrapped::type get(const Wrapper& wrapper) noexcept
    {
        return wrapped::get(wrapper.handler);
    }

    static auto get(const Wrapper& wrapper, const DefaultCandidate& candidate) noexcept
        -> decltype(wrapped::get(wrapper.handler, candidate))
    {
        return wrapped::get(wrapper.handler, candidate);
    }
};

#endif // FAIRLEAD_DETAIL_UTIL_ASIO_HPP
