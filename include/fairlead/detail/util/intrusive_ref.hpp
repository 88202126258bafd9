// fairlead: a counted reference to an object that holds its own count, for objects of one thread.
// Ring 0. Not for sharing between threads: the count is not atomic.

#ifndef FAIRLEAD_DETAIL_UTIL_INTRUSIVE_REF_HPP
#define FAIRLEAD_DETAIL_UTIL_INTRUSIVE_REF_HPP

#include <fairlead/detail/namespace.hpp>

#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Keeps an object alive. `Object` has `retain()` and `release()`; the last release ends it.
template <typename Object>
class intrusive_ref
{
public:
    intrusive_ref() = default;

    explicit intrusive_ref(Object& object) noexcept : object_(&object)
    {
        object.retain();
    }

    intrusive_ref(const intrusive_ref& other) noexcept : object_(other.object_)
    {
        if (object_ != nullptr) {
            object_->retain();
        }
    }

    intrusive_ref(intrusive_ref&& other) noexcept : object_(std::exchange(other.object_, nullptr))
    {}

    intrusive_ref& operator=(intrusive_ref other) noexcept
    {
        std::swap(object_, other.object_);
        return *this;
    }

    ~intrusive_ref()
    {
        if (object_ != nullptr) {
            object_->release();
        }
    }

    Object& operator*() const noexcept
    {
        return *object_;
    }

    Object* operator->() const noexcept
    {
        return object_;
    }

    explicit operator bool() const noexcept
    {
        return object_ != nullptr;
    }

private:
    Object* object_ = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_INTRUSIVE_REF_HPP
