// fairlead: what the sockets of an io_context share where they wait on Asio's own reactor.

#ifndef FAIRLEAD_DETAIL_IO_ASIO_REACTOR_HPP
#define FAIRLEAD_DETAIL_IO_ASIO_REACTOR_HPP

#include <fairlead/detail/io/hang_up_watch.hpp>
#include <fairlead/detail/namespace.hpp>

#include <asio/execution_context.hpp>
#include <asio/io_context.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
class stream_socket;

/// One for each io_context.
class reactor : public asio::execution_context::service
{
public:
    using key_type = reactor;
    using executor_type = asio::io_context::executor_type;

    static inline asio::execution_context::id id;

    explicit reactor(asio::io_context& context)
        : service(context), hang_ups(context), context_(context)
    {}

    reactor(const reactor&) = delete;
    reactor& operator=(const reactor&) = delete;
    ~reactor() override = default;

    executor_type get_executor() noexcept
    {
        return context_.get_executor();
    }

    /// Takes the descriptor of `hang_ups`, if there is one; else later.
    void open() noexcept
    {
        hang_ups.open();
    }

    hang_up_watch<stream_socket> hang_ups;

private:
    void shutdown() noexcept override
    {}

    asio::io_context& context_;
};
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_ASIO_REACTOR_HPP
