// fairlead: a TLS handshake that stops once the client's hello is complete, before any cryptography,
// until it is let on. So who never completes his hello costs nothing but his own memory.

#ifndef FAIRLEAD_DETAIL_TLS_ADMISSION_HPP
#define FAIRLEAD_DETAIL_TLS_ADMISSION_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/tls/fetch.hpp>

#include <openssl/ssl.h>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Where an SSL notes that its handshake must stop at the hello; null: it need not. Throws only the
/// first time, which is when a context is made.
inline int admission_index()
{
    static const int index =
        index_or_throw(SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr));
    return index;
}

/// The handshake stops with SSL_ERROR_WANT_CLIENT_HELLO_CB when the hello is complete. False: no
/// memory.
inline bool stop_at_hello(SSL* ssl) noexcept
{
    return SSL_set_ex_data(ssl, admission_index(), ssl) == 1;
}

/// The next SSL_do_handshake goes on behind the hello.
inline void admit(SSL* ssl) noexcept
{
    SSL_set_ex_data(ssl, admission_index(), nullptr);
}

/// OpenSSL's ClientHello callback.
inline int hello_is_complete(SSL* ssl, int*, void*) noexcept
{
    return SSL_get_ex_data(ssl, admission_index()) == nullptr ? SSL_CLIENT_HELLO_SUCCESS
                                                              : SSL_CLIENT_HELLO_RETRY;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_ADMISSION_HPP
