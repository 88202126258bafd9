// The buffers of a write of messages: own bytes and shared ones in the order in which they came.

#include "tests/support/catch.hpp"
#include <fairlead/detail/connection/shared_bytes.hpp>
#include <fairlead/detail/connection/write_parts.hpp>

#include <asio/buffer.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

using fairlead::detail::mixed_bytes;
using fairlead::detail::shared_bytes;
using fairlead::detail::write_parts;

namespace test::parts
{
inline std::span<const std::byte> bytes(std::string_view text)
{
    return std::as_bytes(std::span(text.data(), text.size()));
}

inline shared_bytes shared(std::string_view text)
{
    return std::make_shared<const std::vector<std::byte>>(bytes(text).begin(), bytes(text).end());
}

inline void append(mixed_bytes& queue, std::string_view text)
{
    queue.own.insert(queue.own.end(), bytes(text).begin(), bytes(text).end());
}

inline std::string left(const write_parts& parts)
{
    std::string text;
    for (const asio::const_buffer& each : parts) {
        text.append(static_cast<const char*>(each.data()), each.size());
    }
    return text;
}
} // namespace test::parts

using namespace test::parts;

TEST_CASE("shared bytes stand where they were put", "[parts]")
{
    mixed_bytes queue;
    CHECK(queue.empty());
    write_parts parts;
    const auto share = [&](const shared_bytes& one) {
        parts.reserve_for_one_more(queue);
        queue.share(one);
    };
    const shared_bytes twice = shared("[S]");
    share(shared("[first]"));
    append(queue, "a");
    append(queue, "b");
    share(twice);
    share(twice);
    append(queue, "c");
    CHECK(queue.size() == 7 + 2 + 6 + 1);
    CHECK(twice.use_count() == 3);
    const std::string payload = "<payload>";
    const std::string trailer = "<trailer>";
    parts.begin_with(queue, bytes(payload), bytes(trailer));
    const std::string all = "[first]ab[S][S]c<payload><trailer>";
    CHECK(left(parts) == all);
    CHECK(parts.payload().size() == payload.size());
    for (std::size_t step = GENERATE(1U, 2U, 3U, 7U, 100U), done = 0; done < all.size();) {
        const std::size_t now = std::min(step, all.size() - done);
        parts.advance(now);
        done += now;
        CHECK(left(parts) == all.substr(done));
        CHECK(parts.size() == all.size() - done);
    }
    queue.clear();
    CHECK(queue.empty());
    CHECK(twice.use_count() == 1);
}

TEST_CASE("without shared bytes a write has three parts", "[parts]")
{
    mixed_bytes queue;
    append(queue, "own");
    write_parts parts;
    parts.begin_with(queue, bytes("pay"), {});
    CHECK(parts.end() - parts.begin() == 3);
    CHECK(left(parts) == "ownpay");
    parts.advance(4);
    CHECK(left(parts) == "ay");
    const std::string moved = "AY"; // as a sender's payload that is copied
    parts.payload() = asio::buffer(moved);
    CHECK(left(parts) == "AY");
    parts.clear();
    CHECK(parts.size() == 0);
    CHECK(left(parts).empty());
}
