// fairlead: who frees OpenSSL's objects.

#ifndef FAIRLEAD_DETAIL_TLS_OPENSSL_PTR_HPP
#define FAIRLEAD_DETAIL_TLS_OPENSSL_PTR_HPP

#include <fairlead/detail/namespace.hpp>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Deletes with OpenSSL's function for the type.
template <auto Free>
struct openssl_delete
{
    template <typename Object>
    void operator()(Object* object) const noexcept
    {
        Free(object);
    }
};

using bio_ptr = std::unique_ptr<BIO, openssl_delete<&BIO_free_all>>;
using x509_ptr = std::unique_ptr<X509, openssl_delete<&X509_free>>;
using private_key_ptr = std::unique_ptr<EVP_PKEY, openssl_delete<&EVP_PKEY_free>>;
using ssl_ctx_ptr = std::unique_ptr<SSL_CTX, openssl_delete<&SSL_CTX_free>>;
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_OPENSSL_PTR_HPP
