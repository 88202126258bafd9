// fairlead: TLS for the scripted clients of a simulation.

#ifndef FAIRLEAD_TESTING_TLS_PEER_HPP
#define FAIRLEAD_TESTING_TLS_PEER_HPP

#include <fairlead/detail/namespace.hpp>
#include <fairlead/testing/peer.hpp>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::testing
{
/// What a scripted client asks for. It believes whatever certificate it is shown.
struct tls_peer_options
{
    /// The server's name (SNI); empty: none is sent.
    std::string server_name = {};
    /// Protocols, in the client's order (ALPN).
    std::vector<std::string> alpn = {};
    /// TLS1_2_VERSION or TLS1_3_VERSION; 0: what OpenSSL has.
    int max_version = 0;
    /// A client certificate and its key, as paths of PEM files; empty: none.
    std::string certificate = {};
    std::string private_key = {};
};

/// A TLS client between memory buffers.
class tls_layer final : public stream_layer
{
public:
    explicit tls_layer(const tls_peer_options& options) : context_(SSL_CTX_new(TLS_client_method()))
    {
        require(context_ != nullptr, "a context");
        SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
        if (options.max_version != 0) {
            require(
                SSL_CTX_set_max_proto_version(context_.get(), options.max_version) == 1,
                "the version");
        }
        if (!options.certificate.empty()) {
            require(
                SSL_CTX_use_certificate_chain_file(context_.get(), options.certificate.c_str()) ==
                        1 &&
                    SSL_CTX_use_PrivateKey_file(
                        context_.get(), options.private_key.c_str(), SSL_FILETYPE_PEM) == 1,
                "the certificate");
        }
        ssl_.reset(SSL_new(context_.get()));
        require(ssl_ != nullptr, "a session");
        SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        if (!options.server_name.empty()) {
            SSL_set_tlsext_host_name(ssl_.get(), options.server_name.c_str());
        }
        std::string protocols;
        for (const std::string& one : options.alpn) {
            protocols += static_cast<char>(one.size());
            protocols += one;
        }
        if (!protocols.empty()) {
            SSL_set_alpn_protos(
                ssl_.get(), reinterpret_cast<const unsigned char*>(protocols.data()),
                static_cast<unsigned>(protocols.size()));
        }
        SSL_set_connect_state(ssl_.get());
        handshake();
    }

    bool receive(std::string_view wire, std::string& plain) override
    {
        BIO_write(SSL_get_rbio(ssl_.get()), wire.data(), static_cast<int>(wire.size()));
        if (!is_ready() && !handshake()) {
            return problem_.empty();
        }
        std::array<char, 16384> buffer;
        for (;;) {
            ERR_clear_error();
            const int n = SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
            if (n > 0) {
                plain.append(buffer.data(), static_cast<std::size_t>(n));
                continue;
            }
            const int error = SSL_get_error(ssl_.get(), n);
            has_ended_ = has_ended_ || error == SSL_ERROR_ZERO_RETURN;
            if (has_ended_ && BIO_pending(SSL_get_rbio(ssl_.get())) > 0) {
                problem_ = "something follows close_notify";
                return false;
            }
            return error == SSL_ERROR_WANT_READ || has_ended_ || failed(error);
        }
    }

    void send(std::string_view plain) override
    {
        if (!plain.empty()) {
            ERR_clear_error();
            SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
        }
    }

    void finish() override
    {
        ERR_clear_error();
        SSL_shutdown(ssl_.get());
    }

    std::string take_output() override
    {
        std::string output;
        std::array<char, 16384> buffer;
        for (int n = 0;
             (n = BIO_read(
                  SSL_get_wbio(ssl_.get()), buffer.data(), static_cast<int>(buffer.size()))) > 0;) {
            output.append(buffer.data(), static_cast<std::size_t>(n));
        }
        return output;
    }

    bool has_ended() const override
    {
        return has_ended_;
    }

    bool is_ready() const override
    {
        return SSL_is_init_finished(ssl_.get()) == 1;
    }

    std::string problem() const override
    {
        return problem_;
    }

private:
    struct free_openssl
    {
        void operator()(SSL_CTX* one) const noexcept
        {
            SSL_CTX_free(one);
        }

        void operator()(SSL* one) const noexcept
        {
            SSL_free(one);
        }
    };

    static void require(bool holds, const char* what)
    {
        if (!holds) {
            throw simulation_failure(
                std::string("tls_peer_options: OpenSSL does not take ") + what);
        }
    }

    bool handshake()
    {
        ERR_clear_error();
        const int done = SSL_do_handshake(ssl_.get());
        const int error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), done);
        return done == 1 || (error != SSL_ERROR_WANT_READ && failed(error));
    }

    bool failed(int error)
    {
        std::array<char, 256> text = {};
        ERR_error_string_n(ERR_get_error(), text.data(), text.size());
        problem_ = "TLS error " + std::to_string(error) + ", " + text.data();
        return false;
    }

    std::unique_ptr<SSL_CTX, free_openssl> context_;
    std::unique_ptr<SSL, free_openssl> ssl_;
    std::string problem_;
    bool has_ended_ = false;
};
} // namespace FAIRLEAD_NAMESPACE::testing

#endif // FAIRLEAD_TESTING_TLS_PEER_HPP
