// Writes TLS 1.2 records of any type and content under the keys of a finished handshake, as no TLS library does: for
// what a hostile client may send. AES-128-GCM (RFC 5288).

#ifndef FAIRLEAD_TESTS_SUPPORT_TLS_RECORD_WRITER_HPP
#define FAIRLEAD_TESTS_SUPPORT_TLS_RECORD_WRITER_HPP

#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace test
{
class tls_record_writer
{
public:
    /// For `client`, which has sent `sent` records under these keys: its Finished, and what it wrote since. Whoever
    /// writes here does not write there afterwards.
    explicit tls_record_writer(SSL* client, std::uint64_t sent = 1) : sequence_(sent)
    {
        if (std::string_view(SSL_get_cipher_name(client)).find("AES128-GCM") ==
                std::string_view::npos ||
            SSL_version(client) != TLS1_2_VERSION) {
            throw std::runtime_error("not TLS 1.2 with AES-128-GCM");
        }
        std::array<unsigned char, SSL_MAX_MASTER_KEY_LENGTH> master;
        const auto master_size = static_cast<int>(
            SSL_SESSION_get_master_key(SSL_get_session(client), master.data(), master.size()));
        std::array<unsigned char, 13 + 32 + 32> seed{'k', 'e', 'y', ' ', 'e', 'x', 'p',
                                                     'a', 'n', 's', 'i', 'o', 'n'};
        SSL_get_server_random(client, seed.data() + 13, 32);
        SSL_get_client_random(client, seed.data() + 45, 32);
        const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> prf(
            EVP_PKEY_CTX_new_id(EVP_PKEY_TLS1_PRF, nullptr), &EVP_PKEY_CTX_free);
        std::size_t size = keys_.size();
        require(
            EVP_PKEY_derive_init(prf.get()) == 1 &&
            EVP_PKEY_CTX_set_tls1_prf_md(prf.get(), EVP_sha256()) == 1 &&
            EVP_PKEY_CTX_set1_tls1_prf_secret(prf.get(), master.data(), master_size) == 1 &&
            EVP_PKEY_CTX_add1_tls1_prf_seed(
                prf.get(), seed.data(), static_cast<int>(seed.size())) == 1 &&
            EVP_PKEY_derive(prf.get(), keys_.data(), &size) == 1);
    }

    /// The next record, as it goes to the wire.
    std::string record(int type, std::string_view content)
    {
        std::string additional = number(sequence_++); // RFC 5246, section 6.2.3.3
        const std::string nonce = additional;
        additional += static_cast<char>(type);
        additional += "\x03\x03";
        additional += length(content.size());
        const std::string iv = text(keys_.data() + client_iv, 4) + nonce;

        const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> gcm(
            EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
        std::string sealed(content.size(), '\0');
        std::string tag(16, '\0');
        int n = 0;
        require(
            EVP_EncryptInit_ex(gcm.get(), EVP_aes_128_gcm(), nullptr, keys_.data(), bytes(iv)) ==
                1 &&
            EVP_EncryptUpdate(
                gcm.get(), nullptr, &n, bytes(additional), static_cast<int>(additional.size())) ==
                1 &&
            EVP_EncryptUpdate(
                gcm.get(), bytes(sealed), &n, bytes(content), static_cast<int>(content.size())) ==
                1 &&
            EVP_EncryptFinal_ex(gcm.get(), bytes(tag), &n) == 1 &&
            EVP_CIPHER_CTX_ctrl(gcm.get(), EVP_CTRL_GCM_GET_TAG, 16, tag.data()) == 1);
        std::string wire(1, static_cast<char>(type));
        wire += "\x03\x03";
        wire += length(nonce.size() + sealed.size() + tag.size());
        return wire + nonce + sealed + tag;
    }

    /// A ClientHello's head that asks for a renegotiation: the server looks at no more of it.
    std::string renegotiation_request()
    {
        return record(SSL3_RT_HANDSHAKE, std::string_view("\x01\x00\x00\x00", 4));
    }

private:
    static constexpr std::size_t client_iv = 2 * 16; // behind the keys of both sides

    static void require(bool succeeded)
    {
        if (!succeeded) {
            throw std::runtime_error("the test's own TLS records cannot be made");
        }
    }

    static std::string text(const unsigned char* data, std::size_t size)
    {
        return {reinterpret_cast<const char*>(data), size};
    }

    static const unsigned char* bytes(std::string_view of) noexcept
    {
        return reinterpret_cast<const unsigned char*>(of.data());
    }

    static unsigned char* bytes(std::string& of) noexcept
    {
        return reinterpret_cast<unsigned char*>(of.data());
    }

    static std::string number(std::uint64_t value)
    {
        std::string big_endian;
        for (int shift = 56; shift >= 0; shift -= 8) {
            big_endian += static_cast<char>(value >> shift & 0xff);
        }
        return big_endian;
    }

    static std::string length(std::size_t value)
    {
        return number(value).substr(6);
    }

    std::array<unsigned char, 2 * 16 + 2 * 4> keys_{};
    std::uint64_t sequence_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_TLS_RECORD_WRITER_HPP
