// fairlead: what a peer may send under TLS that is no data, once the handshake is over. OpenSSL works
// off any number of such records within one call; here they are counted.

#ifndef FAIRLEAD_DETAIL_TLS_FLOOD_HPP
#define FAIRLEAD_DETAIL_TLS_FLOOD_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/tls/fetch.hpp>

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Records of the handshake protocol that a peer may send after the handshake without application
/// data in between. In TLS 1.3 they are KeyUpdates (RFC 8446, 4.6.3), each of which costs a key
/// derivation; in TLS 1.2 they ask for a renegotiation, which is refused by an alert each time. The
/// number is BoringSSL's for KeyUpdates. OpenSSL has limits of its own for alerts (5 in a row) and
/// for empty records (32).
inline constexpr std::uintptr_t max_records_without_data = 32;

/// Where an SSL counts them: a number in a pointer's place, so that nothing is allocated.
inline int records_without_data_index()
{
    static const int index =
        index_or_throw(SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr));
    return index;
}

inline std::uintptr_t records_without_data(const SSL* ssl) noexcept
{
    return reinterpret_cast<std::uintptr_t>(SSL_get_ex_data(ssl, records_without_data_index()));
}

/// The peer exceeded `max_records_without_data`: close the connection. To be asked after each
/// SSL_read that returned no data, before SSL_get_error, which takes it for a close_notify.
inline bool tls_flooded(const SSL* ssl) noexcept
{
    return records_without_data(ssl) > max_records_without_data;
}

/// To be told of each SSL_read that returned data: begins a new count. Only the stream can tell: a
/// record of application data may be empty, and a message callback does not see that.
inline void tls_data_received(SSL* ssl) noexcept
{
    if (records_without_data(ssl) != 0) {
        SSL_set_ex_data(ssl, records_without_data_index(), nullptr);
    }
}

/// OpenSSL's message callback: counts the records that arrive after the handshake and are neither
/// data nor an alert. Not the messages: a request for a renegotiation that is refused is shown to
/// no callback, only the header of its record is.
inline void count_record(
    int sent, int, int type, const void* content, std::size_t size, SSL* ssl, void*) noexcept
{
    // The type of a record is in its header, and under TLS 1.3 inside, where the header says "data".
    const bool tells_type = type == SSL3_RT_HEADER || type == SSL3_RT_INNER_CONTENT_TYPE;
    if (sent != 0 || !tells_type || size == 0 || SSL_is_init_finished(ssl) == 0) {
        return;
    }
    const int kind = *static_cast<const unsigned char*>(content);
    if (kind == SSL3_RT_APPLICATION_DATA || kind == SSL3_RT_ALERT) {
        return;
    }
    const auto count = records_without_data(ssl) + 1;
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    SSL_set_ex_data(ssl, records_without_data_index(), reinterpret_cast<void*>(count));
    if (count > max_records_without_data) {
        // SSL_read would go on for as long as the socket has such records; now it returns 0.
        SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
    }
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_FLOOD_HPP
