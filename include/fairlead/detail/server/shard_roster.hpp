// fairlead: the shards of one server that serve now, so that each can find the others. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_SHARD_ROSTER_HPP
#define FAIRLEAD_DETAIL_SERVER_SHARD_ROSTER_HPP

#include <fairlead/detail/namespace.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Keeps nobody alive. Any thread.
template <typename Member>
class shard_roster
{
public:
    void join(const std::shared_ptr<Member>& member)
    {
        const std::lock_guard lock(mutex_);
        members_.push_back(member);
    }

    /// Nothing when it is not there.
    void leave(const std::weak_ptr<Member>& member) noexcept
    {
        const std::lock_guard lock(mutex_);
        const auto is_same = [&](const std::weak_ptr<Member>& each) {
            return !each.owner_before(member) && !member.owner_before(each);
        };
        members_.erase(std::remove_if(members_.begin(), members_.end(), is_same), members_.end());
    }

    std::vector<std::weak_ptr<Member>> members() const
    {
        const std::lock_guard lock(mutex_);
        return members_;
    }

private:
    mutable std::mutex mutex_;
    std::vector<std::weak_ptr<Member>> members_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_SHARD_ROSTER_HPP
