// fairlead: turns the strings of `tls_config` into OpenSSL's objects: certificates, keys, lists of
// algorithms. Each failure is an `errc::invalid_tls_config` that names the member, the file and
// OpenSSL's reason. Not the rules of a handshake: those are in tls.hpp.

#ifndef FAIRLEAD_DETAIL_TLS_LOADING_HPP
#define FAIRLEAD_DETAIL_TLS_LOADING_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/tls/fetch.hpp>
#include <fairlead/detail/tls/openssl_ptr.hpp>
#include <fairlead/error.hpp>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE::detail
{
/// Empties this thread's error queue into one line, each reason once: "bad decrypt, no start line".
inline std::string take_openssl_reasons()
{
    std::string text;
    bool is_system_error = false;
    while (const unsigned long code = ERR_get_error()) {
        const bool is_echo = is_system_error && ERR_GET_LIB(code) == ERR_LIB_BIO; // "no such file"
        is_system_error = ERR_GET_LIB(code) == ERR_LIB_SYS;
        // Since OpenSSL 3.0 a system error has no reason string.
        const char* known = ERR_reason_error_string(code);
        const std::string reason = is_system_error
                                       ? std::generic_category().message(ERR_GET_REASON(code))
                                   : known != nullptr ? std::string(known)
                                                      : "code " + std::to_string(code);
        if (!is_echo && text.find(reason) == std::string::npos) {
            text += (text.empty() ? "" : ", ") + reason;
        }
    }
    return text.empty() ? "no reason given by OpenSSL" : text;
}

[[noreturn]] inline void throw_tls_problem(const std::string& message)
{
    ERR_clear_error();
    throw std::system_error(make_error_code(errc::invalid_tls_config), message);
}

/// A member of `tls_config` that is a path or PEM text.
struct pem_source
{
    std::string member;
    std::string_view value;

    // More lenient than "begins with -----BEGIN": a key taken for a path would be in the message.
    bool is_text() const noexcept
    {
        return value.find("-----BEGIN") != value.npos || value.find('\n') != value.npos;
    }

    std::string describe() const
    {
        return is_text() ? "PEM text of " + member : member + " '" + std::string(value) + "'";
    }

    [[noreturn]] void fail(const std::string& why) const
    {
        throw_tls_problem(describe() + ": " + why);
    }

    bio_ptr open() const
    {
        ERR_clear_error();
        std::error_code ignored;
        if (!is_text() && std::filesystem::is_directory(value, ignored)) {
            fail("it is a directory"); // of which OpenSSL would say "no start line"
        }
        bio_ptr bio(
            is_text() ? BIO_new_mem_buf(value.data(), static_cast<int>(value.size()))
                      : BIO_new_file(std::string(value).c_str(), "r"));
        if (bio == nullptr) {
            fail(take_openssl_reasons());
        }
        return bio;
    }
};

/// Answers OpenSSL when it asks for a key's password, so that it never asks the terminal.
class key_password
{
public:
    key_password(std::string_view configured, const std::function<std::string()>& callback)
        : configured_(configured), callback_(callback)
    {}

    key_password(const key_password&) = delete;
    key_password& operator=(const key_password&) = delete;

    ~key_password()
    {
        OPENSSL_cleanse(answer_.data(), answer_.size());
    }

    /// Why no password could be given; empty when OpenSSL never asked, or got one.
    const std::string& problem() const noexcept
    {
        return problem_;
    }

    /// OpenSSL's `pem_password_cb`, with a key_password or null as its last argument.
    static int on_request(char* buffer, int size, int, void* self) noexcept
    {
        return self == nullptr ? -1 : static_cast<key_password*>(self)->answer(buffer, size);
    }

private:
    int answer(char* buffer, int size) noexcept
    {
        try {
            answer_ = configured_.empty() && callback_ ? callback_() : std::string(configured_);
            if (answer_.empty()) {
                problem_ = "the key is encrypted and no password is given";
            } else if (answer_.size() > static_cast<std::size_t>(size)) {
                problem_ = "the password is longer than " + std::to_string(size) + " bytes";
            }
            if (!problem_.empty()) {
                return -1;
            }
            std::memcpy(buffer, answer_.data(), answer_.size());
            return static_cast<int>(answer_.size());
        } catch (const std::exception& error) {
            note("password_callback threw: ", error.what());
        } catch (...) {
            note("password_callback threw what is no ", "std::exception");
        }
        return -1;
    }

    void note(const char* what, const char* detail) noexcept
    {
        try {
            problem_ = std::string(what) + detail;
        } catch (...) { // out of memory: OpenSSL's own reason has to do
        }
    }

    std::string_view configured_;
    const std::function<std::string()>& callback_;
    std::string answer_;
    std::string problem_;
};

/// Reads every certificate of a PEM file or text; at least one.
inline std::vector<x509_ptr> read_certificates(const pem_source& source)
{
    const bio_ptr bio = source.open();
    std::vector<x509_ptr> certificates;
    while (X509* certificate =
               PEM_read_bio_X509_AUX(bio.get(), nullptr, &key_password::on_request, nullptr)) {
        certificates.emplace_back(certificate);
    }
    // "No start line" is how PEM says that nothing more comes: the end, unless nothing came before.
    const unsigned long last = ERR_peek_last_error();
    const bool at_end =
        ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (certificates.empty()) {
        source.fail("no certificate can be read: " + take_openssl_reasons());
    }
    if (!at_end) {
        source.fail(
            "certificate " + std::to_string(certificates.size() + 1) +
            " is unreadable: " + take_openssl_reasons());
    }
    ERR_clear_error();
    return certificates;
}

inline private_key_ptr read_private_key(const pem_source& source, key_password& password)
{
    const bio_ptr bio = source.open();
    private_key_ptr key(
        PEM_read_bio_PrivateKey(bio.get(), nullptr, &key_password::on_request, &password));
    if (key == nullptr) {
        source.fail(
            !password.problem().empty() ? password.problem()
                                        : "no private key can be read: " + take_openssl_reasons());
    }
    ERR_clear_error(); // decoders that were tried in vain have left their reasons
    return key;
}

/// What was printed into a memory BIO.
inline std::string take_text(BIO* bio)
{
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return data == nullptr ? std::string() : std::string(data, static_cast<std::size_t>(size));
}

inline std::string to_string(const ASN1_TIME* time)
{
    const bio_ptr text(BIO_new(BIO_s_mem()));
    return text != nullptr && ASN1_TIME_print(text.get(), time) == 1 ? take_text(text.get())
                                                                     : "an unreadable time";
}

/// The leaf alone: an expired cross-certificate further up the chain can be there on purpose.
inline void check_validity(const pem_source& source, const X509* certificate)
{
    // 0 stands for a date that cannot be parsed; such a certificate is refused as well.
    const ASN1_TIME* const not_before = X509_get0_notBefore(certificate);
    if (X509_cmp_current_time(not_before) >= 0) {
        source.fail("the certificate is not valid before " + to_string(not_before));
    }
    const ASN1_TIME* const not_after = X509_get0_notAfter(certificate);
    if (X509_cmp_current_time(not_after) <= 0) {
        source.fail("the certificate expired on " + to_string(not_after));
    }
}

/// Gives `context` its certificate chain and key, once they are known to belong together.
inline void use_certificate(
    SSL_CTX* context, const pem_source& certificate, const pem_source& private_key,
    key_password& password)
{
    const std::vector<x509_ptr> chain = read_certificates(certificate);
    X509* const leaf = chain.front().get();
    check_validity(certificate, leaf);
    const private_key_ptr key = read_private_key(private_key, password);
    // SSL_CTX_use_PrivateKey drops a certificate of another key type without a word: ask before.
    if (X509_check_private_key(leaf, key.get()) != 1) {
        private_key.fail("the key does not belong to the certificate: " + take_openssl_reasons());
    }
    if (SSL_CTX_use_certificate(context, leaf) != 1) {
        certificate.fail(take_openssl_reasons());
    }
    for (std::size_t i = 1; i < chain.size(); ++i) {
        if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1) {
            certificate.fail(
                "certificate " + std::to_string(i + 1) + ": " + take_openssl_reasons());
        }
    }
    if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        private_key.fail(take_openssl_reasons());
    }
    ERR_clear_error();
}

/// A name that `openssl rehash` gives to a certificate: eight hexadecimal digits, a dot, a number.
inline bool is_hashed_name(std::string_view name) noexcept
{
    return name.size() > 9 && name[8] == '.' &&
           name.substr(0, 8).find_first_not_of("0123456789abcdef") == name.npos &&
           name.substr(9).find_first_not_of("0123456789") == name.npos;
}

/// Reads authorities from a PEM file, PEM text or a hashed directory; at least one. A directory is
/// read now, and not during handshakes as OpenSSL would: a handshake never waits for a disk.
inline std::vector<x509_ptr> read_authorities(const pem_source& source)
{
    std::error_code ignored;
    if (source.is_text() || !std::filesystem::is_directory(source.value, ignored)) {
        return read_certificates(source);
    }
    std::vector<x509_ptr> authorities;
    try {
        for (const auto& entry : std::filesystem::directory_iterator(source.value)) {
            if (is_hashed_name(entry.path().filename().string())) {
                auto found = read_certificates({source.member, entry.path().native()});
                std::move(found.begin(), found.end(), std::back_inserter(authorities));
            }
        }
    } catch (const std::filesystem::filesystem_error& error) {
        source.fail(error.code().message());
    }
    if (authorities.empty()) {
        source.fail("no certificate under a hashed name; run 'openssl rehash' on the directory");
    }
    return authorities;
}

/// A context to try names on: it is this build of OpenSSL that is asked, not a table of ours.
inline ssl_ctx_ptr make_scratch_context()
{
    ssl_ctx_ptr scratch(SSL_CTX_new(TLS_server_method()));
    if (scratch == nullptr) {
        throw_tls_problem("OpenSSL: " + take_openssl_reasons());
    }
    return scratch;
}

[[noreturn]] inline void throw_unknown_name(
    const std::string& member, const std::string& list, const std::string& name)
{
    throw_tls_problem(member + " '" + list + "': '" + name + "' is unknown to this OpenSSL");
}

inline bool is_known_cipher_word(const std::string& word, bool opens_list)
{
    // Classes of ciphers(1) that may be empty in today's builds, and are in many a copied list.
    constexpr std::string_view classes =
        " 3DES ARIA CAMELLIA DES DSS EXP EXPORT GOST94 IDEA KRB5 LOW MD5 MEDIUM PSK RC2 RC4 SEED "
        "SRP SSLv2 aDH aDSS aECDH aGOST kDH kDHd kDHr kECDH kECDHe kECDHr kGOST ";
    if (word.empty()) {
        return false;
    }
    if (word.front() == '@') {
        return word == "@STRENGTH" || (word.size() == 11 && word.starts_with("@SECLEVEL=") &&
                                       word.back() >= '0' && word.back() <= '5');
    }
    if (word == "DEFAULT" || word.starts_with("SUITEB")) {
        return opens_list; // elsewhere OpenSSL skips it
    }
    return classes.find(" " + word + " ") != classes.npos ||
           SSL_CTX_set_cipher_list(make_scratch_context().get(), word.c_str()) == 1;
}

/// Checks a user's TLS 1.2 ciphers. OpenSSL takes a list as long as one of its names is known; here
/// each word between the operators of ciphers(1) (`:` `,` `+` `!` `-` `@`) must be known: alone it
/// selects at least one cipher, or it is a class of ciphers(1) that may be empty (`RC4`).
inline void check_ciphers(const std::string& list)
{
    constexpr std::string_view separators = ":,; ";
    for (std::size_t at = list.find_first_not_of(separators); at < list.size();
         at = list.find_first_not_of(separators, at)) {
        at += std::string_view("!-+").find(list[at]) != std::string_view::npos ? 1U : 0U;
        const std::size_t end = std::min(list.find_first_of(":,; +!@", at + 1), list.size());
        const std::string word = list.substr(at, end - at);
        if (!is_known_cipher_word(word, at == 0)) {
            throw_unknown_name("tls.ciphers", list, word);
        }
        at = end;
    }
    if (SSL_CTX_set_cipher_list(make_scratch_context().get(), list.c_str()) != 1) {
        throw_tls_problem("tls.ciphers '" + list + "': " + take_openssl_reasons());
    }
}

/// The elements of a list between colons.
inline std::vector<std::string> split_names(const std::string& list)
{
    std::vector<std::string> names(1);
    for (const char c : list) {
        c == ':' ? names.emplace_back() : names.back() += c;
    }
    return names;
}

/// Checks a user's TLS 1.3 cipher suites. OpenSSL 3 skips unknown names; here each must be known.
inline void check_ciphersuites(const std::string& list)
{
    for (const std::string& name : split_names(list)) {
        if (name.empty() ||
            SSL_CTX_set_ciphersuites(make_scratch_context().get(), name.c_str()) != 1) {
            throw_unknown_name("tls.ciphersuites", list, name);
        }
    }
}

inline bool are_known_groups(const std::string& list)
{
    ERR_clear_error();
    return SSL_CTX_set1_groups_list(make_scratch_context().get(), list.c_str()) == 1;
}

/// Checks a user's key exchange groups, in the notation of SSL_CTX_set1_groups_list(3).
inline void check_groups(const std::string& list)
{
    const bool accepted = are_known_groups(list);
    const std::string reasons = take_openssl_reasons();
    for (const std::string& name : split_names(list)) {
        // OpenSSL 3.5 skips an empty name, and its longer notation cannot be taken apart at colons.
        if (name.empty() || (!accepted && !are_known_groups(name))) {
            throw_unknown_name("tls.groups", list, name);
        }
    }
    if (!accepted) {
        throw_tls_problem("tls.groups '" + list + "': " + reasons);
    }
}

/// What to offer: checked once, then set on any number of contexts. Empty: OpenSSL's default.
struct tls_algorithms
{
    std::string ciphers;
    std::string ciphersuites;
    std::string groups;
};

/// The user's lists. Where they are empty, Mozilla's intermediate configuration, version 5.8, less
/// what this OpenSSL does not know (of ciphers it skips that itself).
inline tls_algorithms choose_algorithms(const tls_config& config)
{
    fetch_tls_algorithms();
    tls_algorithms chosen{config.ciphers, config.ciphersuites, config.groups};
    if (chosen.ciphers.empty()) {
        for (const std::string cipher :
             {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"}) {
            chosen.ciphers += "ECDHE-ECDSA-" + cipher + ":ECDHE-RSA-" + cipher + ":";
        }
    } else {
        check_ciphers(chosen.ciphers);
    }
    if (!chosen.ciphersuites.empty()) {
        check_ciphersuites(chosen.ciphersuites);
    }
    if (chosen.groups.empty()) {
        for (const char* group : {"X25519MLKEM768", "X25519", "P-256", "P-384"}) {
            if (are_known_groups(group)) {
                chosen.groups += (chosen.groups.empty() ? "" : ":") + std::string(group);
            }
        }
    } else {
        check_groups(chosen.groups);
    }
    ERR_clear_error();
    return chosen;
}
} // namespace FAIRLEAD_NAMESPACE::detail

#endif // FAIRLEAD_DETAIL_TLS_LOADING_HPP
