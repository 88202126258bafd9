// fairlead: those who wait for a time, or for the end of their connection. What a sleep is to a
// handler, is in sleep.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_SLEEPING_HPP
#define FAIRLEAD_DETAIL_CONNECTION_SLEEPING_HPP

#include <fairlead/deadline_wheel.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>

#include <system_error>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A sleep that is pending. It keeps its connection, so it is gone before that.
class sleeping : public list_hook<>, public deadline_wheel::node
{
public:
    sleeping(const sleeping&) = delete;
    sleeping& operator=(const sleeping&) = delete;

    /// Takes it off its list and off the wheel; who sleeps is told later, by a post. It is gone then.
    virtual void end(const std::error_code& why) noexcept = 0;

protected:
    sleeping() noexcept : node(&sleeping::time_is_up)
    {}

    ~sleeping() = default;

private:
    static void time_is_up(node& expired, deadline_wheel::time_point)
    {
        static_cast<sleeping&>(expired).end({});
    }
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_SLEEPING_HPP
