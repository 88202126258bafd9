// fairlead: a member function that is called at a time, through its owner's wheel. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP
#define FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP

#include <fairlead/deadline_wheel.hpp>
#include <fairlead/detail/namespace.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A part of its owner, which schedules and cancels it.
template <typename Owner>
class wheel_timer : public deadline_wheel::node
{
public:
    wheel_timer(Owner& owner, void (Owner::*action)())
        : node(&wheel_timer::expired), owner_(owner), action_(action)
    {}

    wheel_timer(const wheel_timer&) = delete;
    wheel_timer& operator=(const wheel_timer&) = delete;

    ~wheel_timer()
    {
        owner_.cancel(*this);
    }

private:
    static void expired(node& timer, deadline_wheel::time_point)
    {
        auto& self = static_cast<wheel_timer&>(timer);
        (self.owner_.*self.action_)();
    }

    Owner& owner_;
    void (Owner::*const action_)();
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP
