// fairlead: what a scripted client of a simulation speaks through, such as TLS (tls_peer.hpp).

#ifndef FAIRLEAD_TESTING_STREAM_LAYER_HPP
#define FAIRLEAD_TESTING_STREAM_LAYER_HPP

#include <fairlead/detail/namespace.hpp>

#include <string>
#include <string_view>

namespace FAIRLEAD_NAMESPACE::testing
{
/// What lies between a peer's bytes and the network, such as TLS (tls_peer.hpp).
class stream_layer
{
public:
    virtual ~stream_layer() = default;

    /// Takes bytes from the network, and appends those for the peer. False: the stream is broken.
    virtual bool receive(std::string_view wire, std::string& plain) = 0;
    /// Takes all of them.
    virtual void send(std::string_view plain) = 0;
    /// The peer sends no more.
    virtual void finish() = 0;
    /// What is to go to the network; taken.
    virtual std::string take_output() = 0;
    /// The other end has said that it sends no more.
    virtual bool has_ended() const = 0;
    /// The peer may send.
    virtual bool is_ready() const = 0;
    /// Why it is broken, for people.
    virtual std::string problem() const = 0;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_STREAM_LAYER_HPP
