// fairlead: a doubly linked list through its elements; no allocation, removal without the list at
// hand. Ring 0. Not a container: it owns nothing, and an element leaves before it dies.

#ifndef FAIRLEAD_DETAIL_UTIL_INTRUSIVE_LIST_HPP
#define FAIRLEAD_DETAIL_UTIL_INTRUSIVE_LIST_HPP

#include <fairlead/detail/namespace.hpp>

#include <cassert>

namespace FAIRLEAD_NAMESPACE::detail
{
/// The links of an element: a base class of it. `Tag` tells several lists of one element apart.
template <typename Tag = void>
class list_hook
{
public:
    list_hook() = default;
    list_hook(const list_hook&) = delete;
    list_hook& operator=(const list_hook&) = delete;

    bool is_linked() const noexcept
    {
        return next_ != nullptr;
    }

    /// Leaves whatever list it is in; nothing when it is in none.
    void unlink() noexcept
    {
        if (next_ == nullptr) {
            return;
        }
        next_->previous_ = previous_;
        previous_->next_ = next_;
        next_ = previous_ = nullptr;
    }

protected:
    ~list_hook()
    {
        assert(!is_linked() && "an element is unlinked before it is destroyed");
    }

private:
    template <typename, typename>
    friend class intrusive_list;

    list_hook* next_ = nullptr;
    list_hook* previous_ = nullptr;
};

/// A circular list around a sentinel.
template <typename Element, typename Tag = void>
class intrusive_list
{
public:
    using hook = list_hook<Tag>;

    intrusive_list() noexcept
    {
        head_.next_ = head_.previous_ = &head_;
    }

    intrusive_list(const intrusive_list&) = delete;
    intrusive_list& operator=(const intrusive_list&) = delete;

    ~intrusive_list()
    {
        assert(empty() && "the elements leave before the list is destroyed");
        head_.next_ = head_.previous_ = nullptr;
    }

    bool empty() const noexcept
    {
        return first() == &head_;
    }

    void push_back(Element& element) noexcept
    {
        link_before(head_, element);
    }

    /// The element that was pushed first; the list is not empty.
    Element& front() noexcept
    {
        assert(!empty());
        return static_cast<Element&>(*first());
    }

    /// Calls `visit(element)` from front to back. `visit` may do anything to the list: unlink any
    /// element, push others (they are visited too), and walk it itself.
    template <typename Visitor>
    void for_each(Visitor&& visit)
    {
        place here(*this);
        for (hook* next = here.next_; next != &head_; next = here.next_) {
            here.unlink();
            link_before(*next->next_, here);
            if (!is_place(*next)) {
                visit(static_cast<Element&>(*next));
            }
        }
    }

private:
    struct sentinel : hook
    {};

    /// How far a walk has come: an entry of the list itself, behind what was visited, so that
    /// whatever else comes and goes, the walk knows where it is.
    struct place : hook
    {
        explicit place(intrusive_list& walked) noexcept : list(walked), outer(walked.innermost_)
        {
            list.innermost_ = this;
            link_before(*list.head_.next_, *this);
        }

        place(const place&) = delete;
        place& operator=(const place&) = delete;

        ~place()
        {
            this->unlink();
            list.innermost_ = outer;
        }

        intrusive_list& list;
        const place* outer;
    };

    static void link_before(hook& successor, hook& links) noexcept
    {
        assert(!links.is_linked());
        links.previous_ = successor.previous_;
        links.next_ = &successor;
        successor.previous_->next_ = &links;
        successor.previous_ = &links;
    }

    bool is_place(const hook& links) const noexcept
    {
        for (const place* each = innermost_; each != nullptr; each = each->outer) {
            if (each == &links) {
                return true;
            }
        }
        return false;
    }

    hook* first() const noexcept
    {
        hook* links = head_.next_;
        while (innermost_ != nullptr && is_place(*links)) {
            links = links->next_;
        }
        return links;
    }

    sentinel head_;
    const place* innermost_ = nullptr; // of the walks that are under way
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_INTRUSIVE_LIST_HPP
