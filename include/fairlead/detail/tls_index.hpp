// fairlead: the number under which OpenSSL keeps something of ours in its objects. Not the something.

#ifndef FAIRLEAD_DETAIL_TLS_INDEX_HPP
#define FAIRLEAD_DETAIL_TLS_INDEX_HPP

#include <atomic>

namespace fairlead::detail
{
/// One number, made by the first who needs it; -1 where OpenSSL had no memory for it, and then the
/// next one tries again: a shortage must not stay for ever, as in a static variable it would.
class tls_index
{
public:
    /// `make()` is a call of one of CRYPTO_get_ex_new_index(3). Any thread; of two that are first at
    /// once, one makes a number that nobody uses.
    template <typename Make>
    int get(Make make) noexcept
    {
        int known = value_.load(std::memory_order_acquire);
        if (known >= 0) {
            return known;
        }
        const int made = make();
        return made < 0 || value_.compare_exchange_strong(known, made) ? made : known;
    }

private:
    std::atomic<int> value_ = -1;
};
} // namespace fairlead::detail

#endif // FAIRLEAD_DETAIL_TLS_INDEX_HPP
