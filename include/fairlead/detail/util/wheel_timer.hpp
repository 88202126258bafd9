// fairlead: a member function that is called at a time, on a wheel. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP
#define FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP

#include <fairlead/deadline_wheel.hpp>
#include <fairlead/detail/namespace.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A part of its owner. Scheduled and cancelled by who has the wheel.
template <typename Wheel, typename Owner>
class wheel_timer : public deadline_wheel::node
{
public:
    wheel_timer(Wheel& wheel, Owner& owner, void (Owner::*action)())
        : node(&wheel_timer::expired), wheel_(wheel), owner_(owner), action_(action)
    {}

    wheel_timer(const wheel_timer&) = delete;
    wheel_timer& operator=(const wheel_timer&) = delete;

    ~wheel_timer()
    {
        wheel_.cancel(*this);
    }

private:
    static void expired(node& timer, deadline_wheel::time_point)
    {
        auto& self = static_cast<wheel_timer&>(timer);
        (self.owner_.*self.action_)();
    }

    Wheel& wheel_;
    Owner& owner_;
    void (Owner::*const action_)();
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_WHEEL_TIMER_HPP
