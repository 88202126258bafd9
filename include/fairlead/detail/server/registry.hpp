// fairlead: the live connections of a server: a list for its own thread, and a table by id for
// everybody.

#ifndef FAIRLEAD_DETAIL_SERVER_REGISTRY_HPP
#define FAIRLEAD_DETAIL_SERVER_REGISTRY_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/integer_cast.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The id that was given last. A simulation begins with none, so that its runs repeat.
inline std::atomic<std::uint64_t>& last_connection_id() noexcept
{
    static std::atomic<std::uint64_t> last = 0;
    return last;
}

/// The part of a connection that the registry links. Its id is unique in the process.
class registry_entry : public list_hook<>
{
public:
    registry_entry() noexcept : id_(next_id())
    {}

    std::uint64_t id() const noexcept
    {
        return id_;
    }

    bool is_registered() const noexcept
    {
        return is_linked();
    }

private:
    template <typename>
    friend class registry;

    static std::uint64_t next_id() noexcept
    {
        return last_connection_id().fetch_add(1, std::memory_order_relaxed) + 1;
    }

    const std::uint64_t id_;
    registry_entry* next_in_bucket_ = nullptr;
    bool is_known_ = false; // by its id
};

/// Everything but `contains` and `visit_all` is for the server's thread. The table has a lock,
/// taken by these two, when a connection comes, and when it goes. The list has none: what walks it
/// may run users' code.
template <typename Entry>
class registry
{
public:
    bool empty() const noexcept
    {
        return list_.empty();
    }

    std::size_t size() const noexcept
    {
        return size_;
    }

    void insert(Entry& entry)
    {
        const std::lock_guard lock(mutex_);
        if (size_ >= buckets_.size()) {
            grow();
        }
        link(buckets_, entry);
        static_cast<registry_entry&>(entry).is_known_ = true;
        list_.push_back(entry);
        ++size_;
    }

    void erase(Entry& entry) noexcept
    {
        registry_entry& leaving = entry;
        leaving.unlink();
        const std::lock_guard lock(mutex_);
        registry_entry** link = &bucket(buckets_, leaving.id());
        while (*link != &leaving) {
            link = &(*link)->next_in_bucket_;
        }
        *link = leaving.next_in_bucket_;
        leaving.is_known_ = false;
        --size_;
    }

    /// Its id is known no longer; it stays in the list.
    void retire(Entry& entry) noexcept
    {
        const std::lock_guard lock(mutex_);
        static_cast<registry_entry&>(entry).is_known_ = false;
    }

    /// Whether a connection of this id is live. Any thread.
    bool contains(std::uint64_t id) const noexcept
    {
        const std::lock_guard lock(mutex_);
        return lookup(id) != nullptr;
    }

    /// Calls `visit(entry)` for each, in no particular order. Any thread: nobody comes or goes
    /// meanwhile, but the server's thread may be changing what it visits.
    template <typename Visitor>
    void visit_all(Visitor&& visit) const
    {
        const std::lock_guard lock(mutex_);
        for (const registry_entry* first : buckets_) {
            for (const registry_entry* each = first; each != nullptr;
                 each = each->next_in_bucket_) {
                visit(static_cast<const Entry&>(*each));
            }
        }
    }

    Entry* find(std::uint64_t id) noexcept
    {
        return static_cast<Entry*>(lookup(id)); // only this thread changes the table
    }

    /// The one that came first, or was moved to the back longest ago; the registry is not empty.
    Entry& front() noexcept
    {
        return list_.front();
    }

    void move_to_back(Entry& entry) noexcept
    {
        static_cast<registry_entry&>(entry).unlink();
        list_.push_back(entry);
    }

    /// `visit` may do anything, erase any entry included.
    template <typename Visitor>
    void for_each(Visitor&& visit)
    {
        list_.for_each(visit);
    }

private:
    using table = std::vector<registry_entry*>;

    static registry_entry*& bucket(table& buckets, std::uint64_t id) noexcept
    {
        return buckets[integer_cast<std::size_t>(id & (buckets.size() - 1))];
    }

    static void link(table& buckets, registry_entry& entry) noexcept
    {
        registry_entry*& head = bucket(buckets, entry.id());
        entry.next_in_bucket_ = head;
        head = &entry;
    }

    registry_entry* lookup(std::uint64_t id) const noexcept
    {
        registry_entry* entry =
            buckets_.empty() ? nullptr
                             : buckets_[integer_cast<std::size_t>(id & (buckets_.size() - 1))];
        while (entry != nullptr && entry->id() != id) {
            entry = entry->next_in_bucket_;
        }
        return entry != nullptr && entry->is_known_ ? entry : nullptr;
    }

    void grow()
    {
        table larger(buckets_.empty() ? 64 : buckets_.size() * 2, nullptr);
        for (registry_entry* each : buckets_) {
            while (each != nullptr) {
                link(larger, *std::exchange(each, each->next_in_bucket_));
            }
        }
        buckets_.swap(larger);
    }

    mutable std::mutex mutex_;
    intrusive_list<Entry> list_;
    table buckets_; // its size is a power of two
    std::size_t size_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_REGISTRY_HPP
