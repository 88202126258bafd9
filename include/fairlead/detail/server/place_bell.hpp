// fairlead: tells a shard that a place may be free in the connection limit.

#ifndef FAIRLEAD_DETAIL_SERVER_PLACE_BELL_HPP
#define FAIRLEAD_DETAIL_SERVER_PLACE_BELL_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/connection_limit.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/post.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A part of its shard. The limit must outlive it.
class place_bell
{
public:
    place_bell(environment& home, connection_limit& limit) noexcept : home_(home), limit_(limit)
    {}

    place_bell(const place_bell&) = delete;
    place_bell& operator=(const place_bell&) = delete;

    /// `rung()` on the shard's thread, once, however often it is asked for before. Its wake-up has
    /// memory put aside and cannot fail; asking may throw `std::bad_alloc`.
    template <typename Rung>
    void ask(Rung rung)
    {
        if (is_asked_) {
            return;
        }
        is_asked_ = true;
        try {
            // No holding on: a server that is gone by then needs no waking.
            limit_.notify_when_free([this, rung, weak = home_.keep_weakly()] {
                if (const auto alive = weak.lock()) {
                    asio::post(alive->get_executor(), spared_handler{&memory_, [this, rung, alive] {
                                                                         is_asked_ = false;
                                                                         rung();
                                                                     }});
                }
            });
        } catch (...) {
            is_asked_ = false;
            throw;
        }
    }

private:
    environment& home_;
    connection_limit& limit_;
    spare_memory memory_;
    bool is_asked_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_PLACE_BELL_HPP
