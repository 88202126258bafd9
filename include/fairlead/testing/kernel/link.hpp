// fairlead: one direction of a simulated network path. What is carried arrives later, in order, and
// never gets lost: a lost segment comes when it is sent again, as TCP has it.

#ifndef FAIRLEAD_TESTING_KERNEL_LINK_HPP
#define FAIRLEAD_TESTING_KERNEL_LINK_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/agenda.hpp>
#include <fairlead/testing/random.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

namespace FAIRLEAD_NAMESPACE::testing
{
/// How a path behaves, the same in both directions. Defaults: at once, in pieces as they are sent.
struct path_options
{
    /// From one end to the other.
    std::chrono::nanoseconds latency = std::chrono::nanoseconds(0);
    /// At most this is added to `latency`, drawn for each segment.
    std::chrono::nanoseconds jitter = std::chrono::nanoseconds(0);
    /// Bytes per second; 0: any number.
    std::uint64_t bandwidth = 0;
    /// The most bytes of a segment; 0: any number.
    std::size_t segment = 0;
    /// Probability, from 0 to 1, that a segment is cut in two at a place that is drawn.
    double split = 0;
    /// Probability, from 0 to 1, that a segment is lost: it comes `retransmission` later, which
    /// doubles when it is lost again.
    double loss = 0;
    std::chrono::nanoseconds retransmission = std::chrono::milliseconds(200);
};
} // namespace FAIRLEAD_NAMESPACE::testing

namespace FAIRLEAD_NAMESPACE::testing::simulated
{
class link : public std::enable_shared_from_this<link>
{
public:
    link(agenda& when, random_source random, const path_options& how) noexcept
        : options(how), agenda_(when), random_(random)
    {}

    void carry(std::size_t bytes, agenda::action arrive)
    {
        const instant departs = std::max(agenda_.now(), free_at_);
        free_at_ = departs + time_for(bytes);
        instant arrives = free_at_ + options.latency;
        if (options.jitter > instant(0)) {
            arrives += random_.between(instant(0), options.jitter);
        }
        instant again = options.retransmission;
        for (int lost = 0; lost < most_losses && random_.chance(options.loss); ++lost) {
            arrives += again;
            again *= 2;
        }
        last_arrival_ = std::max(last_arrival_, arrives);
        under_way_.push_back(std::move(arrive));
        expect(last_arrival_);
    }

    /// How many of `wanted` bytes go into the next segment.
    std::size_t segment_of(std::size_t wanted) noexcept
    {
        const std::size_t most = options.segment == 0 ? wanted : std::min(wanted, options.segment);
        return most > 1 && random_.chance(options.split)
                   ? static_cast<std::size_t>(
                         random_.between(1, static_cast<std::int64_t>(most) - 1))
                   : most;
    }

    /// Nothing arrives until `resume`: the peer has vanished, or the cable is cut.
    void hold() noexcept
    {
        is_held_ = true;
    }

    void resume()
    {
        is_held_ = false;
        for (; missed_ > 0; --missed_) {
            expect(agenda_.now() + options.latency);
        }
    }

    /// Nothing arrives any more. What is under way refers to sockets, which refer to this.
    void drop() noexcept
    {
        const auto dropped = std::move(under_way_);
        under_way_.clear();
    }

    bool is_held() const noexcept
    {
        return is_held_;
    }

    path_options options; // may be changed at any time

private:
    static constexpr int most_losses = 5;

    void expect(instant when)
    {
        agenda_.at(when, [self = shared_from_this()] { self->deliver(); });
    }

    // Each event delivers the first that is under way, so that no draw of the agenda changes the
    // order.
    void deliver()
    {
        if (is_held_) {
            ++missed_;
            return;
        }
        const agenda::action arrive = std::move(under_way_.front());
        under_way_.pop_front();
        arrive();
    }

    instant time_for(std::size_t bytes) const noexcept
    {
        return options.bandwidth == 0 ? instant(0)
                                      : instant(static_cast<std::int64_t>(
                                            static_cast<double>(bytes) * 1e9 /
                                            static_cast<double>(options.bandwidth)));
    }

    agenda& agenda_;
    random_source random_;
    std::deque<agenda::action> under_way_;
    instant free_at_ = instant(0);
    instant last_arrival_ = instant(0);
    std::size_t missed_ = 0;
    bool is_held_ = false;
};

/// What an end of a connection knows of the network between: its own direction, and the other's.
struct path
{
    std::shared_ptr<link> out;
    std::shared_ptr<link> back;

    path reversed() const
    {
        return {back, out};
    }
};
} // namespace FAIRLEAD_NAMESPACE::testing::simulated

#endif // FAIRLEAD_TESTING_KERNEL_LINK_HPP
