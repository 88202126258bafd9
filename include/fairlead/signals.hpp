// fairlead: what a server process does on its signals: SIGINT and SIGTERM drain, a second one
// closes, SIGHUP reloads. serve() uses it; so may a program that has its own main loop.

#ifndef FAIRLEAD_SIGNALS_HPP
#define FAIRLEAD_SIGNALS_HPP

#include <fairlead/detail/namespace.hpp>

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <csignal>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
/// What to do; each may be empty.
struct signal_actions
{
    /// The first SIGINT or SIGTERM.
    std::function<void()> drain = {};
    /// The second one, and those after it.
    std::function<void()> close = {};
    /// SIGHUP. Empty: SIGHUP keeps the disposition that it has.
    std::function<void()> reload = {};
};

/// Takes over the signals while it lives, and gives them back as they were. The actions run on the
/// context's thread. One at a time in a process. It keeps the context running: call `cancel()` when
/// the server has stopped.
class signal_watch
{
public:
    /// Throws `std::system_error` when the signals cannot be taken over.
    signal_watch(asio::io_context& context, signal_actions actions)
        : actions_(std::move(actions)),
          interrupt_(SIGINT),
          terminate_(SIGTERM),
          hang_up_(SIGHUP),
          signals_(context)
    {
        signals_.add(SIGINT);
        signals_.add(SIGTERM);
        if (actions_.reload) {
            signals_.add(SIGHUP);
        }
        wait();
    }

    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    ~signal_watch()
    {
        cancel();
    }

    /// Stops watching. On the context's thread, or while nothing runs the context.
    void cancel()
    {
        *is_live_ = false; // one that is queued already is void
        std::error_code ignored;
        signals_.clear(
            ignored); // before the saved dispositions return, which Asio does not know of
        signals_.cancel(ignored);
    }

private:
    /// The disposition of one signal, restored at the end.
    class saved_disposition
    {
    public:
        explicit saved_disposition(int signal) : signal_(signal)
        {
            ::sigaction(signal, nullptr, &action_);
        }

        saved_disposition(const saved_disposition&) = delete;
        saved_disposition& operator=(const saved_disposition&) = delete;

        ~saved_disposition()
        {
            ::sigaction(signal_, &action_, nullptr);
        }

    private:
        int signal_;
        struct sigaction action_ = {};
    };

    void wait()
    {
        signals_.async_wait([this, live = is_live_](const std::error_code& error, int signal) {
            if (error || !*live) {
                return;
            }
            const auto& action = signal == SIGHUP                 ? actions_.reload
                                 : std::exchange(stopping_, true) ? actions_.close
                                                                  : actions_.drain;
            wait(); // the action may cancel
            if (action) {
                const auto chosen = action; // and may even destroy the watch
                chosen();
            }
        });
    }

    signal_actions actions_;
    std::shared_ptr<bool> is_live_ = std::make_shared<bool>(true);
    bool stopping_ = false;
    saved_disposition interrupt_;
    saved_disposition terminate_;
    saved_disposition hang_up_;
    asio::signal_set signals_; // the first to go
};
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_SIGNALS_HPP
