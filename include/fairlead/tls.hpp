// fairlead: TLS for a server: what `tls_config` becomes (`tls_context`), what is known of a peer
// (`tls_info`). Not the stream (detail/io/transport.hpp), nor the reading of certificates and lists
// (detail/tls/loading.hpp).

#ifndef FAIRLEAD_TLS_HPP
#define FAIRLEAD_TLS_HPP

#include <fairlead/config.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/detail/tls/admission.hpp>
#include <fairlead/detail/tls/flood.hpp>
#include <fairlead/detail/tls/loading.hpp>
#include <fairlead/detail/util/ascii.hpp>
#include <fairlead/detail/util/integer_cast.hpp>
#include <fairlead/error.hpp>

#include <asio/ip/address.hpp>
#include <asio/ssl/context.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// The certificate that a client presented: only the client's own claim unless `verified`.
struct tls_peer_certificate
{
    /// The subject in one line, as in RFC 2253: `"CN=alice,O=Example"`; not ASCII: escaped.
    std::string subject;
    /// Subject alternative names by kind; those with a NUL byte inside are left out.
    std::vector<std::string> dns_names = {};
    /// In the usual notation: `"192.0.2.1"`, `"2001:db8::1"`.
    std::vector<std::string> ip_addresses = {};
    std::vector<std::string> uris = {};
    std::vector<std::string> emails = {};
    /// SHA-256 of the DER form, 64 lower-case hexadecimal digits.
    std::string sha256_fingerprint = {};
    /// It was verified against `tls_config::client_ca`, in this handshake or in the one that is
    /// resumed. False under `client_auth::request` and `require`, which do not verify.
    bool verified = false;
};

/// What a TLS handshake agreed on.
struct tls_info
{
    tls_version version = tls_version::tls_1_2;
    /// OpenSSL's name: `"TLS_AES_256_GCM_SHA384"`, `"ECDHE-RSA-AES128-GCM-SHA256"`.
    std::string cipher = {};
    /// The server name that the client asked for, as it wrote it; empty: none.
    std::string sni = {};
    /// The application protocol; empty: none.
    std::string alpn = {};
    /// An earlier session was resumed by its ticket.
    bool resumed = false;
    /// The client's certificate; empty: it presented none.
    std::optional<tls_peer_certificate> peer = {};
};

/// A `tls_config` that was loaded and checked: certificates are in memory, handshakes read no file.
///
/// The server's preference decides between ciphers and between protocols. There is no compression,
/// no renegotiation, and no session kept in memory: tickets only, whose keys live as long as the
/// `SSL_CTX`. OpenSSL's security level is 2, or the system's own if that is higher, whatever build
/// of OpenSSL it is; `tls_config::ciphers` may say otherwise. Revocation lists are not consulted. A
/// peer that sends more than `detail::max_records_without_data` KeyUpdates or requests for a
/// renegotiation with no data in between loses its connection.
///
/// An `SSL` made from `native_handle()` may outlive this object: what OpenSSL's callbacks need
/// belongs to the `SSL_CTX`, which the `SSL` keeps alive. So a reload replaces the pointer, and
/// running connections go on. Immutable, and safe from any number of threads: shards share
/// one through `std::shared_ptr<const tls_context>`.
class tls_context
{
public:
    /// Loads and checks all that `config` names, and refers to nothing of it afterwards. Throws
    /// std::system_error with `errc::invalid_tls_config` and a message that names the member, the
    /// file and OpenSSL's reason. Leaves OpenSSL's error queue empty, and never asks a terminal.
    explicit tls_context(const tls_config& config);

    tls_context(const tls_context&) = delete;
    tls_context& operator=(const tls_context&) = delete;

    /// For SSL_new(3); not to be changed.
    SSL_CTX* native_handle() const noexcept
    {
        return native_;
    }

private:
    asio::ssl::context context_{asio::ssl::context::tls_server};
    SSL_CTX* native_ = context_.native_handle();
};

namespace detail
{
/// OpenSSL's security level (SSL_CTX_set_security_level(3)) where neither the system nor the user
/// asks for more: 112 bits, so no RSA key below 2048. OpenSSL 1.1.1 itself begins at 1.
inline constexpr int lowest_security_level = 2;

/// What the callbacks of a handshake look up. Owned by the default SSL_CTX.
class tls_handshake_rules
{
public:
    tls_handshake_rules(SSL_CTX* default_context, const tls_config& config)
        : default_(default_context), strict_sni_(config.strict_sni)
    {
        for (const std::string& protocol : config.alpn) {
            alpn_.push_back(static_cast<unsigned char>(protocol.size()));
            alpn_.insert(alpn_.end(), protocol.begin(), protocol.end());
        }
    }

    void add(const std::string& name, asio::ssl::context context)
    {
        by_name_.insert_or_assign(folded(name), std::move(context));
    }

    /// The certificates for a client that asks for `name` (empty: for none); null: to be refused.
    SSL_CTX* choose(std::string_view name)
    {
        const std::string asked = folded(name);
        auto found = by_name_.find(asked);
        const std::size_t dot = asked.find('.');
        if (found == by_name_.end() && dot != 0 && dot != std::string::npos) {
            found = by_name_.find("*" + asked.substr(dot));
        }
        if (found != by_name_.end()) {
            return found->second.native_handle();
        }
        return !strict_sni_ || default_is_for(asked) ? default_ : nullptr;
    }

    const std::vector<unsigned char>& alpn() const noexcept
    {
        return alpn_;
    }

private:
    bool default_is_for(const std::string& name) const
    {
        X509* const certificate = SSL_CTX_get0_certificate(default_);
        return !name.empty() &&
               X509_check_host(certificate, name.data(), name.size(), 0, nullptr) == 1;
    }

    // A final dot says "absolute": the same name.
    static std::string folded(std::string_view name)
    {
        return lower_case(std::string(name.substr(0, name.size() - (name.ends_with('.') ? 1 : 0))));
    }

    SSL_CTX* default_;
    bool strict_sni_;
    std::vector<unsigned char> alpn_; // as on the wire: length, name, length, name ...
    std::map<std::string, asio::ssl::context> by_name_;
};

/// Where an SSL_CTX keeps its tls_handshake_rules, which it deletes when the last SSL is gone.
inline int rules_index()
{
    constexpr auto free = [](void*, void* rules, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<tls_handshake_rules*>(rules);
    };
    static const int index =
        index_or_throw(SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free));
    return index;
}

/// OpenSSL's server name callback; also called for a client that asks for no name.
inline int choose_certificate(SSL* ssl, int* alert, void* rules) noexcept
{
    *alert = SSL_AD_INTERNAL_ERROR;
    try {
        const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        SSL_CTX* const chosen =
            static_cast<tls_handshake_rules*>(rules)->choose(name != nullptr ? name : "");
        if (chosen == nullptr) {
            *alert = SSL_AD_UNRECOGNIZED_NAME;
        } else if (SSL_set_SSL_CTX(ssl, chosen) != nullptr) {
            return SSL_TLSEXT_ERR_OK;
        }
    } catch (...) { // out of memory; an exception must not cross OpenSSL
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// OpenSSL's ALPN callback; called only for a client that offers protocols.
inline int choose_protocol(
    SSL*, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
    unsigned int offered_size, void* rules) noexcept
{
    const auto& ours = static_cast<tls_handshake_rules*>(rules)->alpn();
    unsigned char* name = nullptr;
    const int result = SSL_select_next_proto(
        &name, chosen_size, ours.data(), detail::integer_cast<unsigned int>(ours.size()), offered,
        offered_size);
    *chosen = name;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// OpenSSL's certificate callback where clients are asked for a certificate that is not verified:
/// accepts it, and leaves a verify result that cannot be taken for a verification.
inline int accept_unverified(X509_STORE_CTX* store, void*) noexcept
{
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 1;
}

/// Versions, algorithms, options: the same for the default and for each named certificate, because
/// SSL_set_SSL_CTX(3) takes some of them from the one and some from the other.
inline void use_protocol(
    SSL_CTX* context, const tls_config& config, const tls_algorithms& algorithms)
{
    const int lowest = config.min_version == tls_version::tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    const int highest =
        config.max_version == tls_version::tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    const auto& [ciphers, suites, groups] = algorithms;
    // Before the ciphers, which may name another level.
    SSL_CTX_set_security_level(
        context, std::max(SSL_CTX_get_security_level(context), lowest_security_level));
    if (SSL_CTX_set_min_proto_version(context, lowest) != 1 ||
        SSL_CTX_set_max_proto_version(context, highest) != 1 ||
        SSL_CTX_set_cipher_list(context, ciphers.c_str()) != 1 ||
        (!suites.empty() && SSL_CTX_set_ciphersuites(context, suites.c_str()) != 1) ||
        (!groups.empty() && SSL_CTX_set1_groups_list(context, groups.c_str()) != 1)) {
        throw_tls_problem("OpenSSL refuses versions or algorithms: " + take_openssl_reasons());
    }
    SSL_CTX_set_options(
        context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    SSL_CTX_clear_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF); // openssl.cnf may have set it
#endif
    // NO_AUTO_CHAIN: send the chain as given, and do not complete it from the clients' authorities.
    SSL_CTX_set_mode(
        context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_msg_callback(context, &count_record);
    SSL_CTX_set_client_hello_cb(context, &hello_is_complete, nullptr);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (config.session_lifetime.count() > 0) {
        SSL_CTX_set_timeout(context, detail::integer_cast<long>(config.session_lifetime.count()));
    }
    if (!config.session_tickets) {
        // Under TLS 1.3 NO_TICKET alone means tickets that refer to the cache, which is off.
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
    }
    // Without it, resumption under client authentication fails with an alert.
    static constexpr std::array<unsigned char, 8> id = {'f', 'a', 'i', 'r', 'l', 'e', 'a', 'd'};
    SSL_CTX_set_session_id_context(
        context, id.data(), detail::integer_cast<unsigned int>(id.size()));
}

/// Whether and how clients authenticate; `authorities` are those of `config.client_ca`.
inline void use_client_auth(
    SSL_CTX* context, client_auth mode, const std::vector<x509_ptr>& authorities)
{
    if (mode == client_auth::none) {
        return; // OpenSSL's default
    }
    const bool required = mode == client_auth::require || mode == client_auth::require_and_verify;
    SSL_CTX_set_verify(
        context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    if (mode == client_auth::request || mode == client_auth::require) {
        SSL_CTX_set_cert_verify_callback(context, &accept_unverified, nullptr);
        return;
    }
    X509_STORE* const store = SSL_CTX_get_cert_store(context);
    // A trusted intermediate authority is enough; its root need not be given.
    bool done = X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1;
    for (const x509_ptr& authority : authorities) {
        done = done && X509_STORE_add_cert(store, authority.get()) == 1 &&
               SSL_CTX_add_client_CA(context, authority.get()) == 1;
    }
    if (!done) {
        throw_tls_problem("tls.client_ca: " + take_openssl_reasons());
    }
}

inline std::string sha256_fingerprint(const X509* certificate)
{
    std::array<unsigned char, 32> digest{};
    X509_digest(certificate, EVP_sha256(), digest.data(), nullptr);
    std::string text;
    for (const unsigned char byte : digest) {
        text += "0123456789abcdef"[byte / 16];
        text += "0123456789abcdef"[byte % 16];
    }
    return text;
}

/// Files one subject alternative name where it belongs. Kinds without a place there are dropped, as
/// are names with a NUL inside, which C code would read as another name.
inline void add_alternative_name(tls_peer_certificate& peer, const GENERAL_NAME& name)
{
    int kind = 0;
    const void* const value = GENERAL_NAME_get0_value(&name, &kind);
    if (kind != GEN_DNS && kind != GEN_URI && kind != GEN_EMAIL && kind != GEN_IPADD) {
        return;
    }
    const auto* const string = static_cast<const ASN1_STRING*>(value);
    const unsigned char* const data = ASN1_STRING_get0_data(string);
    const std::string text(data, data + ASN1_STRING_length(string));
    const auto add_address = [&](auto address, auto bytes) {
        if (text.size() == bytes.size()) {
            std::copy(text.begin(), text.end(), bytes.begin());
            peer.ip_addresses.push_back(decltype(address)(bytes).to_string());
        }
    };
    if (kind == GEN_IPADD) {
        add_address(asio::ip::address_v4(), asio::ip::address_v4::bytes_type());
        add_address(asio::ip::address_v6(), asio::ip::address_v6::bytes_type());
    } else if (text.find('\0') == std::string::npos) {
        auto& names = kind == GEN_DNS ? peer.dns_names : kind == GEN_URI ? peer.uris : peer.emails;
        names.push_back(text);
    }
}

inline tls_peer_certificate describe(X509* certificate)
{
    tls_peer_certificate peer;
    const bio_ptr subject(BIO_new(BIO_s_mem()));
    if (subject != nullptr) {
        X509_NAME_print_ex(subject.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
        peer.subject = take_text(subject.get());
    }
    const std::unique_ptr<GENERAL_NAMES, openssl_delete<&GENERAL_NAMES_free>> names(
        static_cast<GENERAL_NAMES*>(
            X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) { // -1 for none
        add_alternative_name(peer, *sk_GENERAL_NAME_value(names.get(), i));
    }
    peer.sha256_fingerprint = sha256_fingerprint(certificate);
    return peer;
}

/// What the finished handshake of `ssl` agreed on. Throws std::bad_alloc only.
inline std::unique_ptr<tls_info> make_tls_info(SSL* ssl)
{
    auto info = std::make_unique<tls_info>();
    info->version =
        SSL_version(ssl) == TLS1_2_VERSION ? tls_version::tls_1_2 : tls_version::tls_1_3;
    info->cipher = SSL_get_cipher_name(ssl);
    if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) {
        info->sni = name;
    }
    const unsigned char* protocol = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl, &protocol, &size);
    info->alpn.assign(protocol, protocol + size);
    info->resumed = SSL_session_reused(ssl) == 1;
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    const x509_ptr peer(SSL_get1_peer_certificate(ssl));
#else
    const x509_ptr peer(SSL_get_peer_certificate(ssl));
#endif
    if (peer != nullptr) {
        info->peer = describe(peer.get());
        info->peer->verified = SSL_get_verify_result(ssl) == X509_V_OK;
    }
    ERR_clear_error();
    return info;
}
} // namespace detail

inline tls_context::tls_context(const tls_config& config)
{
    throw_first_problem({.tls = config});
    detail::rules_index(); // no connection is to be the first to need one of these
    detail::admission_index();
    detail::records_without_data_index();
    const detail::tls_algorithms algorithms = detail::choose_algorithms(config);
    const auto authorities = config.client_ca.empty()
                                 ? std::vector<detail::x509_ptr>()
                                 : detail::read_authorities({"tls.client_ca", config.client_ca});
    auto* const rules = new detail::tls_handshake_rules(native_, config);
    if (detail::records_without_data_index() < 0 || // a flood could not be counted
        SSL_CTX_set_ex_data(native_, detail::rules_index(), rules) != 1) {
        delete rules;
        throw std::bad_alloc();
    }
    const auto load = [&](SSL_CTX* context, const std::string& prefix, const auto& entry) {
        detail::use_protocol(context, config, algorithms);
        detail::use_client_auth(context, config.client_auth, authorities);
        if (!config.alpn.empty()) {
            SSL_CTX_set_alpn_select_cb(context, &detail::choose_protocol, rules);
        }
        detail::key_password password(entry.private_key_password, config.password_callback);
        detail::use_certificate(
            context, {prefix + "certificate", entry.certificate},
            {prefix + "private_key", entry.private_key}, password);
    };
    load(native_, "tls.", config);
    for (std::size_t i = 0; i < config.sni.size(); ++i) {
        asio::ssl::context named(asio::ssl::context::tls_server);
        load(named.native_handle(), "tls.sni[" + std::to_string(i) + "].", config.sni[i]);
        rules->add(config.sni[i].name, std::move(named));
    }
    if (!config.sni.empty() || config.strict_sni) {
        // What the macro SSL_CTX_set_tlsext_servername_callback does, less its C cast.
        SSL_CTX_callback_ctrl(
            native_, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
            reinterpret_cast<void (*)()>(&detail::choose_certificate));
        SSL_CTX_set_tlsext_servername_arg(native_, rules);
    }
}
} // namespace FAIRLEAD_NAMESPACE

#endif // FAIRLEAD_TLS_HPP
