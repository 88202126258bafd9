// fairlead: a task that is run by another context, and the way of its result back to who waits.

#ifndef FAIRLEAD_DETAIL_UTIL_OFFLOADING_HPP
#define FAIRLEAD_DETAIL_UTIL_OFFLOADING_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/asio.hpp>

#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/awaitable.hpp>
#include <asio/error.hpp>
#include <asio/use_awaitable.hpp>

#include <exception>
#include <functional>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A call that was prepared: of copies of everything, as `std::thread` makes it.
template <typename Function, typename... Args>
class prepared_call
{
public:
    using result = std::invoke_result_t<Function, Args...>;
    using stored = std::conditional_t<std::is_void_v<result>, std::monostate, std::decay_t<result>>;

    template <typename... Given>
    explicit prepared_call(Given&&... given) : parts_(std::forward<Given>(given)...)
    {}

    /// Once.
    stored operator()()
    {
        if constexpr (std::is_void_v<result>) {
            std::apply([](auto&... part) { std::invoke(std::move(part)...); }, parts_);
            return {};
        } else {
            return std::apply(
                [](auto&... part) -> stored { return std::invoke(std::move(part)...); }, parts_);
        }
    }

private:
    std::tuple<Function, Args...> parts_;
};

/// What is posted elsewhere. Who waits is told in any case: what goes without having run (the pool
/// was stopped) says `operation_aborted`. He must not go with it: this may be any thread.
template <typename Call, typename Handler>
class offloaded
{
public:
    using stored = typename Call::stored;

    offloaded(Call call, Handler waiting)
        : call_(std::move(call)),
          home_(asio::get_associated_executor(waiting)),
          handler_(std::move(waiting)),
          is_owed_(true)
    {}

    offloaded(offloaded&& other) noexcept(
        std::is_nothrow_move_constructible_v<Call>&& std::is_nothrow_move_constructible_v<Handler>)
        : call_(std::move(other.call_)),
          home_(other.home_),
          handler_(std::move(other.handler_)),
          is_owed_(std::exchange(other.is_owed_, false))
    {}

    offloaded& operator=(offloaded&&) = delete;

    ~offloaded()
    {
        if (is_owed_) {
            try {
                tell(
                    std::make_exception_ptr(std::system_error(
                        asio::error::make_error_code(asio::error::operation_aborted))),
                    {});
            } catch (...) { // no memory to say so: the coroutine goes
            }
        }
    }

    void operator()()
    {
        std::exception_ptr failure;
        std::optional<stored> value;
        try {
            value.emplace(call_());
        } catch (...) {
            failure = std::current_exception();
        }
        tell(std::move(failure), std::move(value));
    }

private:
    void tell(std::exception_ptr failure, std::optional<stored> value)
    {
        is_owed_ = false;
        const auto home = home_.get_executor();
        post_completion(home, std::move(handler_), std::move(failure), std::move(value));
    }

    Call call_;
    outstanding_work<asio::associated_executor_t<Handler>> home_;
    Handler handler_;
    bool is_owed_;
};

template <typename Executor, typename Call>
struct initiate_offload
{
    template <typename Handler>
    void operator()(Handler&& handler)
    {
        offloaded<Call, std::decay_t<Handler>> task(
            std::move(*call), std::forward<Handler>(handler));
        try {
            post_elsewhere(*executor, std::move(task));
        } catch (...) { // no memory: it has said so when it went
        }
    }

    const Executor* executor;
    Call* call;
};

template <typename Executor, typename Call>
asio::awaitable<std::decay_t<typename Call::result>> offload_to(Executor executor, Call call)
{
    using stored = typename Call::stored;
    using signature = void(std::exception_ptr, std::optional<stored>);
    // What is awaited is made of pointers: g++ 12 has its own ideas of when temporaries end.
    initiate_offload<Executor, Call> initiation{&executor, &call};
    std::optional<stored> value =
        co_await asio::async_initiate<const asio::use_awaitable_t<>, signature>(
            initiation, asio::use_awaitable);
    if constexpr (!std::is_void_v<typename Call::result>) {
        co_return std::move(*value);
    }
}

/// The executor of a context, or the executor that it is.
template <typename Pool>
auto executor_of(Pool& pool)
{
    if constexpr (requires { pool.get_executor(); }) {
        return pool.get_executor();
    } else {
        return pool;
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_OFFLOADING_HPP
