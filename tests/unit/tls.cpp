// tls.hpp and detail/tls_loading.hpp: handshakes in memory between a tls_context and an OpenSSL
// client. No sockets; TLS over connections is in tests/integration.

#include "tests/support/catch.hpp"
#include "tests/support/certificates.hpp"
#include <fairlead/tls.hpp>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace fairlead;
using namespace std::chrono_literals;

namespace
{
constexpr int handshake_failure = 40;
constexpr int unknown_ca = 48;
constexpr int protocol_version = 70;
constexpr int no_renegotiation = 100;
constexpr int unrecognized_name = 112;
constexpr int certificate_required = 116;
constexpr int no_application_protocol = 120;

using session_ptr = std::unique_ptr<SSL_SESSION, detail::openssl_delete<&SSL_SESSION_free>>;
using ssl_ptr = std::unique_ptr<SSL, detail::openssl_delete<&SSL_free>>;

struct client_options
{
    int min_version = TLS1_2_VERSION;
    int max_version = TLS1_3_VERSION;
    std::string sni = {};
    std::string alpn = {}; // as on the wire: "\2h2"
    std::string ciphers = {};
    std::string suites = {};
    std::string groups = {};
    const test::certificate* certificate = nullptr;
    SSL_SESSION* session = nullptr;
};

/// A server and a client joined in memory.
class tls_pair
{
public:
    tls_pair(ssl_ptr server_side, const client_options& options)
        : client_context(SSL_CTX_new(TLS_client_method())), server(std::move(server_side))
    {
        SSL_CTX* const context = client_context.get();
        SSL_CTX_set_security_level(context, 0); // what the server refuses is what is tested
        SSL_CTX_set_min_proto_version(context, options.min_version);
        SSL_CTX_set_max_proto_version(context, options.max_version);
        client.reset(SSL_new(context));
        SSL* const ssl = client.get();
        bool done = true;
        if (!options.sni.empty()) {
            done = done && SSL_set_tlsext_host_name(ssl, options.sni.c_str()) == 1;
        }
        if (!options.alpn.empty()) {
            const auto* const wire = reinterpret_cast<const unsigned char*>(options.alpn.data());
            done = done && SSL_set_alpn_protos(
                               ssl, wire, static_cast<unsigned int>(options.alpn.size())) == 0;
        }
        if (!options.ciphers.empty()) {
            done = done && SSL_set_cipher_list(ssl, options.ciphers.c_str()) == 1;
        }
        if (!options.suites.empty()) {
            done = done && SSL_set_ciphersuites(ssl, options.suites.c_str()) == 1;
        }
        if (!options.groups.empty()) {
            done = done && SSL_set1_groups_list(ssl, options.groups.c_str()) == 1;
        }
        if (options.certificate != nullptr) {
            done = done && SSL_use_certificate(ssl, options.certificate->x509()) == 1 &&
                   SSL_use_PrivateKey(ssl, options.certificate->key()) == 1;
        }
        if (options.session != nullptr) {
            done = done && SSL_set_session(ssl, options.session) == 1;
        }
        REQUIRE(done);
        SSL_set_app_data(ssl, this);
        SSL_set_info_callback(ssl, [](const SSL* of, int where, int value) {
            if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT) {
                static_cast<tls_pair*>(SSL_get_app_data(of))->alert = value & 0xff;
            }
        });
        BIO* server_end = nullptr;
        BIO* client_end = nullptr;
        REQUIRE(BIO_new_bio_pair(&server_end, 0, &client_end, 0) == 1);
        SSL_set_bio(server.get(), server_end, server_end);
        SSL_set_bio(ssl, client_end, client_end);
        SSL_set_accept_state(server.get());
        SSL_set_connect_state(ssl);
        for (int i = 0; i < 10; ++i) {
            const bool client_done = SSL_do_handshake(ssl) == 1;
            connected = SSL_do_handshake(server.get()) == 1 && client_done;
        }
        // TLS 1.3: tickets and the verdict on a certificate come after the client's handshake.
        char byte = 0;
        connected = SSL_read(ssl, &byte, 1) <= 0 && alert == 0 && connected;
        ERR_clear_error();
    }

    tls_pair(const tls_context& context, const client_options& options = {})
        : tls_pair(ssl_ptr(SSL_new(context.native_handle())), options)
    {}

    tls_pair(const tls_pair&) = delete;
    tls_pair& operator=(const tls_pair&) = delete;

    tls_info info() const
    {
        REQUIRE(connected);
        return *detail::make_tls_info(server.get());
    }

    session_ptr session() const
    {
        return session_ptr(SSL_get1_session(client.get()));
    }

    /// The common name of the certificate that the server showed.
    std::string shown_name() const
    {
        REQUIRE(connected);
        const auto* const chain = SSL_get_peer_cert_chain(client.get());
        return detail::describe(sk_X509_value(chain, 0)).subject.substr(3);
    }

    detail::ssl_ctx_ptr client_context;
    ssl_ptr server;
    ssl_ptr client;
    bool connected = false;
    int alert = 0; // what the client was told; 0: nothing
};

const test::certificate_authority& authority()
{
    static const test::certificate_authority it;
    return it;
}

const test::certificate& server_certificate()
{
    static const test::certificate it =
        authority().issue({.common_name = "localhost", .dns_names = {"localhost", "default.test"}});
    return it;
}

tls_config working_config()
{
    return {
        .certificate = server_certificate().certificate_pem,
        .private_key = server_certificate().key_pem};
}

tls_config config_with(const test::certificate& certificate)
{
    return {.certificate = certificate.certificate_pem, .private_key = certificate.key_pem};
}

/// The message with which a configuration is refused; empty when it is taken.
std::string problem_of(const tls_config& config)
{
    std::string message;
    try {
        const tls_context context(config);
    } catch (const std::system_error& error) {
        CHECK(error.code() == errc::invalid_tls_config);
        message = error.what();
        INFO(message);
        CHECK(message.find("PRIVATE KEY") == std::string::npos);
    }
    CHECK(ERR_peek_error() == 0);
    return message;
}

bool contains(const std::string& text, const std::string& part)
{
    return text.find(part) != std::string::npos;
}

bool connects(const tls_config& config, const client_options& client)
{
    return tls_pair(tls_context(config), client).connected;
}
} // namespace

TEST_CASE("versions below 1.2 are refused with protocol_version", "[tls]")
{
    const int version = GENERATE(TLS1_VERSION, TLS1_1_VERSION);
    const tls_context context(working_config());
    const tls_pair pair(context, {.min_version = version, .max_version = version});
    CHECK_FALSE(pair.connected);
    CHECK(pair.alert == protocol_version);
}

TEST_CASE("TLS 1.2 and 1.3 connect with nothing but a certificate configured", "[tls]")
{
    const tls_context context(working_config());
    const tls_pair old_pair(context, {.max_version = TLS1_2_VERSION});
    CHECK(old_pair.info().version == tls_version::tls_1_2);
    CHECK(old_pair.info().cipher == "ECDHE-ECDSA-AES128-GCM-SHA256");
    const tls_pair new_pair(context, {.min_version = TLS1_3_VERSION});
    CHECK(new_pair.info().version == tls_version::tls_1_3);
    CHECK(new_pair.info().cipher == "TLS_AES_256_GCM_SHA384");
    CHECK_FALSE(new_pair.info().resumed);
    CHECK_FALSE(new_pair.info().peer.has_value());
    CHECK(new_pair.info().sni.empty());
    CHECK(new_pair.info().alpn.empty());
    CHECK(ERR_peek_error() == 0);
}

TEST_CASE("the configured versions are the floor and the ceiling", "[tls]")
{
    tls_config config = working_config();
    SECTION("only 1.3")
    {
        config.min_version = tls_version::tls_1_3;
        const tls_pair pair(tls_context(config), {.max_version = TLS1_2_VERSION});
        CHECK(pair.alert == protocol_version);
        CHECK(connects(config, {}));
    }
    SECTION("only 1.2")
    {
        config.max_version = tls_version::tls_1_2;
        const tls_pair pair(tls_context(config), {.min_version = TLS1_3_VERSION});
        CHECK(pair.alert == protocol_version);
        CHECK(tls_pair(tls_context(config)).info().version == tls_version::tls_1_2);
    }
}

TEST_CASE("the default TLS 1.2 ciphers are Mozilla's intermediate ones", "[tls]")
{
    const tls_context context(working_config());
    std::vector<std::string> names;
    const auto* const ciphers = SSL_CTX_get_ciphers(context.native_handle());
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
        const std::string name = SSL_CIPHER_get_name(sk_SSL_CIPHER_value(ciphers, i));
        if (!name.starts_with("TLS_")) {
            names.push_back(name);
        }
    }
    CHECK(
        names == std::vector<std::string>{
                     "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
                     "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
                     "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"});
    const tls_pair pair(
        context, {.max_version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256"});
    CHECK(pair.alert == handshake_failure);
}

TEST_CASE("the server's preference decides between ciphers", "[tls]")
{
    const client_options client{
        .max_version = TLS1_2_VERSION,
        .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"};
    CHECK(
        tls_pair(tls_context(working_config()), client).info().cipher ==
        "ECDHE-ECDSA-AES128-GCM-SHA256");
}

TEST_CASE("configured ciphers and suites are the ones used", "[tls]")
{
    tls_config config = working_config();
    config.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    config.ciphersuites = "TLS_CHACHA20_POLY1305_SHA256";
    const tls_context context(config);
    CHECK(
        tls_pair(context, {.max_version = TLS1_2_VERSION}).info().cipher ==
        "ECDHE-ECDSA-AES256-GCM-SHA384");
    CHECK(tls_pair(context).info().cipher == "TLS_CHACHA20_POLY1305_SHA256");
}

TEST_CASE("OpenSSL's notation for cipher lists is accepted", "[tls]")
{
    tls_config config = working_config();
    config.ciphers = GENERATE(
        as<std::string>{}, "HIGH", "ECDHE+AESGCM:!aNULL", "HIGH:!aNULL:!MD5:!RC4:!3DES:!EXPORT",
        "HIGH:MEDIUM:!SSLv2", "DEFAULT", "DEFAULT@SECLEVEL=1", "DEFAULT:!SHA1:+AES128",
        "ALL:@STRENGTH", "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES128-GCM-SHA256",
        "HIGH:-CAMELLIA,ECDHE;@SECLEVEL=2", "SUITEB128", "TLSv1.2:!PSK",
        "kEECDH+AES256:@SECLEVEL=1");
    INFO(config.ciphers);
    CHECK(problem_of(config).empty());
}

TEST_CASE("an unknown cipher is an error that quotes it, even among known ones", "[tls]")
{
    struct row
    {
        std::string list, culprit;
    };
    const row it = GENERATE(values<row>(
        {{"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GMC-SHA256",
          "'ECDHE-RSA-AES128-GMC-SHA256'"},
         {"HIGH:!aNUL", "'aNUL'"},
         {"ECDHE+AESGMC:HIGH", "'AESGMC'"},
         {"HIGH:@SECLEVEL=9", "'@SECLEVEL=9'"},
         {"HIGH:@STRONG", "'@STRONG'"},
         {"HIGH:DEFAULT", "'DEFAULT'"}, // read at the beginning only
         {"HIGH:", ""},
         {"HIGH:!", "''"},
         {"HIGH:TLS_AES_128_GCM_SHA256", "'TLS_AES_128_GCM_SHA256'"},
         {"HIGH/AES", "'HIGH/AES'"}}));
    tls_config config = working_config();
    config.ciphers = it.list;
    const std::string problem = problem_of(config);
    INFO(it.list << ": " << problem);
    if (it.culprit.empty()) {
        CHECK(problem.empty());
    } else {
        CHECK(contains(problem, "tls.ciphers"));
        CHECK(contains(problem, it.culprit));
    }
}

TEST_CASE("ciphers that exclude each other leave nothing and are an error", "[tls]")
{
    tls_config config = working_config();
    config.ciphers = "ECDHE:!ECDHE";
    CHECK(contains(problem_of(config), "no cipher match"));
}

TEST_CASE("an unknown cipher suite is an error that quotes it, even among known ones", "[tls]")
{
    tls_config config = working_config();
    config.ciphersuites = "TLS_AES_128_GCM_SHA256:TLS_AES_512_GCM_SHA256";
    CHECK(contains(problem_of(config), "tls.ciphersuites"));
    CHECK(contains(problem_of(config), "'TLS_AES_512_GCM_SHA256'"));
    config.ciphersuites = "TLS_AES_128_GCM_SHA256::TLS_AES_256_GCM_SHA384";
    CHECK(contains(problem_of(config), "''"));
}

TEST_CASE("the default groups are X25519, P-256 and P-384, and no others", "[tls]")
{
    CHECK(connects(working_config(), {.groups = "X25519"}));
    CHECK(connects(working_config(), {.groups = "P-256"}));
    CHECK(connects(working_config(), {.groups = "P-384"}));
    CHECK_FALSE(connects(working_config(), {.groups = "P-521"}));
    // The server's choice needs a second round (HelloRetryRequest) and works.
    CHECK(connects(working_config(), {.groups = "P-521:P-384"}));
}

TEST_CASE("configured groups are the ones used, and an unknown one is an error", "[tls]")
{
    tls_config config = working_config();
    config.groups = "P-521";
    CHECK(connects(config, {.groups = "P-521"}));
    CHECK_FALSE(connects(config, {.groups = "X25519"}));
    config.groups = "P-256:P-257";
    CHECK(contains(problem_of(config), "tls.groups 'P-256:P-257': 'P-257'"));
    config.groups = "P-256:";
    CHECK(contains(problem_of(config), "tls.groups 'P-256:': ''"));
}

TEST_CASE("certificates and keys are read from files as from text", "[tls]")
{
    const test::temporary_directory directory;
    const auto kind =
        GENERATE(test::key_kind::ec_p256, test::key_kind::rsa_2048, test::key_kind::ed25519);
    const test::certificate own = authority().issue({.common_name = "own", .key = kind});
    tls_config config = config_with(own);
    CHECK(tls_pair(tls_context(config)).shown_name() == "own");
    config.certificate = directory.write("certificate.pem", own.certificate_pem);
    config.private_key = directory.write("key.pem", own.key_pem);
    CHECK(tls_pair(tls_context(config)).shown_name() == "own");
    // One file for both, as haproxy has it.
    config.certificate = directory.write("both.pem", own.key_pem + own.certificate_pem);
    config.private_key = config.certificate;
    CHECK(tls_pair(tls_context(config)).shown_name() == "own");
}

TEST_CASE("keys in their traditional forms are read", "[tls]")
{
    tls_config config = working_config();
    config.private_key = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                         "-----END EC PARAMETERS-----\n" +
                         server_certificate().traditional_key_pem();
    CHECK(connects(config, {}));
    const test::certificate rsa = authority().issue({.key = test::key_kind::rsa_2048});
    config = {.certificate = rsa.certificate_pem, .private_key = rsa.traditional_key_pem()};
    CHECK(connects(config, {}));
}

TEST_CASE("the chain is sent as it was given", "[tls]")
{
    const auto intermediate = authority().issue_authority("Intermediate CA");
    const auto leaf = intermediate.issue({.common_name = "leaf"});
    tls_config config = config_with(leaf);
    config.client_auth = client_auth::verify_if_given;
    config.client_ca = intermediate.certificate_pem;
    const auto sent = [](const tls_config& of) {
        const tls_pair pair{tls_context(of)};
        REQUIRE(pair.connected);
        return sk_X509_num(SSL_get_peer_cert_chain(pair.client.get()));
    };
    CHECK(sent(config) == 1); // and not completed from the clients' authorities
    config.certificate += intermediate.certificate_pem;
    CHECK(sent(config) == 2);
}

TEST_CASE("an encrypted key is opened by the password or by the callback", "[tls]")
{
    tls_config config = working_config();
    config.private_key = server_certificate().encrypted_key_pem("opensesame");
    int calls = 0;
    SECTION("password")
    {
        config.private_key_password = "opensesame";
        config.password_callback = [&] { return ++calls, "another"; };
        CHECK(connects(config, {}));
        CHECK(calls == 0);
    }
    SECTION("callback, asked once")
    {
        config.password_callback = [&] { return ++calls, "opensesame"; };
        CHECK(connects(config, {}));
        CHECK(calls == 1);
    }
    SECTION("callback, not asked for a key that is not encrypted")
    {
        config.private_key = server_certificate().key_pem;
        config.password_callback = [&] { return ++calls, "opensesame"; };
        CHECK(connects(config, {}));
        CHECK(calls == 0);
    }
}

TEST_CASE("an encrypted key without the right password is an error, and nobody is asked", "[tls]")
{
    tls_config config = working_config();
    config.private_key = server_certificate().encrypted_key_pem("opensesame");
    SECTION("none")
    {
        CHECK(contains(
            problem_of(config),
            "PEM text of tls.private_key: the key is encrypted and no password is given"));
    }
    SECTION("wrong")
    {
        config.private_key_password = "closesesame";
        CHECK(contains(problem_of(config), "bad decrypt"));
    }
    SECTION("too long")
    {
        config.private_key_password = std::string(100'000, 'x');
        CHECK(contains(problem_of(config), "the password is longer than"));
    }
    SECTION("the callback throws")
    {
        config.password_callback = []() -> std::string { throw std::runtime_error("no vault"); };
        CHECK(contains(problem_of(config), "password_callback threw: no vault"));
    }
    SECTION("the callback throws something else")
    {
        config.password_callback = []() -> std::string { throw 1; };
        CHECK(contains(problem_of(config), "password_callback threw"));
    }
    SECTION("the callback has none")
    {
        config.password_callback = [] { return std::string(); };
        CHECK(contains(problem_of(config), "no password is given"));
    }
}

TEST_CASE("files that cannot be used are named with the reason", "[tls]")
{
    const test::temporary_directory directory;
    tls_config config = working_config();
    const std::string certificate = server_certificate().certificate_pem;
    std::string reason;
    SECTION("missing")
    {
        config.certificate = (directory.path() / "nowhere.pem").string();
        reason = "No such file or directory";
    }
    SECTION("a directory")
    {
        config.certificate = directory.path().string();
        reason = "it is a directory";
    }
    SECTION("empty")
    {
        config.certificate = directory.write("empty.pem", "");
        reason = "no start line";
    }
    SECTION("garbage")
    {
        config.certificate = directory.write("garbage.pem", "\x7f garbage \x01");
        reason = "no start line";
    }
    SECTION("truncated")
    {
        config.certificate =
            directory.write("short.pem", certificate.substr(0, certificate.size() / 2));
        reason = "bad end line";
    }
    SECTION("the second of the chain is truncated")
    {
        config.certificate = directory.write(
            "chain.pem", certificate + certificate.substr(0, certificate.size() / 2));
        reason = "certificate 2 is unreadable: bad end line";
    }
    const std::string problem = problem_of(config);
    INFO(problem);
    CHECK(contains(problem, "tls.certificate '" + config.certificate + "'"));
    CHECK(contains(problem, reason));
}

TEST_CASE("keys that cannot be used are named with the reason", "[tls]")
{
    const test::temporary_directory directory;
    tls_config config = working_config();
    std::string reason;
    SECTION("missing")
    {
        config.private_key = (directory.path() / "nowhere.key").string();
        reason = "No such file or directory";
    }
    SECTION("garbage")
    {
        config.private_key = directory.write("key.pem", "garbage");
        reason = "no private key can be read";
    }
    SECTION("truncated")
    {
        config.private_key = directory.write("key.pem", config.private_key.substr(0, 80));
        reason = "no private key can be read";
    }
    SECTION("another key of the same type")
    {
        config.private_key = directory.write("key.pem", authority().issue().key_pem);
        reason = "key values mismatch";
    }
    SECTION("a key of another type")
    {
        const auto rsa = authority().issue({.key = test::key_kind::rsa_2048});
        config.private_key = directory.write("key.pem", rsa.key_pem);
        reason = "key type mismatch";
    }
    const std::string problem = problem_of(config);
    INFO(problem);
    CHECK(contains(problem, "tls.private_key '" + config.private_key + "'"));
    CHECK(contains(problem, reason));
}

TEST_CASE("a key is never quoted, whatever it is taken for", "[tls]")
{
    tls_config config = working_config();
    config.private_key = "\n" + config.private_key;
    CHECK(connects(config, {}));
    config.private_key = "c2VjcmV0\nc2VjcmV0\n";
    CHECK_FALSE(contains(problem_of(config), "c2VjcmV0"));
}

TEST_CASE("certificates that no client would accept are refused", "[tls]")
{
    SECTION("expired")
    {
        const auto own = authority().issue({.not_before = -48h, .not_after = -1s});
        CHECK(contains(
            problem_of(config_with(own)),
            "PEM text of tls.certificate: the certificate expired on"));
    }
    SECTION("not yet valid")
    {
        const auto own = authority().issue({.not_before = 1h});
        CHECK(contains(problem_of(config_with(own)), "the certificate is not valid before"));
    }
    SECTION("the key is too small")
    {
        const auto own = authority().issue({.key = test::key_kind::rsa_1024});
        CHECK(contains(problem_of(config_with(own)), "ee key too small"));
    }
}

namespace
{
/// OpenSSL's defaults as a system's openssl.cnf sets them, while this lives.
class system_security_level
{
public:
    explicit system_security_level(int level)
    {
        load(level);
    }

    system_security_level(const system_security_level&) = delete;
    system_security_level& operator=(const system_security_level&) = delete;

    ~system_security_level()
    {
        load(original_);
    }

private:
    void load(int level)
    {
        const std::string file = directory_.write(
            "openssl.cnf", "openssl_conf = main\n[main]\nssl_conf = ssl\n[ssl]\n"
                           "system_default = defaults\n[defaults]\n"
                           "CipherString = DEFAULT:@SECLEVEL=" +
                               std::to_string(level) + "\n");
        CHECK(CONF_modules_load_file(file.c_str(), nullptr, 0) == 1);
        CHECK(SSL_CTX_get_security_level(detail::make_scratch_context().get()) == level);
    }

    int original_ = SSL_CTX_get_security_level(detail::make_scratch_context().get());
    test::temporary_directory directory_;
};
} // namespace

TEST_CASE("the security level is 2, whatever the system's default is, or higher", "[tls]")
{
    const auto level_of = [](const tls_config& config) {
        return SSL_CTX_get_security_level(tls_context(config).native_handle());
    };
    const int system = GENERATE(0, 1, 2, 3);
    const system_security_level defaults(system);
    tls_config config = working_config();
    CHECK(level_of(config) == std::max(system, 2));
    config.ciphers = "HIGH";
    CHECK(level_of(config) == std::max(system, 2));
    // Who writes a level means it.
    config.ciphers = "HIGH:@SECLEVEL=1";
    CHECK(level_of(config) == 1);

    const auto small = authority().issue({.key = test::key_kind::rsa_1024});
    config = config_with(small);
    CHECK(contains(problem_of(config), "ee key too small"));
    config.ciphers = "HIGH:@SECLEVEL=0";
    CHECK(problem_of(config).empty());
    // For certificates chosen by name too.
    config = working_config();
    config.sni = {{"www.example.test", small.certificate_pem, small.key_pem}};
    CHECK(contains(problem_of(config), "ee key too small"));
}

TEST_CASE("the rules of check() hold for a tls_context made directly", "[tls]")
{
    CHECK(contains(problem_of({}), "tls.certificate"));
    tls_config config = working_config();
    config.client_auth = client_auth::require_and_verify;
    CHECK(contains(problem_of(config), "tls.client_ca"));
}

TEST_CASE("each way of client authentication asks for what it says", "[tls]")
{
    struct row
    {
        client_auth mode;
        bool without, unknown, known, verified;
    };
    const row it = GENERATE(values<row>(
        {{client_auth::none, true, true, true, false},
         {client_auth::request, true, true, true, false},
         {client_auth::require, false, true, true, false},
         {client_auth::verify_if_given, true, false, true, true},
         {client_auth::require_and_verify, false, false, true, true}}));
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    INFO("mode " << static_cast<int>(it.mode) << ", version " << version);
    tls_config config = working_config();
    config.client_auth = it.mode;
    config.client_ca = it.mode == client_auth::none ? "" : authority().certificate_pem;
    const tls_context context(config);
    client_options client{.max_version = version};

    const tls_pair without(context, client);
    CHECK(without.connected == it.without);
    if (it.without) {
        CHECK_FALSE(without.info().peer.has_value());
    } else {
        CHECK(
            without.alert ==
            (version == TLS1_2_VERSION ? handshake_failure : certificate_required));
    }

    const test::certificate stranger = test::certificate_authority("Other CA").issue();
    client.certificate = &stranger;
    const tls_pair unknown(context, client);
    CHECK(unknown.connected == it.unknown);
    CHECK(unknown.alert == (it.unknown ? 0 : unknown_ca));
    if (it.unknown && it.mode != client_auth::none) {
        CHECK_FALSE(unknown.info().peer->verified);
    }

    const test::certificate alice = authority().issue({.common_name = "alice"});
    client.certificate = &alice;
    const tls_pair known(context, client);
    CHECK(known.connected == it.known);
    CHECK(known.info().peer.has_value() == (it.mode != client_auth::none));
    if (known.info().peer) {
        CHECK(known.info().peer->verified == it.verified);
        CHECK(known.info().peer->subject == "CN=alice");
    }
}

TEST_CASE("an expired client certificate is refused where certificates are verified", "[tls]")
{
    tls_config config = working_config();
    config.client_auth = client_auth::verify_if_given;
    config.client_ca = authority().certificate_pem;
    const auto late = authority().issue({.not_before = -48h, .not_after = -1h});
    const tls_pair pair(tls_context(config), {.certificate = &late});
    CHECK_FALSE(pair.connected);
    CHECK(pair.alert == 45); // certificate_expired
}

TEST_CASE("authorities come from text, a file or a hashed directory", "[tls]")
{
    const test::temporary_directory directory;
    const test::certificate_authority second("Second CA");
    const auto own = second.issue();
    tls_config config = working_config();
    config.client_auth = client_auth::require_and_verify;
    SECTION("text with several")
    {
        config.client_ca = authority().certificate_pem + second.certificate_pem;
    }
    SECTION("file with several")
    {
        config.client_ca =
            directory.write("ca.pem", authority().certificate_pem + second.certificate_pem);
    }
    SECTION("directory")
    {
        directory.write(authority().hashed_name(), authority().certificate_pem);
        directory.write(second.hashed_name(), second.certificate_pem);
        directory.write("README", "not a certificate");
        directory.write(second.hashed_name().substr(0, 9) + "r0", "a revocation list");
        config.client_ca = directory.path().string();
    }
    const tls_pair pair(tls_context(config), {.certificate = &own});
    CHECK(pair.info().peer->verified);
    // The client is told whose certificates are taken.
    CHECK(sk_X509_NAME_num(SSL_get0_peer_CA_list(pair.client.get())) == 2);
}

TEST_CASE("authorities of which none can be read are an error", "[tls]")
{
    const test::temporary_directory directory;
    tls_config config = working_config();
    config.client_auth = client_auth::require_and_verify;
    std::string reason;
    SECTION("garbage")
    {
        config.client_ca = directory.write("ca.pem", "garbage");
        reason = "no start line";
    }
    SECTION("a key instead")
    {
        config.client_ca = directory.write("ca.pem", server_certificate().key_pem);
        reason = "no start line";
    }
    SECTION("missing")
    {
        config.client_ca = (directory.path() / "nowhere").string();
        reason = "No such file or directory";
    }
    SECTION("a directory that was not hashed")
    {
        directory.write("ca.pem", authority().certificate_pem);
        config.client_ca = directory.path().string();
        reason = "openssl rehash";
    }
    const std::string problem = problem_of(config);
    INFO(problem);
    CHECK(contains(problem, "tls.client_ca '" + config.client_ca + "'"));
    CHECK(contains(problem, reason));
}

TEST_CASE("an intermediate authority can be trusted without its root", "[tls]")
{
    const auto intermediate = authority().issue_authority("Intermediate CA");
    const auto alice = intermediate.issue({.common_name = "alice"});
    tls_config config = working_config();
    config.client_auth = client_auth::require_and_verify;
    config.client_ca = intermediate.certificate_pem;
    CHECK(tls_pair(tls_context(config), {.certificate = &alice}).info().peer->verified);
    const auto bob = authority().issue({.common_name = "bob"});
    CHECK(tls_pair(tls_context(config), {.certificate = &bob}).alert == unknown_ca);
}

TEST_CASE("the peer's certificate is described", "[tls]")
{
    using namespace std::string_literals;
    tls_config config = working_config();
    config.client_auth = client_auth::require_and_verify;
    config.client_ca = authority().certificate_pem;
    const auto alice = authority().issue(
        {.common_name = "alice, \xc3\xa9",
         .dns_names = {"alice.test", "evil.test\0.good.test"s},
         .ip_addresses = {"192.0.2.1", "2001:db8::1"},
         .uris = {"spiffe://test/alice"},
         .emails = {"alice@example.test"}});
    const tls_info info = tls_pair(tls_context(config), {.certificate = &alice}).info();
    REQUIRE(info.peer.has_value());
    CHECK(info.peer->subject == "CN=alice\\, \\C3\\A9");
    CHECK(info.peer->dns_names == std::vector<std::string>{"alice.test"});
    CHECK(info.peer->ip_addresses == std::vector<std::string>{"192.0.2.1", "2001:db8::1"});
    CHECK(info.peer->uris == std::vector<std::string>{"spiffe://test/alice"});
    CHECK(info.peer->emails == std::vector<std::string>{"alice@example.test"});
    CHECK(info.peer->sha256_fingerprint == detail::sha256_fingerprint(alice.x509()));
    CHECK(info.peer->sha256_fingerprint.size() == 64);
    CHECK(info.peer->sha256_fingerprint.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(ERR_peek_error() == 0);
}

namespace
{
/// "localhost" by default; an exact name, a wildcard, and an exact one below it.
tls_config named_config()
{
    tls_config config = working_config();
    for (const std::string name :
         {"www.example.test", "*.example.test", "Api.Wild.test", "*.wild.test"}) {
        const auto own = authority().issue({.common_name = name});
        config.sni.push_back(
            {.name = name, .certificate = own.certificate_pem, .private_key = own.key_pem});
    }
    return config;
}
} // namespace

TEST_CASE("the name a client asks for chooses the certificate", "[tls]")
{
    struct row
    {
        std::string asked, shown;
    };
    const row it = GENERATE(values<row>(
        {{"www.example.test", "www.example.test"},
         {"WWW.Example.TEST", "www.example.test"},
         {"www.example.test.", "www.example.test"},
         {"ftp.example.test", "*.example.test"},
         {"a.b.example.test", "localhost"}, // a wildcard is one label
         {"example.test", "localhost"},
         {".example.test", "localhost"},
         {"api.wild.test", "Api.Wild.test"},
         {"API2.WILD.TEST", "*.wild.test"},
         {"other.test", "localhost"},
         {"test", "localhost"},
         {"", "localhost"}}));
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    INFO(it.asked);
    const tls_pair pair(tls_context(named_config()), {.max_version = version, .sni = it.asked});
    CHECK(pair.shown_name() == it.shown);
    CHECK(pair.info().sni == it.asked);
}

TEST_CASE("strict_sni refuses unknown names and no name with unrecognized_name", "[tls]")
{
    tls_config config = named_config();
    config.strict_sni = true;
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const tls_context context(config);
    for (const std::string asked :
         {"www.example.test", "x.wild.test", "localhost", "DEFAULT.test"}) {
        INFO(asked);
        CHECK(tls_pair(context, {.max_version = version, .sni = asked}).connected);
    }
    for (const std::string asked : {"other.test", "a.b.example.test", ""}) {
        INFO(asked);
        const tls_pair pair(context, {.max_version = version, .sni = asked});
        CHECK_FALSE(pair.connected);
        CHECK(pair.alert == unrecognized_name);
    }
}

TEST_CASE("strict_sni works without a table of names", "[tls]")
{
    tls_config config = working_config();
    config.strict_sni = true;
    CHECK(connects(config, {.sni = "default.test"}));
    CHECK_FALSE(connects(config, {.sni = "other.test"}));
}

TEST_CASE("a certificate of the table that cannot be used is named by its place", "[tls]")
{
    tls_config config = named_config();
    config.sni[1].private_key = config.private_key;
    CHECK(contains(problem_of(config), "PEM text of tls.sni[1].private_key: "));
    config.sni[1].certificate = "/nowhere/at.pem";
    CHECK(contains(problem_of(config), "tls.sni[1].certificate '/nowhere/at.pem': "));
}

TEST_CASE("ALPN takes the server's preference", "[tls]")
{
    tls_config config = working_config();
    config.alpn = {"h2", "http/1.1"};
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const tls_context context(config);
    const auto agreed = [&](const std::string& offer) {
        return tls_pair(context, {.max_version = version, .alpn = offer}).info().alpn;
    };
    CHECK(agreed("\x8http/1.1\x2h2") == "h2");
    CHECK(agreed("\x8http/1.1\x1x") == "http/1.1");
    CHECK(agreed("").empty()); // a client without ALPN is served
    const tls_pair none(context, {.max_version = version, .alpn = "\x1x"});
    CHECK_FALSE(none.connected);
    CHECK(none.alert == no_application_protocol);
    // A server without ALPN does not answer the offer.
    CHECK(tls_pair(tls_context(working_config()), {.alpn = "\x2h2"}).info().alpn.empty());
}

TEST_CASE(
    "client authentication, ALPN and resumption hold for certificates chosen by name", "[tls]")
{
    tls_config config = named_config();
    config.alpn = {"h2"};
    config.client_auth = client_auth::require_and_verify;
    config.client_ca = authority().certificate_pem;
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const tls_context context(config);
    const auto alice = authority().issue({.common_name = "alice"});
    client_options client{
        .max_version = version, .sni = "www.example.test", .alpn = "\x2h2", .certificate = &alice};
    const tls_pair first(context, client);
    CHECK(first.info().alpn == "h2");
    CHECK(first.info().peer->verified);
    CHECK(sk_X509_NAME_num(SSL_get0_peer_CA_list(first.client.get())) == 1);
    const session_ptr session = first.session();
    client.session = session.get();
    const tls_pair second(context, client);
    CHECK(second.info().resumed);
    CHECK(second.info().sni == "www.example.test");
    CHECK(second.info().alpn == "h2");
    REQUIRE(second.info().peer.has_value());
    CHECK(second.info().peer->verified);

    client.session = nullptr;
    client.alpn = "\x1x";
    CHECK(tls_pair(context, client).alert == no_application_protocol);
    client.alpn = "";
    client.certificate = nullptr;
    CHECK_FALSE(tls_pair(context, client).connected);
}

TEST_CASE("sessions are resumed by tickets, under client authentication too", "[tls]")
{
    tls_config config = working_config();
    config.client_auth =
        GENERATE(client_auth::none, client_auth::request, client_auth::require_and_verify);
    config.client_ca = config.client_auth == client_auth::none ? "" : authority().certificate_pem;
    config.session_lifetime = 600s;
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    INFO("mode " << static_cast<int>(config.client_auth) << ", version " << version);
    const tls_context context(config);
    const auto alice = authority().issue({.common_name = "alice"});
    client_options client{.max_version = version, .certificate = &alice};
    const tls_pair first(context, client);
    CHECK_FALSE(first.info().resumed);
    const session_ptr session = first.session();
    CHECK(SSL_SESSION_get_ticket_lifetime_hint(session.get()) == 600);
    client.session = session.get();
    const tls_info second = tls_pair(context, client).info();
    CHECK(second.resumed);
    REQUIRE(second.peer.has_value() == (config.client_auth != client_auth::none));
    if (second.peer) {
        CHECK(second.peer->subject == "CN=alice");
        CHECK(second.peer->verified == (config.client_auth == client_auth::require_and_verify));
    }
    CHECK(SSL_CTX_sess_number(context.native_handle()) == 0); // nothing is kept here
    // Another configuration has other keys: a full handshake, and no error.
    CHECK_FALSE(tls_pair(tls_context(config), client).info().resumed);
}

TEST_CASE("a session lifetime of zero is two hours", "[tls]")
{
    tls_config config = working_config();
    config.session_lifetime = 0s;
    CHECK(SSL_CTX_get_timeout(tls_context(config).native_handle()) == 7200);
}

TEST_CASE("without session tickets nothing is resumed", "[tls]")
{
    tls_config config = working_config();
    config.session_tickets = false;
    const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
    const tls_context context(config);
    const tls_pair first(context, {.max_version = version});
    const session_ptr session = first.session();
    CHECK(SSL_SESSION_has_ticket(session.get()) == 0);
    const tls_pair second(context, {.max_version = version, .session = session.get()});
    CHECK_FALSE(second.info().resumed);
}

TEST_CASE("a client's renegotiation is refused", "[tls]")
{
    tls_pair pair(tls_context(working_config()), {.max_version = TLS1_2_VERSION});
    REQUIRE(pair.connected);
    REQUIRE(SSL_renegotiate(pair.client.get()) == 1);
    SSL_do_handshake(pair.client.get());
    char byte = 0;
    CHECK(SSL_read(pair.server.get(), &byte, 1) <= 0);
    SSL_do_handshake(pair.client.get());
    CHECK(pair.alert == no_renegotiation);
    ERR_clear_error();
}

TEST_CASE("options and modes are those that the stream counts on", "[tls]")
{
    const tls_context context(working_config());
    SSL_CTX* const native = context.native_handle();
    CHECK((SSL_CTX_get_options(native) & SSL_OP_NO_COMPRESSION) != 0);
    CHECK((SSL_CTX_get_options(native) & SSL_OP_NO_RENEGOTIATION) != 0); // 1.1.1 would allow it
    const long modes = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
    CHECK((SSL_CTX_get_mode(native) & modes) == modes);
    CHECK(SSL_CTX_get_read_ahead(native) == 1);
    CHECK(SSL_CTX_get_session_cache_mode(native) == SSL_SESS_CACHE_OFF);
}

namespace
{
void send_key_updates(const tls_pair& pair, int count)
{
    for (int i = 0; i < count; ++i) {
        REQUIRE(SSL_key_update(pair.client.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
        REQUIRE(SSL_do_handshake(pair.client.get()) == 1);
    }
}

int read_byte(const tls_pair& pair)
{
    char byte = 0;
    ERR_clear_error();
    const int result = SSL_read(pair.server.get(), &byte, 1);
    if (result > 0) {
        detail::tls_data_received(pair.server.get());
    }
    return result;
}
} // namespace

TEST_CASE("32 KeyUpdates in a row are borne, and data begins a new count", "[tls]")
{
    const tls_pair pair{tls_context(working_config())};
    REQUIRE(pair.connected);
    for (int i = 0; i < 3; ++i) {
        send_key_updates(pair, 32);
        CHECK(read_byte(pair) == -1);
        CHECK(SSL_get_error(pair.server.get(), -1) == SSL_ERROR_WANT_READ);
        CHECK_FALSE(detail::tls_flooded(pair.server.get()));
        REQUIRE(SSL_write(pair.client.get(), "x", 1) == 1);
        CHECK(read_byte(pair) == 1);
    }
}

TEST_CASE("a flood of KeyUpdates ends the connection before it is worked off", "[tls]")
{
    const tls_pair pair{tls_context(working_config())};
    REQUIRE(pair.connected);
    send_key_updates(pair, 300);
    REQUIRE(SSL_write(pair.client.get(), "x", 1) == 1);
    CHECK(read_byte(pair) == 0);
    CHECK(SSL_get_error(pair.server.get(), 0) == SSL_ERROR_ZERO_RETURN);
    CHECK(detail::tls_flooded(pair.server.get()));
    CHECK(detail::records_without_data(pair.server.get()) == detail::max_records_without_data + 1);
    CHECK(read_byte(pair) == 0);
    ERR_clear_error();
}

TEST_CASE("a connection outlives the tls_context that it was made from", "[tls]")
{
    tls_config config = named_config();
    config.alpn = {"h2"};
    auto context = std::make_unique<const tls_context>(config);
    ssl_ptr server(SSL_new(context->native_handle()));
    context.reset();
    const tls_pair pair(std::move(server), {.sni = "x.wild.test", .alpn = "\x2h2"});
    CHECK(pair.shown_name() == "*.wild.test");
    CHECK(pair.info().alpn == "h2");
}

TEST_CASE("several threads share one tls_context", "[tls]")
{
    tls_config config = named_config();
    config.alpn = {"h2"};
    const auto context = std::make_shared<const tls_context>(config);
    std::atomic<int> served = 0;
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            for (int j = 0; j < 10; ++j) {
                const client_options client{
                    .sni = i % 2 == 0 ? "www.example.test" : "none.test", .alpn = "\x2h2"};
                served += tls_pair(*context, client).connected ? 1 : 0;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(served == 40);
}
