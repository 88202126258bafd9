// fairlead: one message to many connections of a shard.

#ifndef FAIRLEAD_CODEC_BROADCAST_HPP
#define FAIRLEAD_CODEC_BROADCAST_HPP

#include <fairlead/codec/codec.hpp>
#include <fairlead/codec/shared_message.hpp>
#include <fairlead/detail/namespace.hpp>

#include <cstddef>

namespace FAIRLEAD_NAMESPACE::codec
{
/// Queues `message` on each of `members`, a range of `framed` or of pointers to them, as
/// `framed::try_send` does: in its place among their other messages, without waiting and without a
/// copy each. Returns how many have taken it.
///
/// A member that has more than its high watermark queued already, or whose connection has ended,
/// is passed over, and `refused(member)` is called with it: to close it, or to remember that it has
/// missed something. What it was sent before is unharmed. So a slow reader holds up nobody, and no
/// more memory waits for it than its watermark and one message.
///
/// All members belong to the shard of the caller's thread. `refused` must not change the range.
/// Throws `std::bad_alloc`; then those before have taken it.
template <typename Members, codec Codec, typename Refused>
std::size_t broadcast(Members&& members, const shared_message<Codec>& message, Refused refused)
{
    std::size_t taken = 0;
    for (auto&& each : members) {
        auto& member = [&]() -> auto&
        {
            if constexpr (requires { each.try_send(message); }) {
                return each;
            } else {
                return *each;
            }
        }
        ();
        if (member.try_send(message)) {
            ++taken;
        } else {
            refused(member);
        }
    }
    return taken;
}

/// The same; who has refused it is left alone.
template <typename Members, codec Codec>
std::size_t broadcast(Members&& members, const shared_message<Codec>& message)
{
    return broadcast(members, message, [](auto&) {});
}
} // namespace FAIRLEAD_NAMESPACE::codec

namespace FAIRLEAD_NAMESPACE
{
using codec::broadcast;
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_CODEC_BROADCAST_HPP
