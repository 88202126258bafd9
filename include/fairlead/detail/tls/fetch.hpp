// fairlead: has OpenSSL look up ahead what the first handshake would look up, so that no memory at
// that moment costs one handshake and not all that follow.

#ifndef FAIRLEAD_DETAIL_TLS_FETCH_HPP
#define FAIRLEAD_DETAIL_TLS_FETCH_HPP

#include <fairlead/detail/namespace.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/kdf.h>
#endif

#include <new>

namespace FAIRLEAD_NAMESPACE::detail
{
/// What a static variable keeps of an index that OpenSSL has given. Throws `std::bad_alloc` when it
/// had no memory for one, so that the next caller asks again.
inline int index_or_throw(int index)
{
    if (index < 0) {
        throw std::bad_alloc();
    }
    return index;
}

/// OpenSSL 3 asks its providers once for all algorithms of a kind, and notes that it did even when
/// memory ran out meanwhile: what is missing then is missing for ever. Any thread; what is not
/// there at all is for others to complain about. Throws `std::bad_alloc`.
inline void fetch_tls_algorithms()
{
    // With the first index it makes the lock for all, or never.
    [[maybe_unused]] static const int first = index_or_throw(::BIO_get_new_index());
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    ::EVP_KDF_free(::EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    ::EVP_MAC_free(::EVP_MAC_fetch(nullptr, "HMAC", nullptr));
    ::EVP_KEYEXCH_free(::EVP_KEYEXCH_fetch(nullptr, "X25519", nullptr));
    ::EVP_SIGNATURE_free(::EVP_SIGNATURE_fetch(nullptr, "RSA", nullptr));
    ::EVP_ASYM_CIPHER_free(::EVP_ASYM_CIPHER_fetch(nullptr, "RSA", nullptr));
    ::EVP_KEM_free(::EVP_KEM_fetch(nullptr, "RSA", nullptr));
    ::EVP_CIPHER_free(::EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr));
    ::EVP_MD_free(::EVP_MD_fetch(nullptr, "SHA256", nullptr));
    ::ERR_clear_error();
#endif
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_FETCH_HPP
