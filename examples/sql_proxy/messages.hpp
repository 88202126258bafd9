// What sql_proxy says and understands of PostgreSQL's protocol, version 3.0: the frames, the start,
// errors, and where a stream of messages stands. Sections 55.2 and 55.7 of PostgreSQL's manual.

#ifndef FAIRLEAD_EXAMPLES_SQL_PROXY_MESSAGES_HPP
#define FAIRLEAD_EXAMPLES_SQL_PROXY_MESSAGES_HPP

#include <fairlead/codec/length_prefix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace sql
{
/// The first message: its length, which counts itself, and a payload.
constexpr fairlead::codec::length_prefix startup_frames{
    .length_adjustment = -4, .max_frame = 10'000};

/// Every other one: a type, its length, which counts itself but not the type, and a body. A frame
/// is all of that.
constexpr fairlead::codec::length_prefix message_frames{
    .length_offset = 1, .length_adjustment = -4, .bytes_to_strip = 0, .max_frame = 16 << 20};

/// What a startup message begins with.
enum class startup_code : std::uint32_t
{
    protocol_3_0 = 196608,
    cancel_request = 80877102,
    tls_request = 80877103,
    gss_request = 80877104,
};

/// Big endian; 0 when there are fewer than four bytes.
inline std::uint32_t read_number(std::string_view bytes)
{
    std::uint32_t number = 0;
    for (const char byte : bytes.size() < 4 ? std::string_view() : bytes.substr(0, 4)) {
        number = number << 8U | static_cast<unsigned char>(byte);
    }
    return number;
}

inline std::string write_number(std::size_t number)
{
    std::string bytes;
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        bytes += static_cast<char>(number >> shift & 0xffU);
    }
    return bytes;
}

/// A message of either side.
inline std::string message(char type, std::string_view body)
{
    return type + write_number(body.size() + 4) + std::string(body);
}

/// A client's first message; the parameters are pairs of texts, each ended by a zero byte.
inline std::string startup_message(std::string_view parameters)
{
    return write_number(parameters.size() + 8) +
           write_number(static_cast<std::uint32_t>(startup_code::protocol_3_0)) +
           std::string(parameters);
}

/// The last words of a session: an ErrorResponse as PostgreSQL would word it.
inline std::string fatal_error(std::string_view state, std::string_view text)
{
    std::string body;
    for (const std::string_view field : {"SFATAL", "VFATAL"}) {
        body += field;
        body += '\0';
    }
    body += 'C' + std::string(state) + '\0';
    body += 'M' + std::string(text) + '\0' + '\0';
    return message('E', body);
}

/// What keeps a session from being served: an ErrorResponse for the client.
class failure : public std::runtime_error
{
public:
    explicit failure(std::string response)
        : std::runtime_error("the database cannot be had"), response_(std::move(response))
    {}

    failure(std::string_view state, std::string_view text) : failure(fatal_error(state, text))
    {}

    const std::string& response() const noexcept
    {
        return response_;
    }

private:
    std::string response_;
};

/// A client's message after which the database answers ReadyForQuery: Query, Sync, FunctionCall.
constexpr bool is_answered(char type)
{
    return type == 'Q' || type == 'S' || type == 'F';
}

/// A client's message that only a later Sync completes: Parse, Bind, Describe, Execute, Close,
/// Flush.
constexpr bool needs_sync(char type)
{
    return std::string_view("PBDECH").find(type) != std::string_view::npos;
}

/// A client's message that belongs to a COPY: data, done, fail.
constexpr bool is_copy(char type)
{
    return type == 'd' || type == 'c' || type == 'f';
}

/// Follows the database's messages through its stream, however that is cut, and keeps none of them.
class reply_scanner
{
public:
    /// Calls `on_ready(status)` for each ReadyForQuery that ends in `bytes`. The status is 'I' when
    /// idle, 'T' in a transaction, 'E' in a failed one. False: this is no message.
    template <typename Ready>
    bool scan(std::string_view bytes, Ready on_ready)
    {
        while (!bytes.empty()) {
            if (header_.size() < 5) {
                header_ += bytes.front();
                bytes.remove_prefix(1);
                if (header_.size() == 5) {
                    const std::uint32_t length = read_number(std::string_view(header_).substr(1));
                    if (length < 4 || (header_.front() == 'Z' && length != 5)) {
                        return false;
                    }
                    rest_ = length - 4;
                }
            } else {
                if (header_.front() == 'Z') {
                    on_ready(bytes.front());
                }
                const std::size_t taken = std::min(rest_, bytes.size());
                bytes.remove_prefix(taken);
                rest_ -= taken;
            }
            if (header_.size() == 5 && rest_ == 0) {
                header_.clear();
            }
        }
        return true;
    }

private:
    std::string header_; // of the message that is passing through
    std::size_t rest_ = 0;
};
} // namespace sql

#endif // FAIRLEAD_EXAMPLES_SQL_PROXY_MESSAGES_HPP
