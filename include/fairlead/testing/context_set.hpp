// fairlead: the io_contexts of a simulation, which take turns on its one thread.

#ifndef FAIRLEAD_TESTING_CONTEXT_SET_HPP
#define FAIRLEAD_TESTING_CONTEXT_SET_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/kernel/allocation_fault.hpp>
#include <fairlead/testing/kernel/kernel.hpp>
#include <fairlead/testing/random.hpp>

#include <asio/io_context.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing
{
class context_set
{
public:
    explicit context_set(simulated::kernel& in) : kernel_(in), random_(in.entropy().fork())
    {}

    /// One of the servers' side, or of the peers that the test plays.
    asio::io_context& add(bool is_peer)
    {
        const as_whom whom(kernel_, is_peer);
        all_.push_back(std::make_unique<one>());
        all_.back()->is_peer = is_peer;
        return all_.back()->context;
    }

    /// Each in turn, in an order that is drawn, a few handlers of it. False: there was none to run.
    bool step()
    {
        order_.resize(all_.size());
        std::iota(order_.begin(), order_.end(), std::size_t(0));
        random_.shuffle(order_);
        bool ran = false;
        for (const std::size_t index : order_) {
            ran = run_some(*all_[index]) || ran;
        }
        return ran;
    }

    /// The same for those that are not waiting for it themselves.
    bool run_others()
    {
        bool ran = false;
        // By place: what runs may add another one. NOLINTNEXTLINE(modernize-loop-convert)
        for (std::size_t index = 0; index < all_.size(); ++index) {
            ran = run_some(*all_[index]) || ran;
        }
        return ran;
    }

    /// Until then only peers run.
    void suspend_servers(simulated::instant until)
    {
        suspended_until_ = until;
        kernel_.when.at(until, [] {}); // the time of day at which they go on
    }

    void clear()
    {
        all_.clear();
    }

private:
    static constexpr std::uint64_t most_handlers = 16;

    struct one
    {
        asio::io_context context{1};
        bool is_peer = false;
        bool is_running = false;
    };

    struct as_whom
    {
        as_whom(simulated::kernel& in, bool is_peer)
        {
            if (is_peer) {
                guard.emplace(in);
            }
        }

        std::optional<simulated::kernel::as_peer> guard;
    };

    struct running
    {
        explicit running(bool& flag) noexcept : is_running(flag)
        {
            is_running = true;
        }

        running(const running&) = delete;
        running& operator=(const running&) = delete;

        ~running()
        {
            is_running = false;
        }

        bool& is_running;
    };

    bool run_some(one& which)
    {
        const bool is_suspended = !which.is_peer && kernel_.when.now() < suspended_until_;
        if (which.is_running || is_suspended) {
            return false;
        }
        const as_whom whom(kernel_, which.is_peer);
        const simulated::allocations_count these(!which.is_peer);
        const running now(which.is_running);
        if (which.context.stopped()) {
            which.context.restart();
        }
        std::uint64_t ran = 0;
        for (const auto most = 1 + random_.below(most_handlers);
             ran < most && which.context.poll_one() > 0;) {
            ++ran;
        }
        return ran > 0;
    }

    simulated::kernel& kernel_;
    random_source random_;
    std::vector<std::unique_ptr<one>> all_;
    std::vector<std::size_t> order_;
    simulated::instant suspended_until_{};
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_CONTEXT_SET_HPP
