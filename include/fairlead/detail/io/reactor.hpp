// fairlead: what connections wait on. `reactor`, one for each io_context, and `stream_socket` come
// from one of two pairs of files, with one interface: on Linux an epoll descriptor of the shard's
// own, elsewhere, and where FAIRLEAD_ASIO_REACTOR is defined, Asio's reactor.

#ifndef FAIRLEAD_DETAIL_IO_REACTOR_HPP
#define FAIRLEAD_DETAIL_IO_REACTOR_HPP

#if defined(__linux__) && !defined(FAIRLEAD_ASIO_REACTOR)
#include <fairlead/detail/io/epoll_socket.hpp>
#else
#include <fairlead/detail/io/asio_socket.hpp>
#include <fairlead/detail/namespace.hpp>
#endif

#include <asio/io_context.hpp>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Made when first asked for, and gone with the context.
inline reactor& reactor_of(asio::io_context& context)
{
    return asio::use_service<reactor>(context);
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_IO_REACTOR_HPP
