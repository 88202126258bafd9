// fairlead: everything. Each header also stands alone.

#ifndef FAIRLEAD_FAIRLEAD_HPP
#define FAIRLEAD_FAIRLEAD_HPP

#include <fairlead/codec/broadcast.hpp>
#include <fairlead/codec/chunked.hpp>
#include <fairlead/codec/cobs.hpp>
#include <fairlead/codec/codec.hpp>
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/fixed.hpp>
#include <fairlead/codec/frame_reader.hpp>
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/codec/netstring.hpp>
#include <fairlead/codec/shared_message.hpp>
#include <fairlead/codec/varint_prefix.hpp>
#include <fairlead/config.hpp>
#include <fairlead/connection.hpp>
#include <fairlead/deadline_slot.hpp>
#include <fairlead/deadline_wheel.hpp>
#include <fairlead/endpoint.hpp>
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>
#include <fairlead/handler.hpp>
#include <fairlead/hooks.hpp>
#include <fairlead/offload.hpp>
#include <fairlead/peer_credentials.hpp>
#include <fairlead/running_server.hpp>
#include <fairlead/serve.hpp>
#include <fairlead/server.hpp>
#include <fairlead/sharded_server.hpp>
#include <fairlead/signals.hpp>
#include <fairlead/sleep.hpp>
#include <fairlead/tls.hpp>
#include <fairlead/version.hpp>

#include <asio/connect.hpp> // for handlers that call other servers

#endif // FAIRLEAD_FAIRLEAD_HPP
