// fairlead: who may be in a TLS handshake, and who gives way. Time comes in as an argument: no clock,
// no socket. Ring 0.

#ifndef FAIRLEAD_DETAIL_SERVER_HANDSHAKE_PLACES_HPP
#define FAIRLEAD_DETAIL_SERVER_HANDSHAKE_PLACES_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace FAIRLEAD_NAMESPACE::detail
{
/// A limited number of places and a queue for them, first come, first served.
///
/// A place is never a weapon in a peer's hands. The time for which its holder waits for his peer
/// adds up, whatever progress there is in between; who has waited for `patience` in all gives way
/// as soon as somebody queues, and goes on without a place from then on: it is not taken from a
/// slow client, only from the crowd that would keep others out.
class handshake_places
{
public:
    using time_point = std::chrono::steady_clock::time_point;
    using duration = std::chrono::steady_clock::duration;

    /// One handshake. It leaves before it is destroyed.
    class handshake : public list_hook<>
    {
    public:
        bool is_queued() const noexcept
        {
            return state_ == state::queued;
        }

        bool has_given_way() const noexcept
        {
            return state_ == state::gave_way;
        }

    protected:
        ~handshake() = default;

    private:
        friend class handshake_places;

        enum class state : std::uint8_t
        {
            outside,
            queued,
            /// It has a place, and computes or is about to.
            working,
            /// It has a place, and waits for its peer.
            waiting,
            gave_way,
        };

        /// It was queued, and has a place now. Must not call back.
        virtual void placed() noexcept = 0;

        state state_ = state::outside;
        duration waited_ = {};       // for its peer, until it last worked
        time_point waits_from_ = {}; // as if all that it has waited were one wait
    };

    /// 0: any number of places.
    handshake_places(std::size_t places, duration patience) noexcept
        : places_(places), patience_(patience)
    {}

    /// True: it goes on. False: it is queued, until `placed` is called or it leaves.
    bool enter(handshake& client, time_point now) noexcept
    {
        if (client.state_ != state::outside) {
            return client.state_ != state::queued;
        }
        if (places_ == 0 || taken_ < places_) {
            ++taken_;
            client.state_ = state::working;
            return true;
        }
        client.state_ = state::queued;
        queue_.push_back(client);
        look(now);
        return client.state_ != state::queued;
    }

    /// It waits for its peer.
    void waits(handshake& client, time_point now) noexcept
    {
        if (client.state_ == state::working) {
            client.state_ = state::waiting;
            client.waits_from_ = now - client.waited_;
            waiting_.push_back(client);
            first_due_ = std::min(first_due_, client.waits_from_ + patience_);
            look(now);
        }
    }

    /// Its peer has sent something.
    void continues(handshake& client, time_point now) noexcept
    {
        if (client.state_ == state::waiting) {
            client.unlink();
            client.state_ = state::working;
            client.waited_ = now - client.waits_from_;
        }
    }

    /// It is over, or is not to wait in the queue any longer.
    void leave(handshake& client) noexcept
    {
        client.unlink();
        const bool has_place = client.state_ == state::working || client.state_ == state::waiting;
        client.state_ = state::outside;
        if (has_place) {
            hand_over();
        }
    }

    /// When `look` should be called; `max()`: not before something happens.
    time_point next_look() const noexcept
    {
        return queue_.empty() ? time_point::max() : first_due_;
    }

    /// Those whose patience is used up give way to those who queue.
    void look(time_point now) noexcept
    {
        if (now < next_look()) {
            return;
        }
        first_due_ = time_point::max();
        waiting_.for_each([&](handshake& client) {
            const time_point due = client.waits_from_ + patience_;
            if (due <= now && !queue_.empty()) {
                client.unlink();
                client.state_ = state::gave_way;
                hand_over();
            } else {
                first_due_ = std::min(first_due_, due);
            }
        });
    }

private:
    using state = handshake::state;

    /// A place is free.
    void hand_over() noexcept
    {
        if (queue_.empty()) {
            --taken_;
            return;
        }
        handshake& next = queue_.front();
        next.unlink();
        next.state_ = state::working;
        next.placed();
    }

    const std::size_t places_;
    const duration patience_;
    std::size_t taken_ = 0;
    time_point first_due_ = time_point::max(); // or earlier, when that one is not waiting any more
    intrusive_list<handshake> queue_;
    intrusive_list<handshake> waiting_; // in the order in which they began to
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_SERVER_HANDSHAKE_PLACES_HPP
