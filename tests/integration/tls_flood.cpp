// What a TLS client may send that is no data: how much of it is borne, and that others do not wait meanwhile.

#include "support/catch.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include "support/tls_record_writer.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <system_error>
#include <vector>

using fairlead::close_reason;
using fairlead::connection_event_kind;

namespace test::tls_flood
{
constexpr std::size_t borne = 32;

inline fairlead::server_config config()
{
    auto config = test::local_config();
    config.tls = test::make_tls();
    return config;
}

inline std::string requests(tls_record_writer& writer, std::size_t count)
{
    std::string wire;
    for (std::size_t n = 0; n < count; ++n) {
        wire += writer.renegotiation_request();
    }
    return wire;
}
} // namespace test::tls_flood

using namespace test::tls_flood;

TEST_CASE("renegotiation is refused, and 32 requests between data are borne", "[tls][flood]")
{
    test::running_server running(&test::echo, config());
    running.start();
    test::tls_client client(test::client(running.port()), TLS1_2_VERSION);
    test::tls_record_writer writer(client.ssl());
    std::string wire;
    for (int round = 0; round < 3; ++round) {
        wire += requests(writer, borne);
        wire += writer.record(SSL3_RT_APPLICATION_DATA, "x");
    }
    wire += writer.record(SSL3_RT_ALERT, std::string_view("\x01\x00", 2)); // close_notify
    client.tcp().send(wire);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto end = running.log.closed().front();
    CHECK(end.bytes_read == 3);
    CHECK(end.reason == close_reason::peer_closed);
    CHECK(running.log.errors().empty());
}

TEST_CASE("a flood of renegotiation requests ends the connection", "[tls][flood]")
{
    test::running_server running(&test::echo, config());
    running.start();
    test::tls_client client(test::client(running.port()), TLS1_2_VERSION);
    test::tls_record_writer writer(client.ssl());
    client.tcp().send(requests(writer, 1000));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto end = running.log.closed().front();
    CHECK(end.code == std::errc::protocol_error);
    CHECK(end.reason == close_reason::transport_error);
    // Each answer is a record of an alert, 31 bytes; after the last that is borne there is none.
    const auto rest = client.tcp().receive_rest();
    CHECK(rest.bytes.size() == borne * 31);
}
