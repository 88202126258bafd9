// The server: an address, limits, hooks that say what happens, and a drain at the end.
// Run:   starter [ADDRESS]        (127.0.0.1:7777 unless told otherwise)
// Poke:  nc 127.0.0.1 7777        then Ctrl-C here: who is being answered is answered, then it ends

#include "shout.hpp"
#include <fairlead/fairlead.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <sstream>

using namespace std::chrono_literals;

// Hooks are called on the shards' threads, several at a time: one write for each line keeps it whole.
template <typename... Parts>
void print(const Parts&... parts)
{
    std::ostringstream line;
    (line << ... << parts) << '\n';
    std::clog << line.str();
}

int main(int argc, char** argv)
{
    try {
        const fairlead::drain_report report = fairlead::serve(
            shout,
            fairlead::server_config{
                .address = argc > 1 ? argv[1] : "127.0.0.1:7777",
                .max_connections = 10'000,
                .idle_timeout = 5min,
                .drain_timeout = 10s,
            },
            {.hooks = {
                 .on_error =
                     [](const fairlead::error_event& event) { print("error: ", event.what); },
                 .on_connection =
                     [](const fairlead::connection_event& event) {
                         if (event.kind == fairlead::connection_event_kind::closed) {
                             print(event.remote, " closed: ", to_string(event.reason));
                         }
                     },
                 .on_server =
                     [](const fairlead::server_event& event) {
                         if (event.kind == fairlead::server_event_kind::listening) {
                             print("listening on ", event.local);
                         }
                     }}});
        std::clog << "drained in " << report.took.count() << " ms, " << report.stragglers.size()
                  << " cut off\n";
    } catch (const std::exception& error) { // a port in use, a certificate that is missing
        std::cerr << "starter: " << error.what() << '\n';
        return 1;
    }
}
