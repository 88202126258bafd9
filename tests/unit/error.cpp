// The error category, its conditions, and the names of the close reasons.

#include "tests/support/catch.hpp"
#include <fairlead/error.hpp>
#include <fairlead/event.hpp>

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

namespace
{
using fairlead::close_reason;
using fairlead::errc;

// The codes run from 1 to this one without a hole.
constexpr int last_errc = static_cast<int>(errc::unhandled_exception);

std::error_code nth(int value)
{
    return {value, fairlead::category()};
}
} // namespace

TEST_CASE("an errc converts to an error_code of the category named fairlead", "[error]")
{
    const std::error_code code = errc::idle_timeout;
    CHECK(code.value() == static_cast<int>(errc::idle_timeout));
    CHECK(&code.category() == &fairlead::category());
    CHECK(std::string_view(code.category().name()) == "fairlead");
    CHECK(code == errc::idle_timeout);
    CHECK_FALSE(code == errc::write_timeout);
    CHECK(code);
    STATIC_REQUIRE(std::is_error_code_enum<errc>::value);
    STATIC_REQUIRE(static_cast<int>(errc::invalid_address) == 1);
}

TEST_CASE("every errc has a message of its own", "[error]")
{
    std::set<std::string> messages;
    for (int value = 1; value <= last_errc; ++value) {
        const std::string message = nth(value).message();
        INFO(value << ": " << message);
        CHECK_FALSE(message.empty());
        CHECK(message.find("unknown") == std::string::npos);
        CHECK(messages.insert(message).second);
    }
}

TEST_CASE("a value outside the enumeration has a message that shows it", "[error]")
{
    CHECK(nth(0).message() == "unknown error 0");
    CHECK(nth(last_errc + 1).message() == "unknown error " + std::to_string(last_errc + 1));
    CHECK(nth(-7).message() == "unknown error -7");
}

TEST_CASE("errors compare equal to their portable counterparts", "[error]")
{
    struct pair
    {
        errc code;
        std::errc condition;
    };
    const std::vector<pair> pairs = {
        {errc::invalid_address, std::errc::invalid_argument},
        {errc::invalid_handler, std::errc::invalid_argument},
        {errc::invalid_config, std::errc::invalid_argument},
        {errc::invalid_tls_config, std::errc::invalid_argument},
        {errc::idle_timeout, std::errc::timed_out},
        {errc::pre_open_timeout, std::errc::timed_out},
        {errc::write_timeout, std::errc::timed_out},
        {errc::shutdown_timeout, std::errc::timed_out},
        {errc::deadline_exceeded, std::errc::timed_out},
        {errc::max_lifetime, std::errc::timed_out},
        {errc::server_closed, std::errc::operation_canceled},
        {errc::connection_closed, std::errc::operation_canceled},
        {errc::draining, std::errc::operation_canceled},
        {errc::connection_refused_by_limit, std::errc::connection_refused},
        {errc::frame_too_large, std::errc::message_size},
        {errc::malformed_frame, std::errc::bad_message},
        {errc::truncated_frame, std::errc::bad_message},
        {errc::malformed_proxy_header, std::errc::bad_message},
        {errc::proxy_header_required, std::errc::protocol_error},
        {errc::out_of_descriptors, std::errc::too_many_files_open},
        {errc::out_of_memory, std::errc::not_enough_memory},
    };
    for (const pair& each : pairs) {
        const std::error_code code = each.code;
        INFO(code.message());
        CHECK(code == each.condition);
        // A second condition would make the comparison useless for telling errors apart.
        CHECK(code != std::errc::address_in_use);
    }
}

TEST_CASE("an error without a portable counterpart is equal only to itself", "[error]")
{
    for (const errc each :
         {errc::already_running, errc::rate_too_low, errc::too_many_connections,
          errc::handler_failed, errc::hook_failed, errc::plaintext_before_tls}) {
        const std::error_code code = each;
        INFO(code.message());
        CHECK(code.default_error_condition().category() == fairlead::category());
        CHECK(code.default_error_condition().value() == code.value());
        CHECK(code != std::errc::timed_out);
        CHECK(code != std::errc::invalid_argument);
    }
}

TEST_CASE("a close reason's text is the enumerator's name", "[error]")
{
    STATIC_REQUIRE(to_string(close_reason::idle_timeout) == "idle_timeout");
    const std::vector<std::string_view> names = {
        "peer_closed",
        "peer_reset",
        "handler_returned",
        "handler_failed",
        "idle_timeout",
        "pre_open_timeout",
        "tls_handshake_failed",
        "proxy_header_invalid",
        "write_timeout",
        "deadline_exceeded",
        "max_lifetime",
        "rate_too_low",
        "rejected_by_limit",
        "evicted",
        "drained",
        "shutdown_timeout",
        "server_closed",
        "transport_error"};
    REQUIRE(names.size() == fairlead::close_reason_count);
    for (std::size_t i = 0; i < names.size(); ++i) {
        CHECK(to_string(static_cast<close_reason>(i)) == names[i]);
    }
    CHECK(to_string(static_cast<close_reason>(names.size())) == "unknown");
}

TEST_CASE("the text of a state and of an event's kind is the enumerator's name", "[error]")
{
    using connection = fairlead::connection_event_kind;
    using server = fairlead::server_event_kind;
    CHECK(to_string(fairlead::server_state::created) == "created");
    CHECK(to_string(fairlead::server_state::draining) == "draining");
    CHECK(to_string(fairlead::server_state::stopped) == "stopped");
    CHECK(to_string(connection::accepted) == "accepted");
    CHECK(to_string(connection::close_read) == "close_read");
    CHECK(to_string(connection::close_write) == "close_write");
    CHECK(to_string(connection::closed) == "closed");
    CHECK(to_string(server::listening) == "listening");
    CHECK(to_string(server::draining) == "draining");
    CHECK(to_string(server::tls_reloaded) == "tls_reloaded");
    CHECK(to_string(server::option_refused) == "option_refused");
    CHECK(to_string(static_cast<server>(99)) == "unknown");
}
