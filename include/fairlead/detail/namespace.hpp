// fairlead: the namespace that everything is in. Ring 0.
//
// What `FAIRLEAD_ASIO_REACTOR` selects is in the layout of a connection. A program of which one part
// is compiled with it and another without would have two of everything under one name: the inline
// namespace tells them apart, so that what one part makes the other cannot be handed by mistake.

#ifndef FAIRLEAD_DETAIL_NAMESPACE_HPP
#define FAIRLEAD_DETAIL_NAMESPACE_HPP

#if defined(FAIRLEAD_ASIO_REACTOR)
#define FAIRLEAD_NAMESPACE fairlead::inline on_asio_reactor
#else
#define FAIRLEAD_NAMESPACE fairlead
#endif

namespace FAIRLEAD_NAMESPACE
{}

#endif // FAIRLEAD_DETAIL_NAMESPACE_HPP
