// fairlead: what the sockets of an io_context wait on: an epoll descriptor of their own, nested in
// the context by one pending wait. Linux.

#ifndef FAIRLEAD_DETAIL_IO_EPOLL_REACTOR_HPP
#define FAIRLEAD_DETAIL_IO_EPOLL_REACTOR_HPP

#if defined(__linux__)

#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/io/pending_operation.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/spare_memory.hpp>

#include <asio/error.hpp>
#include <asio/execution_context.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/basic_stream_descriptor.hpp>
#include <asio/post.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <sys/epoll.h>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE::detail
{
struct reactor_client_tag;

/// A socket, as its reactor sees it.
class reactor_client : public list_hook<reactor_client_tag>
{
public:
    /// Puts what can go on into the reactor's line. Calls nobody else.
    virtual void events_have_come(std::uint32_t events) noexcept = 0;

    /// Gives up its operations, without telling their handlers. It may be gone then.
    virtual void context_ends() noexcept = 0;

    virtual int native_handle() const noexcept = 0;

protected:
    ~reactor_client() = default;
};

/// One for each io_context, shared by all servers on it, and used by the one thread that runs it. A
/// socket is registered once, for both directions, edge-triggered: the events are remembered there,
/// and a wait costs no system call. Asio's reactor, which serves any number of threads, takes a lock
/// and a queue for each operation, and under TLS an `epoll_ctl`.
///
/// To the io_context this is one operation among others. It is pending only while something waits,
/// so that `run` returns when nothing is left; and it takes turns with everything else that is
/// ready there. In a turn, events are fetched and noted first: what can go on stands in line then, and
/// each has one step before any has another, so that who is always ready does not keep others from
/// being heard. Only then do handlers run: none of them can end what an event is still to be told.
class reactor : public asio::execution_context::service
{
public:
    using key_type = reactor;
    using executor_type = asio::io_context::executor_type;

    /// A turn ends after so many steps, or so many operations that were over when they began.
    static constexpr std::size_t steps_per_turn = 256;
    static constexpr std::size_t immediate_per_turn = 64;

    /// So many operations that a step has begun, and which are over already, come right behind it,
    /// while the socket is at hand; then the next in the line.
    static constexpr std::size_t longest_chain = 3;

    /// `io_context::stop` is heard after so many steps and a chain; Asio takes a lock to ask.
    static constexpr std::size_t steps_per_stop_check = 8;

    /// While so many events have come, more may have come meanwhile. Of fewer, the next come sooner
    /// by a wait.
    static constexpr std::size_t worth_another_look = 8;

    static inline asio::execution_context::id id;

    explicit reactor(asio::io_context& context)
        : service(context), context_(context), descriptor_(context.get_executor())
    {}

    reactor(const reactor&) = delete;
    reactor& operator=(const reactor&) = delete;
    ~reactor() override = default;

    executor_type get_executor() noexcept
    {
        return context_.get_executor();
    }

    /// Takes its descriptor, if it has none. Throws `std::system_error`, `std::bad_alloc`.
    void open()
    {
        if (!descriptor_.is_open()) {
            native::descriptor made(::epoll_create1(EPOLL_CLOEXEC));
            if (!made) {
                throw std::system_error(native::last_error(), "epoll_create1");
            }
            descriptor_.assign(made.get());
            made.release();
        }
    }

    /// Its context is being destroyed: nothing that is begun now will ever be told.
    bool has_ended() const noexcept
    {
        return has_ended_;
    }

    /// For operations that do not lie in their sockets.
    block_pool& blocks() noexcept
    {
        return blocks_;
    }

    // -- sockets

    std::error_code add(reactor_client& client) noexcept
    {
        if (!control(EPOLL_CTL_ADD, client)) {
            return native::last_io_error();
        }
        clients_.push_back(client);
        return {};
    }

    /// Its socket had no room. An edge comes when what it holds has been acknowledged; when it holds
    /// nothing, and there was no memory, none would come.
    void look_again(reactor_client& client) noexcept
    {
        control(EPOLL_CTL_MOD, client);
    }

    /// Before its descriptor is closed: somebody may hold another one for the same socket, and its
    /// events would go on.
    void remove(reactor_client& client) noexcept
    {
        if (!client.is_linked()) {
            return; // the context has ended
        }
        client.unlink();
        control(EPOLL_CTL_DEL, client);
    }

    // -- operations

    /// One more waits for events.
    void wait_begins() noexcept
    {
        ++waiting_;
        if (!is_in_turn_) {
            watch_or_rest();
        }
    }

    void wait_ends() noexcept
    {
        --waiting_;
        if (!is_in_turn_) {
            watch_or_rest();
        }
    }

    /// Its turn comes, never inside the caller.
    void line_up(pending_operation& operation) noexcept
    {
        (is_in_step_ ? begun_ : line_).push_back(operation);
        if (!is_in_turn_) {
            go_on_later();
        }
    }

    /// It has had its share of this turn: events, timers and the others come first.
    void line_up_for_next_turn(pending_operation& operation) noexcept
    {
        later_.push_back(operation);
        if (!is_in_turn_) {
            go_on_later();
        }
    }

private:
    using descriptor_type = asio::posix::basic_stream_descriptor<executor_type>;

    /// What a turn leaves is gone on with later, also when a handler threw.
    class turn_taken
    {
    public:
        explicit turn_taken(reactor& self) noexcept
            : self_(self),
              is_nested_(std::exchange(self.is_in_turn_, true)),
              was_in_step_(std::exchange(self.is_in_step_, false))
        {}

        turn_taken(const turn_taken&) = delete;
        turn_taken& operator=(const turn_taken&) = delete;

        ~turn_taken()
        {
            self_.is_in_turn_ = is_nested_;
            self_.is_in_step_ = was_in_step_;
            self_.line_.append(self_.begun_);
            if (!self_.line_.empty() || !self_.later_.empty()) {
                self_.go_on_later();
            }
            self_.watch_or_rest();
        }

    private:
        reactor& self_;
        bool is_nested_; // a handler runs the context
        bool was_in_step_;
    };

    void shutdown() noexcept override
    {
        is_in_turn_ = has_ended_ = true;
        while (!clients_.empty()) {
            reactor_client& client = clients_.front();
            client.unlink();
            client.context_ends();
        }
        line_.append(begun_);
        line_.append(later_);
        while (!line_.empty()) { // of sockets that were closed
            line_.pop_front().drop();
        }
        std::error_code ignored;
        descriptor_.close(ignored);
    }

    /// The child has the descriptor of its parent, whose events it would take.
    void notify_fork(asio::execution_context::fork_event event) override
    {
        if (event != asio::execution_context::fork_child || !descriptor_.is_open()) {
            return;
        }
        const native::descriptor of_parent(descriptor_.release()); // which ends a wait of it
        open();
        clients_.for_each([this](reactor_client& client) { control(EPOLL_CTL_ADD, client); });
    }

    bool control(int what, reactor_client& client) noexcept
    {
        ::epoll_event interest{};
        interest.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
        interest.data.ptr = &client;
        return ::epoll_ctl(descriptor_.native_handle(), what, client.native_handle(), &interest) ==
               0;
    }

    /// The wait is pending while something waits, and no longer. Whatever ends it is looked at.
    void watch_or_rest() noexcept
    {
        if (is_watching_ == (waiting_ != 0) || !descriptor_.is_open()) {
            return;
        }
        if (is_watching_) {
            std::error_code ignored;
            descriptor_.cancel(ignored);
            return;
        }
        is_watching_ = true;
        descriptor_.async_wait(
            descriptor_type::wait_read,
            spared_handler{&wait_memory_, [this](const std::error_code&) {
                               is_watching_ = false;
                               take_turn();
                           }});
    }

    void go_on_later() noexcept
    {
        if (!std::exchange(is_to_go_on_, true)) {
            asio::post(get_executor(), spared_handler{&line_memory_, [this] {
                                                          is_to_go_on_ = false;
                                                          take_turn();
                                                      }});
        }
    }

    void take_turn()
    {
        const turn_taken taken(*this);
        std::size_t seen = note_events();
        line_.append(later_);
        budget left;
        while (left.steps != 0 && left.immediate != 0) {
            if (line_.empty()) {
                seen = seen >= worth_another_look ? note_events() : 0;
                if (line_.empty()) {
                    return;
                }
            }
            if (left.since_stop_check >= steps_per_stop_check) {
                left.since_stop_check = 0;
                if (context_.stopped()) {
                    return;
                }
            }
            take_step(line_.pop_front(), left);
            for (std::size_t chain = 0; chain != longest_chain && !begun_.empty(); ++chain) {
                take_step(begun_.pop_front(), left);
            }
            line_.append(begun_);
        }
    }

    struct budget
    {
        std::size_t steps = steps_per_turn;
        std::size_t immediate = immediate_per_turn;
        std::size_t since_stop_check = steps_per_stop_check;
    };

    void take_step(pending_operation& operation, budget& left)
    {
        ++left.since_stop_check;
        left.steps -= left.steps != 0 ? 1 : 0;
        left.immediate -= operation.is_immediate && left.immediate != 0 ? 1 : 0;
        is_in_step_ = true;
        operation.take_turn();
        is_in_step_ = false;
    }

    /// Nothing of the user's runs here. Returns how many events there were.
    std::size_t note_events() noexcept
    {
        if (waiting_ == 0) {
            return 0;
        }
        const int count = ::epoll_wait(
            descriptor_.native_handle(), events_.data(), static_cast<int>(events_.size()), 0);
        const std::size_t noted = count > 0 ? static_cast<std::size_t>(count) : 0;
        for (std::size_t each = 0; each != noted; ++each) {
            const ::epoll_event& event = events_[each];
            static_cast<reactor_client*>(event.data.ptr)->events_have_come(event.events);
        }
        return noted;
    }

    asio::io_context& context_;
    descriptor_type descriptor_;
    block_pool blocks_;
    intrusive_list<reactor_client, reactor_client_tag> clients_;
    operation_line line_;
    operation_line begun_; // by the step that is being taken, and over already
    operation_line later_; // in the next turn
    std::size_t waiting_ = 0;
    bool is_in_turn_ = false;
    bool is_in_step_ = false;
    bool is_watching_ = false;
    bool is_to_go_on_ = false;
    bool has_ended_ = false;
    spare_memory wait_memory_;
    spare_memory line_memory_;
    std::array<::epoll_event, steps_per_turn> events_; // as many as were fetched
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif

#endif // FAIRLEAD_DETAIL_IO_EPOLL_REACTOR_HPP
