// A server on a socket that somebody else has made: TCP or Unix, from a parent process or systemd. And what cannot be
// adopted.

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/client.hpp"
#include "support/server_fixture.hpp"
#include <fairlead/serve.hpp>

#include <arpa/inet.h>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <set>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>
#include <vector>

using namespace std::chrono_literals;
using fairlead::connection_event_kind;
using fairlead::endpoint;
using fairlead::errc;
using fairlead::server_event_kind;

namespace test::adopted_listeners
{
using fairlead::detail::native::descriptor;

/// Bound to a free port of 127.0.0.1.
inline descriptor tcp_socket(int type = SOCK_STREAM, bool listens = true)
{
    descriptor made(::socket(AF_INET, type, 0));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(made.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
    REQUIRE((!listens || ::listen(made.get(), 16) == 0));
    return made;
}

inline descriptor unix_socket(const std::string& path, int type = SOCK_STREAM)
{
    descriptor made(::socket(AF_UNIX, type, 0));
    const unix_address where(path);
    REQUIRE(::bind(made.get(), where.data(), where.size) == 0);
    REQUIRE(::listen(made.get(), 16) == 0);
    return made;
}

inline std::uint16_t port_of(int fd)
{
    return fairlead::detail::native::local_endpoint(fd).port();
}

inline descriptor copy_of(const descriptor& original)
{
    return descriptor(::dup(original.get()));
}

inline bool echoes(client one)
{
    one.send("hello");
    return one.receive(5) == "hello";
}

/// What is thrown at the attempt to adopt `fd`, which it leaves as it was.
inline std::system_error refusal_of(int fd)
{
    const int flags = ::fcntl(fd, F_GETFL);
    const int descriptor_flags = ::fcntl(fd, F_GETFD);
    std::system_error thrown{std::error_code()};
    {
        asio::io_context context;
        fairlead::tcp_server server(context, &test::echo, test::local_config());
        try {
            server.adopt_listener(fd);
        } catch (const std::system_error& error) {
            thrown = error;
        }
        server.open();
        CHECK(server.local_endpoint().port() != 0); // its own address
    }
    CHECK(::fcntl(fd, F_GETFL) == flags);
    CHECK(::fcntl(fd, F_GETFD) == descriptor_flags);
    return thrown;
}

inline bool says(const std::system_error& error, std::string_view words)
{
    INFO(error.what());
    CHECK(std::string_view(error.what()).find(words) != std::string_view::npos);
    return std::string_view(error.what()).find(words) != std::string_view::npos;
}

inline asio::awaitable<void> tell_thread(fairlead::connection& connection)
{
    const auto id = std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id()));
    co_await connection.write(asio::buffer(id));
}
} // namespace test::adopted_listeners

using namespace test::adopted_listeners;

TEST_CASE("a server takes over a TCP socket that listens, once", "[adopt]")
{
    const std::size_t before = test::open_descriptors();
    {
        descriptor made = tcp_socket();
        const int fd = made.get();
        const auto port = test::adopted_listeners::port_of(fd);
        test::client early(port); // before there is a server
        test::running_server running(test::echo, test::local_config());
        running.server.adopt_listener(made.release());
        CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        running.start();
        const endpoint bound = running.server.local_endpoint();
        CHECK(bound == endpoint(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), port)));
        CHECK(running.log.servers().front().kind == server_event_kind::listening);
        CHECK(running.log.servers().front().what == bound.to_string());
        CHECK(echoes(std::move(early)));
        CHECK(echoes(test::client(port)));
        REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));
        CHECK(running.log.closed().front().local == bound);

        running.server.close();
        REQUIRE(running.log.wait_for(server_event_kind::stopped));
        CHECK(::fcntl(fd, F_GETFD) == -1); // it was the server's
        running.on_shard([&] { running.server.start(); });
        const auto next = running.on_shard([&] { return running.server.local_endpoint(); });
        CHECK(next != bound); // the configured address again
        CHECK(echoes(test::client(test::port_of(next))));
    }
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("connections of an adopted socket have the options of the configuration", "[adopt]")
{
    descriptor made = tcp_socket();
    const auto port = test::adopted_listeners::port_of(made.get());
    test::running_server running(test::echo, test::local_config());
    int no_delay = -1;
    running.server.on_socket([&](asio::ip::tcp::socket& socket) {
        asio::ip::tcp::no_delay option;
        socket.get_option(option);
        no_delay = option.value() ? 1 : 0;
    });
    running.server.adopt_listener(made.release());
    running.start();
    CHECK(echoes(test::client(port)));
    CHECK(running.on_shard([&] { return no_delay; }) == 1);
}

TEST_CASE("a server takes over a Unix socket, whose file is its maker's", "[adopt][unix]")
{
    const test::temporary_directory directory;
    const std::string path = (directory.path() / "app.sock").string();
    test::running_server running(test::echo, test::local_config());
    running.server.adopt_listener(unix_socket(path).release());
    running.start();
    CHECK(running.server.local_endpoint() == endpoint::of_unix(path));
    CHECK(echoes(test::client(path)));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().local == endpoint::of_unix(path));
    running.stop();
    CHECK(std::filesystem::exists(path));
}

TEST_CASE("a server takes over several sockets, and listens on all of them", "[adopt][unix]")
{
    const test::temporary_directory directory;
    const std::string path = (directory.path() / "app.sock").string();
    descriptor made = tcp_socket();
    const auto port = test::adopted_listeners::port_of(made.get());
    test::running_server running(test::echo, test::local_config());
    running.server.adopt_listener(made.release());
    running.server.adopt_listener(unix_socket(path).release());
    running.start();
    CHECK(running.server.local_endpoint().port() == port);
    CHECK(echoes(test::client(path)));
    CHECK(echoes(test::client(port)));
    REQUIRE(running.log.wait_for(connection_event_kind::closed, 2));
    for (const auto& each : running.log.closed()) {
        CHECK(each.local.is_unix() == each.remote.is_unix());
        CHECK((each.local.is_unix() ? each.local.path() == path : each.local.port() == port));
    }
}

TEST_CASE(
    "whoever keeps a copy of an adopted socket may give it to the next server", "[adopt][unix]")
{
    const test::temporary_directory directory;
    const std::string path = (directory.path() / "app.sock").string();
    const bool is_unix = GENERATE(false, true);
    const descriptor kept = is_unix ? unix_socket(path) : tcp_socket();
    const auto connect = [&] {
        return is_unix ? test::client(path)
                       : test::client(test::adopted_listeners::port_of(kept.get()));
    };
    test::running_server running(test::echo, test::local_config());
    running.server.adopt_listener(copy_of(kept).release());
    running.start();
    CHECK(echoes(connect()));
    running.server.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped));
    running.on_shard([&] { running.context.poll(); }); // what is left of the run
    test::client waiting = connect();                  // while there is no server
    waiting.send("hello");
    // The context has let go of the socket, though it is open: it is not woken for it.
    CHECK(running.on_shard([&] { return running.context.poll(); }) == 0);
    running.on_shard([&] {
        running.server.adopt_listener(copy_of(kept).release());
        running.server.start();
    });
    CHECK(waiting.receive(5) == "hello");
    CHECK(echoes(connect()));
    waiting.close();
    auto drain = running.shutdown(test::patience);
    CHECK(test::report_of(drain).stragglers.empty());
    auto later = connect(); // the kernel goes on taking clients for whoever comes next
    later.send("hello");
}

TEST_CASE("shards share an adopted socket", "[adopt][shards][unix]")
{
    const test::temporary_directory directory;
    const std::string path = (directory.path() / "app.sock").string();
    const bool is_unix = GENERATE(false, true);
    descriptor made = is_unix ? unix_socket(path) : tcp_socket();
    const auto port = test::adopted_listeners::port_of(made.get());
    fairlead::sharded_server server(tell_thread, test::local_config(), {.threads = 3});
    server.adopt_listener(made.release());
    server.start();
    std::set<std::string> threads;
    for (int each = 0; each < 9; ++each) {
        auto client = is_unix ? test::client(path) : test::client(port);
        threads.insert(client.receive_rest().bytes);
    }
    CHECK(threads.size() == 3);
    try {
        server.adopt_listener(tcp_socket().get());
        FAIL("it runs");
    } catch (const std::system_error& error) {
        CHECK(error.code() == errc::already_running);
    }
    CHECK(server.shutdown(test::patience).stragglers.empty());
    server.start(); // each on a port of the configured address
    CHECK(server.local_endpoint().is_ip());
    CHECK(server.local_endpoint().port() != port);
}

TEST_CASE("serve() takes over sockets as well", "[adopt][serve]")
{
    descriptor made = tcp_socket();
    const auto port = test::adopted_listeners::port_of(made.get());
    bool is_echoed = false;
    fairlead::serve(
        test::echo, test::local_config(),
        {.shards = {.threads = 2},
         .on_start =
             [&](fairlead::running_server& server) {
                 is_echoed = echoes(test::client(port));
                 server.close();
             },
         .adopted_listeners = {made.release()}});
    CHECK(is_echoed);
}

TEST_CASE("the kernel does not spread the clients of an adopted socket", "[adopt][shards]")
{
    fairlead::sharded_server server(
        tell_thread, test::local_config(),
        {.threads = 2, .distribution = fairlead::client_distribution::kernel});
    server.adopt_listener(tcp_socket().release());
    try {
        server.open();
        FAIL("it opens");
    } catch (const std::system_error& error) {
        CHECK(error.code() == errc::invalid_config);
        CHECK(says(error, "the kernel spreads no clients of an adopted descriptor"));
    }
}

TEST_CASE("what is no listening stream socket is not adopted, and stays the caller's", "[adopt]")
{
    const test::temporary_directory directory;
    SECTION("nothing open")
    {
        const auto error = refusal_of(987654);
        CHECK(error.code() == std::errc::bad_file_descriptor);
        CHECK(says(error, "adopt_listener(987654): it is no open descriptor"));
        CHECK(refusal_of(-1).code() == std::errc::bad_file_descriptor);
    }
    SECTION("a file")
    {
        const descriptor file(::open("/dev/null", O_RDONLY));
        const auto error = refusal_of(file.get());
        CHECK(error.code() == std::errc::not_a_socket);
        CHECK(says(error, "it is no socket; a TCP or Unix stream socket that listens can be"));
    }
    SECTION("a datagram socket")
    {
        const auto error = refusal_of(tcp_socket(SOCK_DGRAM, false).get());
        CHECK(error.code() == std::errc::invalid_argument);
        CHECK(says(error, "it is a datagram socket"));
    }
    SECTION("a socket of packets")
    {
        const auto error =
            refusal_of(unix_socket((directory.path() / "packets").string(), SOCK_SEQPACKET).get());
        CHECK(error.code() == std::errc::invalid_argument);
        CHECK(says(error, "it is no stream socket"));
    }
    SECTION("a socket that does not listen")
    {
        const auto error = refusal_of(tcp_socket(SOCK_STREAM, false).get());
        CHECK(error.code() == std::errc::invalid_argument);
        CHECK(says(error, "it does not listen"));
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        const descriptor one(ends[0]);
        const descriptor other(ends[1]);
        CHECK(says(refusal_of(one.get()), "it does not listen"));
    }
    SECTION("a socket of another family")
    {
        const descriptor vsock(::socket(AF_VSOCK, SOCK_STREAM, 0));
        if (!vsock) {
            SKIP_TEST("this kernel has no AF_VSOCK");
        }
        const auto error = refusal_of(vsock.get());
        CHECK(error.code() == std::errc::address_family_not_supported);
        CHECK(says(error, "its address family is " + std::to_string(AF_VSOCK)));
    }
}

TEST_CASE("a server that runs adopts nothing", "[adopt]")
{
    test::running_server running(test::echo, test::local_config());
    running.start();
    const descriptor made = tcp_socket();
    const auto code = running.on_shard([&] {
        try {
            running.server.adopt_listener(made.get());
        } catch (const std::system_error& error) {
            return error.code();
        }
        return std::error_code();
    });
    CHECK(code == errc::already_running);
    CHECK(::fcntl(made.get(), F_GETFD) >= 0);
}

TEST_CASE("a descriptor is adopted once", "[adopt]")
{
    asio::io_context context;
    fairlead::tcp_server server(context, &test::echo, test::local_config());
    descriptor made = tcp_socket();
    const int fd = made.get();
    server.adopt_listener(made.release());
    try {
        server.adopt_listener(fd);
        FAIL("it was adopted twice");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::invalid_argument);
        CHECK(says(error, "it was adopted before"));
    }
    server.open();
    CHECK(server.local_endpoint().port() == test::adopted_listeners::port_of(fd));
}
