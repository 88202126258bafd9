// Shows: TLS: a certificate and a key are all it takes; SIGHUP reads them again without closing a
//        connection.
// Run:   tls_echo CERTIFICATE.pem KEY.pem [ADDRESS]       (127.0.0.1:7778 unless told otherwise)
// Poke:  openssl s_client -connect 127.0.0.1:7778 -CAfile CERTIFICATE.pem -quiet

#include "print_events.hpp"
#include <fairlead/fairlead.hpp>

#include <array>
#include <cstdio>
#include <exception>

/// Nothing here knows that it is TLS, except the line that asks.
asio::awaitable<void> echo(fairlead::connection& conn)
{
    if (const fairlead::tls_info* tls = conn.tls()) {
        std::ostringstream line;
        line << "connection " << conn.id() << " speaks "
             << (tls->version == fairlead::tls_version::tls_1_3 ? "TLS 1.3" : "TLS 1.2") << " with "
             << tls->cipher << (tls->resumed ? ", resumed" : "");
        example::print_line(line);
    }
    std::array<char, 4096> buffer;
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const std::size_t n = co_await conn.read_some(asio::buffer(buffer));
        co_await conn.write(asio::buffer(buffer, n));
    }
}

int main(int argc, char** argv)
{
    if (argc < 3) {
        std::fprintf(stderr, "usage: tls_echo CERTIFICATE.pem KEY.pem [ADDRESS]\n");
        return 2;
    }
    try {
        const auto report = fairlead::serve(
            echo,
            {.address = argc > 3 ? argv[3] : "127.0.0.1:7778",
             .tls = fairlead::tls_config{.certificate = argv[1], .private_key = argv[2]}},
            {.hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "tls_echo: %s\n", error.what());
        return 1;
    }
}
