// Certificates for tests, made in the process: an authority, what it issues, and a directory to
// write them to.
// Not for production: keys are not protected, serial numbers are random and short.

#ifndef FAIRLEAD_TESTS_SUPPORT_CERTIFICATES_HPP
#define FAIRLEAD_TESTS_SUPPORT_CERTIFICATES_HPP

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace test
{
enum class key_kind
{
    ec_p256,
    rsa_2048,
    /// Too small for OpenSSL's default security level.
    rsa_1024,
    ed25519,
};

/// What a certificate says. The defaults make one for a server on this machine.
struct certificate_options
{
    std::string common_name = "localhost";
    std::vector<std::string> dns_names = {};
    std::vector<std::string> ip_addresses = {};
    std::vector<std::string> uris = {};
    std::vector<std::string> emails = {};
    key_kind key = key_kind::ec_p256;
    /// From now; negative: in the past.
    std::chrono::seconds not_before = -std::chrono::hours(1);
    std::chrono::seconds not_after = std::chrono::hours(24);
    /// May issue certificates itself.
    bool is_authority = false;
};

namespace detail
{
// Every OpenSSL call below succeeds or ends the test.
inline void require(bool succeeded, const char* what)
{
    if (!succeeded) {
        throw std::runtime_error(std::string("test certificates: ") + what);
    }
}

template <typename Print>
std::string pem(Print print)
{
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new(BIO_s_mem()), &BIO_free_all);
    require(bio != nullptr && print(bio.get()) == 1, "PEM");
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
}

inline std::shared_ptr<EVP_PKEY> make_key(key_kind kind)
{
    const int type = kind == key_kind::ec_p256   ? EVP_PKEY_EC
                     : kind == key_kind::ed25519 ? EVP_PKEY_ED25519
                                                 : EVP_PKEY_RSA;
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
        EVP_PKEY_CTX_new_id(type, nullptr), &EVP_PKEY_CTX_free);
    require(context != nullptr && EVP_PKEY_keygen_init(context.get()) == 1, "key type");
    if (type == EVP_PKEY_EC) {
        require(
            EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.get(), NID_X9_62_prime256v1) == 1,
            "curve");
    } else if (type == EVP_PKEY_RSA) {
        const int bits = kind == key_kind::rsa_1024 ? 1024 : 2048;
        require(EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), bits) == 1, "RSA bits");
    }
    EVP_PKEY* key = nullptr;
    require(EVP_PKEY_keygen(context.get(), &key) == 1, "key");
    return {key, &EVP_PKEY_free};
}

inline void add_alternative_names(X509* certificate, const certificate_options& options)
{
    const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
        GENERAL_NAMES_new(), &GENERAL_NAMES_free);
    const auto add = [&](int kind, ASN1_STRING* value) {
        GENERAL_NAME* const name = GENERAL_NAME_new();
        require(name != nullptr && value != nullptr, "alternative name");
        GENERAL_NAME_set0_value(name, kind, value);
        require(sk_GENERAL_NAME_push(names.get(), name) > 0, "alternative name");
    };
    // Not through OpenSSL's text notation, so that a test can put any byte into a name.
    const auto add_texts = [&](int kind, const std::vector<std::string>& texts) {
        for (const std::string& text : texts) {
            ASN1_STRING* const value = ASN1_IA5STRING_new();
            require(
                ASN1_STRING_set(value, text.data(), static_cast<int>(text.size())) == 1, "name");
            add(kind, value);
        }
    };
    add_texts(GEN_DNS, options.dns_names);
    add_texts(GEN_URI, options.uris);
    add_texts(GEN_EMAIL, options.emails);
    for (const std::string& address : options.ip_addresses) {
        add(GEN_IPADD, a2i_IPADDRESS(address.c_str()));
    }
    if (sk_GENERAL_NAME_num(names.get()) > 0) {
        require(
            X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, 0) == 1,
            "alternative names");
    }
}

inline void add_extension(X509* certificate, X509* issuer, int nid, const char* value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
        X509V3_EXT_conf_nid(nullptr, &context, nid, value), &X509_EXTENSION_free);
    require(extension != nullptr, value);
    require(X509_add_ext(certificate, extension.get(), -1) == 1, value);
}
} // namespace detail

/// A certificate and its key.
class certificate
{
public:
    /// Signed by `issuer`, or by itself when there is none.
    explicit certificate(const certificate_options& options, const certificate* issuer = nullptr)
        : key_(detail::make_key(options.key)), x509_(X509_new(), &X509_free)
    {
        using detail::require;
        X509* const x509 = x509_.get();
        X509* const issuing = issuer != nullptr ? issuer->x509() : x509;
        EVP_PKEY* const signing = issuer != nullptr ? issuer->key() : key_.get();

        std::array<unsigned char, 4> random{};
        require(RAND_bytes(random.data(), static_cast<int>(random.size())) == 1, "random");
        long serial = 1;
        for (const unsigned char byte : random) {
            serial = serial * 256 + byte;
        }
        X509_NAME* const subject = X509_get_subject_name(x509);
        require(
            X509_set_version(x509, 2) == 1 &&
                ASN1_INTEGER_set(X509_get_serialNumber(x509), serial) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(x509), options.not_before.count()) != nullptr &&
                X509_gmtime_adj(X509_getm_notAfter(x509), options.not_after.count()) != nullptr &&
                X509_set_pubkey(x509, key_.get()) == 1 &&
                X509_NAME_add_entry_by_txt(
                    subject, "CN", MBSTRING_UTF8,
                    reinterpret_cast<const unsigned char*>(options.common_name.c_str()), -1, -1,
                    0) == 1 &&
                X509_set_issuer_name(x509, X509_get_subject_name(issuing)) == 1,
            "fields");
        detail::add_extension(x509, issuing, NID_subject_key_identifier, "hash");
        detail::add_extension(x509, issuing, NID_authority_key_identifier, "keyid");
        detail::add_extension(
            x509, issuing, NID_basic_constraints,
            options.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        if (options.is_authority) {
            detail::add_extension(x509, issuing, NID_key_usage, "critical,keyCertSign,cRLSign");
        }
        detail::add_alternative_names(x509, options);
        const EVP_MD* const digest =
            EVP_PKEY_base_id(signing) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
        require(X509_sign(x509, signing, digest) > 0, "signature");

        certificate_pem = detail::pem([&](BIO* bio) { return PEM_write_bio_X509(bio, x509); });
        key_pem = detail::pem([&](BIO* bio) {
            return PEM_write_bio_PKCS8PrivateKey(
                bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
        });
    }

    /// PKCS#8, encrypted.
    std::string encrypted_key_pem(
        std::string password) const // by value: OpenSSL 1.1.1 wants a `char*`
    {
        return detail::pem([&](BIO* bio) {
            return PEM_write_bio_PKCS8PrivateKey(
                bio, key(), EVP_aes_256_cbc(), password.data(), static_cast<int>(password.size()),
                nullptr, nullptr);
        });
    }

    /// As `openssl ecparam -genkey` and `openssl genrsa -traditional` write it.
    std::string traditional_key_pem() const
    {
        return detail::pem([&](BIO* bio) {
            return PEM_write_bio_PrivateKey_traditional(
                bio, key(), nullptr, nullptr, 0, nullptr, nullptr);
        });
    }

    /// The name under which `openssl rehash` links to it.
    std::string hashed_name() const
    {
        std::array<char, 32> name{};
        std::snprintf(name.data(), name.size(), "%08lx.0", X509_subject_name_hash(x509()));
        return name.data();
    }

    X509* x509() const noexcept
    {
        return x509_.get();
    }

    EVP_PKEY* key() const noexcept
    {
        return key_.get();
    }

    std::string certificate_pem;
    std::string key_pem; // PKCS#8

private:
    std::shared_ptr<EVP_PKEY> key_;
    std::shared_ptr<X509> x509_;
};

/// An authority that issues certificates:
/// \code
/// test::certificate_authority ca;
/// const auto server = ca.issue({.common_name = "localhost", .dns_names = {"localhost"}});
/// const auto client = ca.issue({.common_name = "alice"});
/// \endcode
class certificate_authority : public certificate
{
public:
    /// A root.
    explicit certificate_authority(const std::string& common_name = "Test CA")
        : certificate(options(common_name))
    {}

    certificate issue(const certificate_options& wanted = {}) const
    {
        return certificate(wanted, this);
    }

    /// An intermediate authority below this one.
    certificate_authority issue_authority(const std::string& common_name) const
    {
        return certificate_authority(common_name, *this);
    }

private:
    certificate_authority(const std::string& common_name, const certificate& issuer)
        : certificate(options(common_name), &issuer)
    {}

    static certificate_options options(const std::string& common_name)
    {
        return {.common_name = common_name, .is_authority = true};
    }
};

/// An empty directory of its own, removed with everything in it.
class temporary_directory
{
public:
    temporary_directory()
    {
        std::string name = (std::filesystem::temp_directory_path() / "fairlead-XXXXXX").string();
        detail::require(::mkdtemp(name.data()) != nullptr, "temporary directory");
        path_ = name;
    }

    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;

    ~temporary_directory()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    const std::filesystem::path& path() const noexcept
    {
        return path_;
    }

    /// Writes a file, replacing what was there, and returns its path.
    std::string write(const std::string& name, const std::string& text) const
    {
        const std::filesystem::path file = path_ / name;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream stream(file, std::ios::binary | std::ios::trunc);
        stream << text;
        stream.close();
        detail::require(stream.good(), "cannot write a file");
        return file.string();
    }

private:
    std::filesystem::path path_;
};
} // namespace test

#endif // FAIRLEAD_TESTS_SUPPORT_CERTIFICATES_HPP
