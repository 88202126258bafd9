// fairlead: a doubly linked list through its elements; no allocation, removal without the list at
// hand. Ring 0. Not a container: it owns nothing, and an element leaves before it dies.

#ifndef FAIRLEAD_DETAIL_INTRUSIVE_LIST_HPP
#define FAIRLEAD_DETAIL_INTRUSIVE_LIST_HPP

#include <cassert>

namespace fairlead::detail
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

/// A circular list around a sentinel. Elements may be unlinked while the list is walked with
/// `for_each`, the current one included; others only when the walk restarts from `front()`.
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
        return head_.next_ == &head_;
    }

    void push_back(Element& element) noexcept
    {
        hook& links = element;
        assert(!links.is_linked());
        links.previous_ = head_.previous_;
        links.next_ = &head_;
        head_.previous_->next_ = &links;
        head_.previous_ = &links;
    }

    /// The element that was pushed first; the list is not empty.
    Element& front() noexcept
    {
        assert(!empty());
        return static_cast<Element&>(*head_.next_);
    }

    /// Calls `visit(element)` from front to back; `visit` may unlink the element it is given, and
    /// no other.
    template <typename Visitor>
    void for_each(Visitor&& visit)
    {
        for (hook* links = head_.next_; links != &head_;) {
            hook* const next = links->next_;
            visit(static_cast<Element&>(*links));
            links = next;
        }
    }

private:
    struct sentinel : hook
    {};

    sentinel head_;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_INTRUSIVE_LIST_HPP
