// fairlead: epoll(7), level- and edge-triggered, one-shot and nested, with Linux's rules of who is
// on the ready list (fs/eventpoll.c): a wake-up puts an item there, a wait takes it off, and a
// level-triggered item that is still ready goes back to the end.

#ifndef FAIRLEAD_TESTING_KERNEL_EPOLL_HPP
#define FAIRLEAD_TESTING_KERNEL_EPOLL_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/file.hpp>
#include <fairlead/testing/random.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <sys/epoll.h>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class epoll final : public file
{
public:
    /// How a kernel may disturb a wait.
    struct disturbances
    {
        random_source* random = nullptr;
        double reorder = 0;  // probability that a wait sees its events in another order
        double spurious = 0; // probability that it sees one that does not hold
    };

    epoll() = default;

    ~epoll() override
    {
        release();
    }

    std::string name() const override
    {
        return "epoll of " + std::to_string(items_.size());
    }

    std::uint32_t poll() override
    {
        drop_unready();
        return ready_.empty() ? 0U : static_cast<std::uint32_t>(EPOLLIN | EPOLLRDNORM);
    }

    answer control(int operation, int descriptor, const file_ptr& target, const epoll_event* event)
    {
        if (operation != EPOLL_CTL_DEL && event == nullptr) {
            return -EFAULT;
        }
        if (target.get() == this) {
            return -EINVAL;
        }
        const key found_by(descriptor, target.get());
        const auto found = items_.find(found_by);
        switch (operation) {
        case EPOLL_CTL_ADD:
            return found != items_.end() ? answer(-EEXIST) : add(found_by, target, *event);
        case EPOLL_CTL_MOD:
            return found == items_.end() ? answer(-ENOENT) : modify(*found->second, *event);
        case EPOLL_CTL_DEL:
            if (found == items_.end()) {
                return -ENOENT;
            }
            erase(found);
            return 0;
        default:
            return -EINVAL;
        }
    }

    answer wait(std::span<epoll_event> told, const disturbances& how)
    {
        std::vector<item*> round = std::move(ready_);
        ready_.clear();
        if (how.random != nullptr && how.random->chance(how.reorder)) {
            how.random->shuffle(round);
        }
        std::size_t count = 0;
        std::size_t seen = 0;
        std::vector<item*> again;
        for (; seen < round.size() && count < told.size(); ++seen) {
            item& one = *round[seen];
            one.is_ready = false;
            const std::uint32_t events = one.target->poll() & one.wanted();
            if (events == 0) {
                continue;
            }
            told[count].events = events;
            told[count++].data = one.event.data;
            if ((one.event.events & EPOLLONESHOT) != 0) {
                one.event.events &= private_bits;
            } else if ((one.event.events & EPOLLET) == 0) {
                one.is_ready = true;
                again.push_back(&one);
            }
        }
        // What did not fit comes first next time; what is still ready comes last.
        ready_.insert(
            ready_.begin(), round.begin() + static_cast<std::ptrdiff_t>(seen), round.end());
        ready_.insert(ready_.end(), again.begin(), again.end());
        if (count < told.size() && how.random != nullptr && how.random->chance(how.spurious)) {
            count += lie(told[count], *how.random);
        }
        return static_cast<answer>(count);
    }

    /// A descriptor of `gone` was the last: as Linux does, its items leave every epoll.
    void forget(const file& gone) noexcept
    {
        for (auto at = items_.begin(); at != items_.end();) {
            at = at->first.second == &gone ? erase(at) : std::next(at);
        }
    }

    void release() override
    {
        while (!items_.empty()) {
            erase(items_.begin());
        }
    }

    bool reaches(const file& other) const noexcept
    {
        for (const auto& entry : items_) {
            const auto* const nested = dynamic_cast<const epoll*>(entry.first.second);
            if (entry.first.second == &other || (nested != nullptr && nested->reaches(other))) {
                return true;
            }
        }
        return false;
    }

    /// For people: what it waits for.
    std::string wishes() const
    {
        std::string all;
        for (const auto& [where, one] : items_) {
            all +=
                "    descriptor " + std::to_string(where.first) + ", " + one->target->name() + "\n";
        }
        return all;
    }

private:
    using key = std::pair<int, const file*>;

    static constexpr std::uint32_t private_bits =
        EPOLLWAKEUP | EPOLLONESHOT | static_cast<std::uint32_t>(EPOLLET) | EPOLLEXCLUSIVE;

    /// Hang-ups and errors are told unasked.
    static epoll_event with_unasked(epoll_event asked) noexcept
    {
        asked.events |= EPOLLERR | EPOLLHUP;
        return asked;
    }

    struct item final : watcher
    {
        item(epoll& of, file_ptr watched, const epoll_event& asked)
            : owner(of), target(std::move(watched)), event(with_unasked(asked))
        {
            target->add_watcher(*this);
        }

        ~item()
        {
            target->remove_watcher(*this);
        }

        std::uint32_t wanted() const noexcept
        {
            return is_off() ? 0U : event.events;
        }

        bool is_off() const noexcept // a one-shot that has been told
        {
            return (event.events & ~private_bits) == 0;
        }

        void file_woke(std::uint32_t key) override
        {
            if (!is_off() && (key == 0 || (key & wanted()) != 0)) {
                owner.enter(*this);
            }
        }

        epoll& owner;
        file_ptr target;
        epoll_event event;
        bool is_ready = false; // on the list
    };

    using table = std::map<key, std::unique_ptr<item>>;

    answer add(const key& where, const file_ptr& target, const epoll_event& event)
    {
        if (const auto* const nested = dynamic_cast<const epoll*>(target.get());
            nested != nullptr && nested->reaches(*this)) {
            return -ELOOP;
        }
        item& added =
            *items_.emplace(where, std::make_unique<item>(*this, target, event)).first->second;
        enter_if_ready(added);
        return 0;
    }

    answer modify(item& one, const epoll_event& event)
    {
        one.event = with_unasked(event);
        enter_if_ready(one);
        return 0;
    }

    void enter_if_ready(item& one)
    {
        if ((one.target->poll() & one.wanted()) != 0) {
            enter(one);
        }
    }

    void enter(item& one)
    {
        if (!one.is_ready) {
            one.is_ready = true;
            ready_.push_back(&one);
        }
        wake(EPOLLIN | EPOLLRDNORM);
    }

    table::iterator erase(table::iterator at) noexcept
    {
        ready_.erase(std::remove(ready_.begin(), ready_.end(), at->second.get()), ready_.end());
        return items_.erase(at);
    }

    void drop_unready()
    {
        while (!ready_.empty()) {
            item& first = *ready_.front();
            if ((first.target->poll() & first.wanted()) != 0) {
                return;
            }
            first.is_ready = false;
            ready_.erase(ready_.begin());
        }
    }

    /// An event that was true once, as a program must expect it.
    std::size_t lie(epoll_event& told, random_source& random) const
    {
        if (items_.empty()) {
            return 0;
        }
        auto at = items_.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(random.below(items_.size())));
        const item& one = *at->second;
        const std::uint32_t events = one.event.events & (EPOLLIN | EPOLLOUT);
        if (one.is_off() || events == 0) {
            return 0;
        }
        told.events = events;
        told.data = one.event.data;
        return 1;
    }

    table items_;
    std::vector<item*> ready_;
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_EPOLL_HPP
