// fairlead: the numbers of a simulation's open files.

#ifndef FAIRLEAD_TESTING_KERNEL_DESCRIPTORS_HPP
#define FAIRLEAD_TESTING_KERNEL_DESCRIPTORS_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/epoll.hpp>
#include <fairlead/testing/kernel/file.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
/// The lowest free number is given, from one on that no real descriptor has.
class descriptor_table
{
public:
    static constexpr int first = 1 << 24;

    descriptor_table() = default;
    descriptor_table(const descriptor_table&) = delete;
    descriptor_table& operator=(const descriptor_table&) = delete;

    ~descriptor_table()
    {
        for (std::size_t index = 0; index < entries_.size(); ++index) {
            close(first + static_cast<int>(index));
        }
    }

    /// The number, or -EMFILE.
    answer open(const file_ptr& opened, bool closes_on_exec, bool is_of_peer)
    {
        if (is_full(is_of_peer)) {
            return -EMFILE;
        }
        auto free = std::find_if(
            entries_.begin() + static_cast<std::ptrdiff_t>(lowest_), entries_.end(),
            [](const entry& one) { return one.of == nullptr; });
        if (free == entries_.end()) {
            entries_.emplace_back();
            free = std::prev(entries_.end());
        }
        lowest_ = static_cast<std::size_t>(free - entries_.begin());
        *free = {opened, closes_on_exec, is_of_peer};
        ++opened->descriptors;
        count_ += is_of_peer ? 0U : 1U;
        return first + static_cast<int>(lowest_);
    }

    bool is_full(bool is_of_peer) const noexcept
    {
        return !is_of_peer && count_ >= limit;
    }

    answer close(int fd)
    {
        entry* const at = entry_of(fd);
        if (at == nullptr) {
            return -EBADF;
        }
        count_ -= at->is_of_peer ? 0U : 1U;
        const file_ptr closed = std::exchange(at->of, nullptr);
        lowest_ = std::min(lowest_, static_cast<std::size_t>(fd - first));
        if (--closed->descriptors == 0) {
            for (const entry& other : entries_) {
                if (auto* const waits = dynamic_cast<epoll*>(other.of.get())) {
                    waits->forget(*closed);
                }
            }
            closed->release();
        }
        return 0;
    }

    /// Null: not open.
    file_ptr find(int fd) const noexcept
    {
        const entry* const at = const_cast<descriptor_table*>(this)->entry_of(fd);
        return at == nullptr ? nullptr : at->of;
    }

    bool closes_on_exec(int fd) const noexcept
    {
        const entry* const at = const_cast<descriptor_table*>(this)->entry_of(fd);
        return at != nullptr && at->closes_on_exec;
    }

    void set_close_on_exec(int fd, bool closes) noexcept
    {
        if (entry* const at = entry_of(fd)) {
            at->closes_on_exec = closes;
        }
    }

    /// `visit(number, file)` for each.
    template <typename Visit>
    void for_each(Visit visit) const
    {
        for (std::size_t index = 0; index < entries_.size(); ++index) {
            if (entries_[index].of != nullptr) {
                visit(first + static_cast<int>(index), *entries_[index].of);
            }
        }
    }

    /// Of the program under test.
    std::size_t count() const noexcept
    {
        return count_;
    }

    static bool has_number(int fd) noexcept
    {
        return fd >= first;
    }

    /// As RLIMIT_NOFILE, for the program under test: how many may be open.
    std::size_t limit = std::numeric_limits<std::size_t>::max();

private:
    struct entry
    {
        file_ptr of;
        bool closes_on_exec = false;
        bool is_of_peer = false;
    };

    entry* entry_of(int fd) noexcept
    {
        const auto index = static_cast<std::size_t>(fd - first);
        return fd < first || index >= entries_.size() || entries_[index].of == nullptr
                   ? nullptr
                   : &entries_[index];
    }

    std::vector<entry> entries_;
    std::size_t lowest_ = 0; // nothing below is free
    std::size_t count_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_DESCRIPTORS_HPP
