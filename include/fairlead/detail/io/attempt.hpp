// fairlead: what one attempt to move bytes came to. Ring 0.

#ifndef FAIRLEAD_DETAIL_IO_ATTEMPT_HPP
#define FAIRLEAD_DETAIL_IO_ATTEMPT_HPP

#include <fairlead/detail/namespace.hpp>

#include <cstddef>
#include <cstdint>
#include <system_error>
#include <type_traits>

namespace FAIRLEAD_NAMESPACE::detail
{
/// To be copied, which costs nothing.
inline const std::error_code no_error;

/// An error of which having none costs nothing: an empty `std::error_code` is a call into the
/// standard library to make, and a message has a dozen of them on its way.
class failure
{
public:
    constexpr failure() noexcept = default;

    // NOLINTNEXTLINE(google-explicit-constructor): one is the other
    failure(const std::error_code& error) noexcept
        : value_(error.value()), category_(error ? &error.category() : nullptr)
    {}

    template <typename Enum>
        requires std::is_error_code_enum_v<Enum> // NOLINTNEXTLINE(google-explicit-constructor)
        failure(Enum error)
    noexcept : failure(std::error_code(error))
    {}

    explicit operator bool() const noexcept
    {
        return category_ != nullptr;
    }

    // NOLINTNEXTLINE(google-explicit-constructor): one is the other
    operator std::error_code() const noexcept
    {
        return category_ != nullptr ? std::error_code(value_, *category_) : no_error;
    }

private:
    int value_ = 0;
    const std::error_category* category_ = nullptr;
};

/// What an attempt came to, and for what to wait before the next one.
struct attempt
{
    enum class condition : std::uint8_t
    {
        nothing,
        readable,
        writable,
        /// The client's hello is complete: `tls_engine::admit`.
        admission,
    };

    std::size_t bytes = 0;
    condition waits_for = condition::nothing;
    failure error = {};
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_ATTEMPT_HPP
