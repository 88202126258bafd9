// fairlead: a text that its copies share, so that copying one neither allocates nor fails. Ring 0.

#ifndef FAIRLEAD_DETAIL_UTIL_SHARED_TEXT_HPP
#define FAIRLEAD_DETAIL_UTIL_SHARED_TEXT_HPP

#include <fairlead/detail/namespace.hpp>

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
/// One pointer; null for an empty text, which so costs nothing. Copies may be on several threads.
class shared_text
{
public:
    shared_text() noexcept = default;

    /// Throws `std::bad_alloc`.
    explicit shared_text(std::string_view text)
        : kept_(text.empty() ? nullptr : new kept{std::string(text)})
    {}

    shared_text(const shared_text& other) noexcept : kept_(other.kept_)
    {
        if (kept_ != nullptr) {
            kept_->references.fetch_add(1, std::memory_order_relaxed);
        }
    }

    shared_text(shared_text&& other) noexcept : kept_(std::exchange(other.kept_, nullptr))
    {}

    shared_text& operator=(shared_text other) noexcept
    {
        std::swap(kept_, other.kept_);
        return *this;
    }

    ~shared_text()
    {
        if (kept_ != nullptr && kept_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            delete kept_;
        }
    }

    std::string_view view() const noexcept
    {
        return kept_ != nullptr ? std::string_view(kept_->text) : std::string_view();
    }

private:
    struct kept
    {
        std::string text;
        std::atomic<std::size_t> references = 1;
    };

    kept* kept_ = nullptr;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_UTIL_SHARED_TEXT_HPP
