// What the examples have in common: hooks that print what happens, and the last line of a drain.

#ifndef FAIRLEAD_EXAMPLES_PRINT_EVENTS_HPP
#define FAIRLEAD_EXAMPLES_PRINT_EVENTS_HPP

#include <fairlead/fairlead.hpp>

#include <cstdio>
#include <sstream>
#include <string>

namespace example
{
/// One line, whole, whichever thread it comes from.
inline void print_line(const std::ostringstream& line)
{
    std::puts(line.str().c_str());
    std::fflush(stdout);
}

inline void print(const fairlead::connection_event& event)
{
    using enum fairlead::connection_event_kind;
    std::ostringstream line;
    line << "connection " << event.id << " from " << event.remote << ' ' << to_string(event.kind);
    if (event.kind == closed) {
        line << ": " << to_string(event.reason) << ", " << event.bytes_read << " bytes in, "
             << event.bytes_written << " out";
        if (event.code) {
            line << " (" << event.code.message() << ')';
        }
    } else if (event.kind != opened && event.kind != accepted) {
        return;
    }
    print_line(line);
}

inline void print(const fairlead::server_event& event)
{
    std::ostringstream line;
    if (event.kind == fairlead::server_event_kind::listening) {
        line << "listening on " << event.local;
    } else {
        line << "server " << to_string(event.kind) << ": " << event.what;
    }
    print_line(line);
}

inline void print(const fairlead::error_event& event)
{
    std::ostringstream line;
    line << "error: " << event.what;
    if (event.connection_id != 0) {
        line << " (connection " << event.connection_id << " from " << event.remote << ')';
    }
    print_line(line);
}

inline void print(const fairlead::drain_report& report)
{
    std::ostringstream line;
    line << "drained in " << report.took.count() << " ms: " << report.drained << " finished, "
         << report.closed_idle << " idle, " << report.stragglers.size() << " cut off";
    print_line(line);
}

inline fairlead::hooks printing_hooks()
{
    return {
        .on_error = [](const fairlead::error_event& event) { print(event); },
        .on_connection = [](const fairlead::connection_event& event) { print(event); },
        .on_server = [](const fairlead::server_event& event) { print(event); }};
}
} // namespace example

#endif // FAIRLEAD_EXAMPLES_PRINT_EVENTS_HPP
