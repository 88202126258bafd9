// fairlead: every option of a server as plain aggregates, with defaults that are safe on the open
// internet. Ring 0: no Asio, no OpenSSL. What the options do is in server.hpp, connection.hpp and
// tls.hpp.

#ifndef FAIRLEAD_CONFIG_HPP
#define FAIRLEAD_CONFIG_HPP

#include <fairlead/detail/config/address.hpp>
#include <fairlead/detail/namespace.hpp>
#include <fairlead/error.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace FAIRLEAD_NAMESPACE
{
/// What the server does with a client that arrives when `max_connections` are open.
enum class limit_policy
{
    /// Stop accepting; clients wait in the kernel's queue until a connection closes.
    pause,
    /// Accept it and close it at once with a reset: cheap, and the client knows immediately. (Unix
    /// sockets have no reset: there it is an end of the stream.)
    reject,
    /// Close a connection and serve the new client in its place: first one whose handler has not
    /// read anything yet (in its TLS handshake, or silent since it came; the oldest first), on
    /// whatever shard; then the one that has been silent longest, looked for among 256 of each shard
    /// at a time. Handlers that are not waiting for their client are left alone. The new client
    /// waits until the other's handler has returned, for a second at most, and with none to close
    /// it is rejected.
    evict_idle,
};

/// What a TLS server asks of its client's certificate.
enum class client_auth
{
    /// Do not ask for a certificate.
    none,
    /// Ask; whatever is presented, or nothing, is accepted and not verified.
    request,
    /// A certificate must be presented, but it is not verified.
    require,
    /// Ask; what is presented must verify against `client_ca`.
    verify_if_given,
    /// A certificate must be presented and must verify against `client_ca`.
    require_and_verify,
};

/// A TLS protocol version.
enum class tls_version
{
    tls_1_2,
    tls_1_3,
};

/// A certificate for one or several server names, beside the default certificate of `tls_config`.
struct tls_server_name
{
    /// The name a client asks for by SNI: `"www.example.com"`, or `"*.example.com"`, which stands
    /// for exactly one label. Compared without case. An exact name wins over a wildcard.
    std::string name;
    /// Certificate chain, leaf first: a path, or PEM text when it begins with `-----BEGIN`.
    std::string certificate;
    /// Its private key: a path, or PEM text.
    std::string private_key;
    /// The key's password; empty: none.
    std::string private_key_password = {};
};

/// How a server speaks TLS. Checked as a whole when a server is constructed or `set_tls` is called.
struct tls_config
{
    /// Certificate chain, leaf first: a path, or PEM text when it begins with `-----BEGIN`.
    /// Required.
    std::string certificate = {};
    /// Its private key (PKCS#8, EC or RSA, encrypted or not): a path, or PEM text. Required.
    std::string private_key = {};
    /// The key's password; empty: none. Nothing ever prompts on a terminal.
    std::string private_key_password = {};
    /// Called for the password when `private_key_password` is empty; may be null. Runs during
    /// construction and reload, on the caller's thread.
    std::function<std::string()> password_callback = {};

    /// The authorities that client certificates are verified against: a PEM file, a directory
    /// prepared by `openssl rehash`, or PEM text. Required by `verify_if_given` and
    /// `require_and_verify`; `request` and `require` do not verify and make no use of it. With
    /// `none` it is an error: whoever names authorities believes that clients are asked.
    std::string client_ca = {};
    /// Whether and how clients authenticate by certificate.
    fairlead::client_auth client_auth = fairlead::client_auth::none;

    /// The lowest version offered.
    tls_version min_version = tls_version::tls_1_2;
    /// The highest version offered; below `min_version` is an error.
    tls_version max_version = tls_version::tls_1_3;

    /// TLS 1.2 ciphers in OpenSSL's notation. Empty: Mozilla's intermediate list. An unknown name
    /// is an error. The security level (ciphers(1), `@SECLEVEL=n`), which holds for certificates and
    /// all versions, is at least 2 unless the list names another: no RSA key below 2048 bits.
    std::string ciphers = {};
    /// TLS 1.3 cipher suites in OpenSSL's notation. Empty: OpenSSL's default. An unknown name is an
    /// error.
    std::string ciphersuites = {};
    /// Key exchange groups, separated by colons. Empty: `X25519MLKEM768:X25519:P-256:P-384`, of
    /// which those that the OpenSSL in use does not know are skipped. An unknown name that was
    /// asked for is an error.
    std::string groups = {};

    /// Application protocols, the server's preference first (`{"h2", "http/1.1"}`). Empty: no ALPN.
    /// A client that offers ALPN without a common protocol is refused with
    /// `no_application_protocol` (RFC 7301).
    std::vector<std::string> alpn = {};
    /// More certificates, chosen by the name the client asks for. Empty: the default certificate
    /// for everybody.
    std::vector<tls_server_name> sni = {};
    /// Refuse clients that ask for a name outside `sni` and the default certificate, or for none.
    bool strict_sni = false;

    /// Resume sessions by tickets (RFC 5077, RFC 8446); keys live as long as the loaded
    /// configuration.
    bool session_tickets = true;
    /// How long a ticket may be used. 0: OpenSSL's default of two hours. Up to seven days.
    std::chrono::seconds session_lifetime = std::chrono::hours(2);
};

/// Options of each accepted socket (and, where noted, of the listening one). Of those that the
/// kernel refuses a server event tells, `option_refused`; `reuse_port` and `v6_only`, which decide
/// who is served, are errors of `open()`.
struct socket_config
{
    /// `TCP_NODELAY`: do not hold back small segments.
    bool no_delay = true;
    /// `SO_KEEPALIVE`: probe a silent peer.
    bool keep_alive = true;
    /// Silence before the first probe, whole seconds. 0: the kernel's default (two hours on
    /// Linux). Up to 32 767.
    std::chrono::seconds keep_alive_idle = std::chrono::seconds(60);
    /// Between probes, whole seconds. 0: the kernel's default (75 s on Linux). Up to 32 767.
    std::chrono::seconds keep_alive_interval = std::chrono::seconds(15);
    /// Probes without an answer before the connection is dead. 0: the kernel's default (9 on
    /// Linux). Up to 127.
    int keep_alive_count = 4;
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged. 0: the kernel's default
    /// (about 15 minutes). Up to 2 147 483 647 ms.
    std::chrono::milliseconds user_timeout = std::chrono::seconds(30);
    /// `SO_RCVBUF` in bytes, set on the listening socket. 0: the kernel tunes it.
    int receive_buffer = 0;
    /// `SO_SNDBUF` in bytes, set on the listening socket. 0: the kernel tunes it.
    int send_buffer = 0;
    /// `TCP_FASTOPEN` queue length of the listening socket. 0: off.
    int fast_open = 0;
    /// `TCP_DEFER_ACCEPT`: the kernel reports a client only when it has sent something, or after
    /// this time, whole seconds. 0: off. Up to 32 767. Not for protocols in which the server speaks
    /// first.
    std::chrono::seconds defer_accept = std::chrono::seconds(0);
    /// `SO_REUSEPORT`: let other sockets of this user bind the same port. `sharded_server` sets it
    /// by itself.
    bool reuse_port = false;
    /// `IPV6_V6ONLY`: a v6 wildcard address does not accept IPv4.
    bool v6_only = false;
    /// Multipath TCP where the kernel has it; plain TCP where it has not.
    bool mptcp = false;
};

/// The file of a Unix socket, where `server_config::address` names one; abstract names
/// (`"unix:@name"`) have no file, and any process of the network namespace may connect to them. Who
/// may connect is who may write the file and search its directory (unix(7)); that holds from the
/// first client on: owner and mode are set before the socket listens.
struct unix_socket_config
{
    /// Permissions of the file. Default: the owner alone may connect. 0: what the process's umask
    /// leaves of 0777. Up to 0777, of which the write bits count.
    int mode = 0600;
    /// Its owner: a user's name or number. Empty: the process's. Another one takes privileges.
    std::string owner = {};
    /// Its group: a name or a number. Empty: the process's, or the directory's.
    std::string group = {};
};

/// Everything a server is told. An aggregate for designated initialisers:
/// \code
/// fairlead::server_config config{
///     .address = "127.0.0.1:8080", .max_connections = 10'000, .idle_timeout = 30s};
/// \endcode
/// A server keeps its own copy; changing this one later changes nothing. Durations go up to 100
/// years.
struct server_config
{
    /// Where to listen: `"host:port"`, `":port"` (every interface, IPv4 and IPv6), `"[v6]:port"`.
    /// Names are resolved when the server opens (hosts and services: `"localhost:http"`). Of a host
    /// name with several addresses the server listens on each, those of a family excepted that the
    /// machine does not have. Port 0: any free port, the same for each address.
    ///
    /// `"unix:/run/app.sock"`: a Unix socket, by its absolute path of at most 107 bytes (103 on
    /// macOS); `"unix:@name"`: an abstract one of Linux. A socket file that is there already is
    /// replaced when nobody listens on it, which connecting to it tells; a file that is no socket
    /// never is. The file is removed when the server stops listening, if it is still its own.
    std::string address = ":0";
    /// Clients that the kernel may queue before they are accepted. 0: the kernel's maximum. More
    /// than the kernel allows is cut by it, and a server event says so.
    int backlog = 4096;
    /// Clients accepted before other events get their turn, 1 to 1024.
    int accepts_per_wakeup = 16;
    /// Connections at once, over all shards: from accept until the socket is closed and the handler
    /// and its children have returned, so handlers that are stuck do not pile up. 0: no limit.
    /// Default: half of the process's descriptor limit, at most 100 000.
    std::size_t max_connections = detail::default_max_connections();
    /// What happens to the next client at `max_connections`.
    limit_policy at_limit = limit_policy::pause;
    /// TLS handshakes in progress at once, per shard; further clients wait for a place. 0: no limit.
    /// A client takes its place when its hello is complete; until then it costs its own memory. When
    /// others wait, one that has kept the server waiting for 100 ms in all gives its place away: it
    /// finishes without one, within `pre_open_timeout`.
    std::size_t max_handshakes = 256;

    /// From accept to the handler's start. 0: no limit.
    std::chrono::milliseconds pre_open_timeout = std::chrono::seconds(10);
    /// Without a byte in or out. 0: never.
    std::chrono::milliseconds idle_timeout = std::chrono::minutes(5);
    /// A write of which the peer takes nothing. 0: never. What counts is what the peer's kernel
    /// acknowledges, and telling that takes two looks: a stalled write ends at one and a half times
    /// this at the latest.
    std::chrono::milliseconds write_timeout = std::chrono::seconds(30);
    /// From accept, whatever happens; spread by plus or minus 10 % so that connections of one
    /// moment do not end in one moment. 0: for ever.
    std::chrono::milliseconds max_lifetime = std::chrono::milliseconds(0);
    /// For sending close_notify at the end of a TLS connection. 0: do not wait.
    std::chrono::milliseconds tls_close_timeout = std::chrono::seconds(3);
    /// How long the closing side reads and drops what still arrives after its FIN, so that the peer
    /// gets the last reply and not a reset. 0: do not wait.
    std::chrono::milliseconds linger = std::chrono::seconds(3);
    /// How long `serve()` waits for handlers when it is told to stop. 0: until they are done.
    std::chrono::milliseconds drain_timeout = std::chrono::seconds(30);

    /// Emit `read` and `write` connection events: one hook call for each operation that moved bytes,
    /// and for each part of a write that has to wait for room.
    bool io_events = false;

    /// Socket options. Of a Unix socket the buffer sizes alone count.
    socket_config socket = {};
    /// The file of a Unix socket.
    unix_socket_config unix_socket = {};
    /// TLS; empty: none.
    std::optional<tls_config> tls = {};
    /// Serve plain clients on the same port: a client whose first byte is that of a TLS handshake
    /// (0x16) gets TLS, any other its handler at once; `connection::tls()` tells them apart. A
    /// client must speak first, within `pre_open_timeout`. Needs `tls`.
    bool tls_detect = false;
};

/// How clients get to the shards.
enum class client_distribution
{
    /// By the kernel where it can, else round robin; round robin for Unix sockets and adopted ones.
    automatic,
    /// Each shard listens on the same port (`SO_REUSEPORT`), and the kernel spreads clients by a
    /// hash of their address: no hand-over, and with few clients uneven. Linux.
    kernel,
    /// The first shard accepts for all and hands clients out in turn: even, and one more hop per
    /// connection.
    round_robin,
};

/// How many shards, and how clients get to them.
struct shard_config
{
    /// 0: one per core.
    std::size_t threads = 0;
    client_distribution distribution = client_distribution::automatic;
};

/// One rule that a configuration breaks.
struct config_problem
{
    /// `invalid_address`, `invalid_config` or `invalid_tls_config`.
    errc code;
    /// Names the member, its value and the rule.
    std::string message;
};

/// Lists every problem of `config` that can be found without touching the network or a file; empty:
/// none. Files named by `tls_config` are opened when a server is constructed. Safe from any thread.
[[nodiscard]] inline std::vector<config_problem> check(const server_config& config);
} // namespace FAIRLEAD_NAMESPACE

#include <fairlead/detail/config/check.hpp>

#endif // FAIRLEAD_CONFIG_HPP
