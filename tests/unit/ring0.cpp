// Ring 0 is the standard library alone: no ring 0 header may reach Asio or OpenSSL.

#include <fairlead/codec/chunked.hpp>
#include <fairlead/codec/cobs.hpp>
#include <fairlead/codec/codec.hpp>
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/fixed.hpp>
#include <fairlead/codec/frame_reader.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/codec/netstring.hpp>
#include <fairlead/codec/shared_message.hpp>
#include <fairlead/codec/varint_prefix.hpp>
#include <fairlead/config.hpp>
#include <fairlead/deadline_wheel.hpp>
#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/config/check.hpp>
#include <fairlead/detail/connection/deadlines.hpp>
#include <fairlead/detail/connection/lifecycle.hpp>
#include <fairlead/detail/connection/refusals.hpp>
#include <fairlead/detail/connection/shared_bytes.hpp>
#include <fairlead/detail/connection/sleeping.hpp>
#include <fairlead/detail/server/accept_failure.hpp>
#include <fairlead/detail/server/connection_limit.hpp>
#include <fairlead/detail/server/hand_over.hpp>
#include <fairlead/detail/server/retry_pause.hpp>
#include <fairlead/detail/server/runs.hpp>
#include <fairlead/detail/server/shard_roster.hpp>
#include <fairlead/detail/util/ascii.hpp>
#include <fairlead/detail/util/buffer_pool.hpp>
#include <fairlead/detail/util/byte_buffer.hpp>
#include <fairlead/detail/util/intrusive_list.hpp>
#include <fairlead/detail/util/intrusive_ref.hpp>
#include <fairlead/detail/util/ip_address.hpp>
#include <fairlead/detail/util/shared_text.hpp>
#include <fairlead/detail/util/wheel_timer.hpp>
#include <fairlead/endpoint.hpp>
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>
#include <fairlead/peer_credentials.hpp>
#include <fairlead/version.hpp>

#if defined(ASIO_VERSION) || defined(ASIO_DETAIL_CONFIG_HPP)
#error "a ring 0 header includes Asio"
#endif

#if defined(OPENSSL_VERSION_NUMBER) || defined(OPENSSL_SSL_H) || defined(HEADER_SSL_H) ||          \
    defined(OPENSSL_MACROS_H) || defined(HEADER_OPENSSLV_H)
#error "a ring 0 header includes OpenSSL"
#endif

// Only now: the test framework is not part of the claim.
#include "tests/support/catch.hpp"

TEST_CASE("ring 0 works without Asio and OpenSSL", "[ring0]")
{
    CHECK(fairlead::check({}).empty());
    CHECK(fairlead::deadline_wheel({}).empty());
    CHECK(fairlead::version.major_number == FAIRLEAD_VERSION_MAJOR);
}
