// What this server does for a client: the one thing to replace. Nothing here knows of addresses, threads or signals,
// so that main.cpp can serve it and test.cpp can try it.

#ifndef STARTER_SHOUT_HPP
#define STARTER_SHOUT_HPP

#include <fairlead/fairlead.hpp>

#include <algorithm>
#include <cctype>
#include <string>

/// Answers each line in capitals, until the client has finished or the server drains. An exception, such as the one
/// for a line that is too long, ends this connection and no other.
inline asio::awaitable<void> shout(fairlead::connection& conn)
{
    fairlead::framed lines(conn, fairlead::codec::line{.max_frame = 1000});
    for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
        std::string answer(*text);
        std::transform(answer.begin(), answer.end(), answer.begin(), [](unsigned char c) {
            return static_cast<char>(std::toupper(c));
        });
        co_await lines.send(answer);
    }
}

#endif // STARTER_SHOUT_HPP
