// Shows: a proxy that pools connections: many clients of PostgreSQL share a few connections to it,
//        for one transaction at a time or for a session; STARTTLS; a drain that fails nobody.
// Run:   sql_proxy ADDRESS HOST:PORT [CONNECTIONS] [transaction|session] [CERTIFICATE.pem KEY.pem]
//        sql_proxy 127.0.0.1:6432 127.0.0.1:5432 8 transaction
// Poke:  psql -h 127.0.0.1 -p 6432 postgres           pgbench -h 127.0.0.1 -p 6432 -c 32 postgres
//
// The database must trust the proxy ("trust" in pg_hba.conf), and the proxy trusts its clients: it
// asks for no password. Under "transaction", what a session keeps (SET, LISTEN, prepared
// statements) may be another's in the next transaction. Requests to cancel are ignored.
//
// In a drain no new client is served. Who is in a transaction, or goes on within a second, is
// served to its end; who is silent is told "terminating connection due to administrator command".

#include "../print_events.hpp"
#include "session.hpp"
#include <fairlead/fairlead.hpp>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

using namespace std::chrono_literals;

/// The handler. Each shard has its own copy, and each copy its own pool.
class proxy
{
public:
    explicit proxy(sql::settings rules)
        : rules_(std::move(rules)),
          pool_(std::make_unique<sql::backend_pool>(rules_.database, rules_.connections))
    {}

    proxy(const proxy& other) : proxy(other.rules_)
    {}

    proxy& operator=(const proxy&) = delete;

    asio::awaitable<void> operator()(fairlead::connection& conn) const
    {
        sql::session one(conn, *pool_, rules_);
        co_await one.run();
    }

private:
    sql::settings rules_;
    std::unique_ptr<sql::backend_pool> pool_;
};

/// "127.0.0.1:5432". Throws `std::invalid_argument`, or `std::system_error` when there is no such
/// host.
asio::ip::tcp::endpoint find_database(std::string_view text)
{
    const auto colon = text.rfind(':');
    if (colon == 0 || colon == text.npos) {
        throw std::invalid_argument("'" + std::string(text) + "' is no database: HOST:PORT");
    }
    asio::io_context context;
    asio::ip::tcp::resolver resolver(context);
    return resolver.resolve(text.substr(0, colon), text.substr(colon + 1)).begin()->endpoint();
}

sql::settings read_settings(int argc, char** argv)
{
    sql::settings rules{.database = find_database(argv[2])};
    if (argc > 3) {
        const int connections = std::atoi(argv[3]);
        if (connections < 1 || connections > 10'000) {
            throw std::invalid_argument(
                "'" + std::string(argv[3]) + "' connections: a number from 1 to 10000 is expected");
        }
        rules.connections = static_cast<std::size_t>(connections);
    }
    if (argc > 4) {
        const std::string_view pooling = argv[4];
        if (pooling != "transaction" && pooling != "session") {
            throw std::invalid_argument(
                "'" + std::string(pooling) + "' is no way to pool: transaction or session");
        }
        rules.is_per_session = pooling == "session";
    }
    if (argc > 6) {
        const fairlead::tls_config files{.certificate = argv[5], .private_key = argv[6]};
        rules.tls = std::make_shared<const fairlead::tls_context>(files);
    }
    return rules;
}

int main(int argc, char** argv)
{
    if (argc < 3 || argc == 6) {
        std::fprintf(
            stderr, "usage: sql_proxy ADDRESS HOST:PORT [CONNECTIONS] [transaction|session] "
                    "[CERTIFICATE.pem KEY.pem]\n");
        return 2;
    }
    try {
        const auto report = fairlead::serve(
            proxy(read_settings(argc, argv)),
            {.address = argv[1],
             .idle_timeout = 0ms, // clients have pools of their own
             .drain_timeout = 60s},
            {.shards = {.threads = 1}, .hooks = example::printing_hooks()});
        example::print(report);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "sql_proxy: %s\n", error.what());
        return 1;
    }
}
