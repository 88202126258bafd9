// fairlead: what is known of a connection: who, since when, how much, and why it ended; and how its
// server's hooks are told. No operations: those are in connection/core.hpp.

#ifndef FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP
#define FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP

#include <fairlead/detail/connection/extras.hpp>
#include <fairlead/detail/connection/lifecycle.hpp>
#include <fairlead/detail/connection/owner.hpp>
#include <fairlead/detail/io/native.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/server/connection_limit.hpp>
#include <fairlead/detail/server/environment.hpp>
#include <fairlead/detail/server/registry.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/intrusive_ref.hpp>
#include <fairlead/detail/util/published.hpp>
#include <fairlead/detail/util/spare_memory.hpp>
#include <fairlead/tls.hpp>

#include <asio/post.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace FAIRLEAD_NAMESPACE
{
class connection;
}

namespace FAIRLEAD_NAMESPACE::detail
{
/// Links the connections of which no byte has reached a handler.
struct newcomer_tag;
using newcomer_hook = list_hook<newcomer_tag>;

/// Lives as long as somebody holds a reference: each stage that leads it (handshake, handler,
/// closing), each child of the handler, and each operation that is pending. So nothing that has an
/// operation pending is ever freed.
class connection_record : public registry_entry, public newcomer_hook
{
public:
    using clock = environment::clock;
    using time_point = environment::time_point;

    connection_record(
        environment& belongs_to, connection_owner& told, const endpoint& remote_endpoint,
        connection& as_handlers_see_it)
        : home(belongs_to),
          owner(told),
          face(as_handlers_see_it),
          remote(native::unmapped(remote_endpoint)),
          accepted_at(clock::now())
    {
        home.connection_made();
    }

    connection_record(const connection_record&) = delete;
    connection_record& operator=(const connection_record&) = delete;

    void retain() noexcept
    {
        ++references_;
    }

    void release() noexcept
    {
        if (--references_ == 0) {
            destroy();
        }
    }

    environment::executor_type get_executor() const noexcept
    {
        return home.get_executor();
    }

    /// Made when first asked for.
    connection_extras& extras()
    {
        if (!extras_) {
            extras_ = std::make_unique<connection_extras>();
        }
        return *extras_;
    }

    const lifecycle& life() const noexcept
    {
        return life_;
    }

    deadline_signals& signals()
    {
        if (!extras().deadlines) {
            extras_->deadlines = std::make_unique<deadline_signals>();
        }
        return *extras_->deadlines;
    }

    const ending& end() const noexcept
    {
        return life_.end;
    }

    /// What a wait that is no operation ends with: nothing can be sent any more; empty: it can.
    std::error_code why_wait_no_longer() const noexcept
    {
        return life_.end.refuses_write();
    }

    /// Ends such waits, if they are to: by posts, so that nothing of the user's runs here.
    void end_waits() noexcept
    {
        const std::error_code why = extras_ ? why_wait_no_longer() : no_error;
        if (!why) {
            return;
        }
        extras_->wake_sleepers(why);
        if (extras_->deadlines && extras_->deadlines->make_due()) {
            post_signals();
        }
    }

    /// `one` is about to be given something to cancel.
    void expect_signal(deadline_signal& one) noexcept
    {
        if (why_wait_no_longer() && extras_->deadlines->make_due(one)) {
            post_signals();
        }
    }

    connection_event event(connection_event_kind kind) const
    {
        return {
            .kind = kind,
            .id = id(),
            .local = local,
            .remote = remote,
            .reason = life_.end.reason(),
            .bytes_read = bytes_read.get(),
            .bytes_written = bytes_written.get(),
            .age = clock::now() - accepted_at,
            .code = life_.end.cause(),
            .why = extras_ ? std::string_view(extras_->why) : std::string_view()};
    }

    void emit(connection_event_kind kind) noexcept
    {
        if (home.hooks.callbacks.on_connection) {
            home.hooks.emit(event(kind));
        }
    }

    void emit_io(connection_event_kind kind) noexcept
    {
        if (home.config.io_events) {
            emit(kind);
        }
    }

    std::error_code report(const std::exception_ptr& failure) noexcept
    {
        return home.hooks.report(
            failure, errc::handler_failed, "an exception left the handler", id(), remote);
    }

    environment& home;
    connection_owner& owner;
    connection& face;
    connection_place place;
    endpoint local;
    endpoint remote;
    const time_point accepted_at;
    counter<std::uint64_t> bytes_read;
    counter<std::uint64_t> bytes_written;
    std::unique_ptr<tls_info> tls;

protected:
    /// After everything else of the connection: the server may go with its last one.
    ~connection_record()
    {
        place.give_back();
        home.connection_gone();
    }

    /// Nobody refers to it any more.
    virtual void destroy() noexcept = 0;

    lifecycle life_;
    std::unique_ptr<connection_extras> extras_; // null: never needed

private:
    void post_signals() noexcept
    {
        asio::post(
            get_executor(),
            spared_handler{
                &extras_->deadlines->memory(), [of = intrusive_ref<connection_record>(*this)] {
                    of->extras_->deadlines->emit();
                }});
    }

    std::uint32_t references_ = 0;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_CONNECTION_RECORD_HPP
