// fairlead: who wants to know that the peer has gone. Ring 0.

#ifndef FAIRLEAD_DETAIL_IO_HANG_UP_LISTENER_HPP
#define FAIRLEAD_DETAIL_IO_HANG_UP_LISTENER_HPP

#include <fairlead/detail/namespace.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
class hang_up_listener
{
public:
    /// The peer's FIN or reset has arrived, perhaps behind input that nobody has read. Calls no
    /// user's code.
    virtual void peer_has_gone() = 0;

protected:
    ~hang_up_listener() = default;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_HANG_UP_LISTENER_HPP
