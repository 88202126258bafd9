// A server on a Unix socket: its file and who owns it, what its clients get, and who they are. What holds on any network
// is in the tests marked [network], which run on Unix sockets too (support/networks.hpp).

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/client.hpp"
#include "support/scripts.hpp"
#include "support/server_fixture.hpp"
#include "support/tls_client.hpp"
#include <fairlead/sharded_server.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <grp.h>
#include <optional>
#include <pwd.h>
#include <set>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using fairlead::close_reason;
using fairlead::connection_event_kind;
using fairlead::endpoint;
using fairlead::errc;
using fairlead::server_event_kind;

namespace test::unix_sockets
{
/// A directory with room for a socket.
struct place
{
    std::string path(const std::string& name = "app.sock") const
    {
        return (directory.path() / name).string();
    }

    fairlead::server_config config(const std::string& name = "app.sock") const
    {
        return {.address = "unix:" + path(name)};
    }

    temporary_directory directory;
};

inline std::optional<struct ::stat> look(const std::string& path)
{
    struct ::stat found = {};
    return ::lstat(path.c_str(), &found) == 0 ? std::optional(found) : std::nullopt;
}

inline int mode_of(const std::string& path)
{
    const auto found = look(path);
    return found ? static_cast<int>(found->st_mode & 07777) : -1;
}

inline bool is_socket(const std::string& path)
{
    const auto found = look(path);
    return found && S_ISSOCK(found->st_mode);
}

/// A bound socket of the test's own; `backlog` below 0: it does not listen.
inline fairlead::detail::native::descriptor bound_socket(
    const std::string& path, int type = SOCK_STREAM, int backlog = -1)
{
    fairlead::detail::native::descriptor made(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    const unix_address where(path);
    REQUIRE(::bind(made.get(), where.data(), where.size) == 0);
    if (backlog >= 0) {
        REQUIRE(::listen(made.get(), backlog) == 0);
    }
    return made;
}

/// The file of a server that is no more.
inline void leave_stale_file(const std::string& path)
{
    bound_socket(path, SOCK_STREAM, 1);
    REQUIRE(is_socket(path));
}

template <typename Function>
std::system_error thrown_by(Function function)
{
    try {
        function();
    } catch (const std::system_error& error) {
        return error;
    }
    return std::system_error(std::error_code());
}

inline bool says(const std::system_error& error, std::string_view words)
{
    INFO(error.what());
    CHECK(std::string_view(error.what()).find(words) != std::string_view::npos);
    return std::string_view(error.what()).find(words) != std::string_view::npos;
}

inline bool echoes(const std::string& path, std::string_view text = "hello")
{
    client one(path);
    one.send(text);
    return one.receive(text.size()) == text;
}

/// Restores the umask of the process.
class umask_of
{
public:
    explicit umask_of(::mode_t mask) : before_(::umask(mask))
    {}

    umask_of(const umask_of&) = delete;
    umask_of& operator=(const umask_of&) = delete;

    ~umask_of()
    {
        ::umask(before_);
    }

private:
    ::mode_t before_;
};

/// Sends `text` with a descriptor beside it.
inline void send_with_descriptor(int socket, std::string_view text, int passed)
{
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof passed)> control = {};
    ::iovec part = {const_cast<char*>(text.data()), text.size()};
    ::msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ::cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
    REQUIRE(::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

/// Writes `size` bytes to whoever sends one.
struct sender
{
    std::size_t size;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        char byte = 0;
        co_await connection.read_some(asio::buffer(&byte, 1));
        const std::string bytes(size, 's');
        co_await connection.write(asio::buffer(bytes));
    }
};

/// Answers when it has read `size` bytes, and not before: what the client takes of an answer would wake the connection.
struct late_echo
{
    std::size_t size;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        std::array<char, 4096> buffer;
        std::string all;
        while (all.size() < size) {
            const auto n = co_await connection.read_some(asio::buffer(buffer));
            all.append(buffer.data(), n);
        }
        co_await connection.write(asio::buffer(all));
    }
};

/// Notes who is there.
struct inquirer
{
    std::promise<std::optional<fairlead::peer_credentials>>* answer;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        answer->set_value(connection.peer_credentials());
        connection.abort();
        CHECK_FALSE(connection.peer_credentials());
        co_return;
    }
};

inline asio::awaitable<void> answer_each(fairlead::connection& connection)
{
    std::array<char, 64> buffer;
    for (bool more = co_await connection.readable(); more; more = co_await connection.readable()) {
        const auto n = co_await connection.read_some(asio::buffer(buffer));
        co_await connection.write(asio::buffer(buffer, n));
    }
}

/// Tells its clients which shard serves them.
struct shard_teller
{
    std::atomic<int>* shards;
    int number = -1;

    explicit shard_teller(std::atomic<int>& counter) : shards(&counter)
    {}

    shard_teller(const shard_teller& other) : shards(other.shards), number((*shards)++)
    {}

    shard_teller& operator=(const shard_teller&) = delete;

    asio::awaitable<void> operator()(fairlead::connection& connection) const
    {
        const char name = static_cast<char>('a' + number);
        co_await connection.write(asio::buffer(&name, 1));
        co_await connection.closed();
    }
};
} // namespace test::unix_sockets

using namespace test::unix_sockets;

TEST_CASE("a server echoes on a Unix socket, and says where and to whom", "[unix]")
{
    const bool is_abstract = GENERATE(false, true);
    const place here;
    const std::string path = is_abstract ? "@" + here.path() : here.path();
    test::running_server running(test::echo, {.address = "unix:" + path});
    int tuned = 0;
    running.server.on_socket([&](asio::ip::tcp::socket&) { ++tuned; });
    running.start();
    const endpoint bound = running.server.local_endpoint();
    CHECK(bound.is_unix());
    CHECK(bound.to_string() == "unix:" + path);
    CHECK(running.log.servers().front().what == "unix:" + path);
    CHECK(is_socket(here.path()) == !is_abstract);

    CHECK(echoes(path));
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    const auto closed = running.log.closed().front();
    CHECK(closed.local == bound);
    CHECK(closed.remote == endpoint::of_unix("")); // it has bound no name
    CHECK(closed.remote.to_string() == "unix:");
    CHECK(closed.reason == close_reason::peer_closed);
    CHECK(closed.bytes_read == 5);
    CHECK(tuned == 0);
}

TEST_CASE("a client of a Unix socket that has a name is known by it", "[unix]")
{
    const bool is_abstract = GENERATE(false, true);
    const place here;
    test::running_server running(test::echo, here.config());
    running.start();
    const std::string own = std::string(is_abstract ? "@" : "") + here.path("client.sock");
    test::client(here.path(), own).close();
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().remote.to_string() == "unix:" + own);
}

TEST_CASE("the kernel says which process has connected to a Unix socket", "[unix]")
{
    const place here;
    const bool is_unix = GENERATE(true, false);
    std::promise<std::optional<fairlead::peer_credentials>> answer;
    auto told = answer.get_future();
    test::running_server running(inquirer{&answer}, is_unix ? here.config() : test::local_config());
    running.start();
    const auto client = running.server.local_endpoint().is_unix() ? test::client(here.path())
                                                                  : test::client(running.port());
    REQUIRE(told.wait_for(test::patience) == std::future_status::ready);
    const auto credentials = told.get();
    REQUIRE(credentials.has_value() == running.server.local_endpoint().is_unix());
    if (credentials) {
        CHECK(credentials->pid == ::getpid());
        CHECK(credentials->uid == ::geteuid());
        CHECK(credentials->gid == ::getegid());
    }
}

TEST_CASE("megabytes go both ways through a Unix socket, whatever its buffers", "[unix]")
{
    const int send_buffer = GENERATE(0, 4096);
    const place here;
    auto config = here.config();
    config.socket.send_buffer = send_buffer;
    test::running_server running(test::echo, config);
    running.start();
    test::client client(here.path());
    std::string bytes(8 << 20, '\0');
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        bytes[at] = static_cast<char>(at * 2654435761U >> 24);
    }
    std::thread sending([&] {
        client.send(bytes);
        client.finish();
    });
    const auto rest = client.receive_rest();
    sending.join();
    CHECK(rest.bytes == bytes);
    CHECK(rest.end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().bytes_written == bytes.size());
}

TEST_CASE(
    "a descriptor that a client sends along neither stops the stream nor stays open", "[unix]")
{
    const place here;
    const std::string expected = "with one, withoutwith one, withoutwith one, without";
    test::running_server running(late_echo{expected.size()}, here.config());
    running.start();
    test::client client(here.path());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    const std::size_t before = test::open_descriptors();
    // All of it is there before the server can read: its reads stop behind each of them.
    running.on_shard([&] {
        for (int round = 0; round < 3; ++round) {
            send_with_descriptor(client.fd(), "with one, ", STDERR_FILENO);
            client.send("without");
        }
    });
    CHECK(client.receive(expected.size()) == expected);
    CHECK(test::open_descriptors() == before);
}

TEST_CASE(
    "a Unix socket's client that reads nothing is cut by the write timeout", "[unix][timeout]")
{
    const place here;
    auto config = here.config();
    config.write_timeout = 100ms;
    test::running_server running(sender{16 << 20}, config);
    running.start();
    test::client client(here.path());
    client.send("?");
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::write_timeout);
    // There is no reset to tell it: the bytes that were sent are there, and then the end.
    const auto rest = client.receive_rest();
    CHECK(rest.bytes.size() == running.log.closed().front().bytes_written);
    CHECK(rest.end == test::stream_end::finished);
}

TEST_CASE("a Unix socket's client that is silent meets the idle timeout", "[unix][timeout]")
{
    const place here;
    auto config = here.config();
    config.idle_timeout = 50ms;
    config.linger = 0ms;
    const bool has_unread = GENERATE(false, true); // which the kernel keeps on our account
    test::running_server running(test::echo, config);
    running.start();
    test::client client(here.path());
    if (has_unread) {
        client.send("?");
    }
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::idle_timeout);
    const auto rest = client.receive_rest();
    CHECK(rest.bytes == (has_unread ? "?" : ""));
    CHECK(rest.end == test::stream_end::finished);
}

TEST_CASE("what the peer of a Unix socket has read shows in what is outstanding", "[unix]")
{
    namespace native = fairlead::detail::native;
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    asio::io_context context;
    auto& reactor = fairlead::detail::reactor_of(context);
    reactor.open();
    fairlead::detail::transport ours(reactor);
    REQUIRE_FALSE(ours.assign(native::descriptor(ends[0]), true));
    const native::descriptor peer(ends[1]);
    const int fd = ours.native_handle();
    CHECK(native::unacknowledged_bytes(fd) == 0);
    std::uint64_t sent = 0;
    while (native::send(fd, "m", 1).bytes == 1) {
        ++sent;
    }
    CHECK(native::unacknowledged_bytes(fd) > 2 * sent); // memory, not bytes
    // One message is progress, long before there is room again: the write timeout sees it.
    const std::uint64_t before = ours.acknowledged(sent);
    CHECK(ours.acknowledged(sent) == before);
    char byte = 0;
    REQUIRE(native::receive(peer.get(), &byte, 1).bytes == 1);
    CHECK(native::unacknowledged_bytes(fd) > 2 * sent);
    CHECK(ours.acknowledged(sent) != before);
    while (native::receive(peer.get(), &byte, 1).bytes == 1) {
    }
    CHECK(native::unacknowledged_bytes(fd) == 0);
    CHECK(ours.acknowledged(sent) == sent);
}

TEST_CASE("a drain on a Unix socket answers what has come, and removes the file", "[unix][drain]")
{
    const place here;
    auto config = here.config();
    config.linger = 0ms; // the clients read to the end before they close
    test::running_server running(answer_each, config);
    running.server.open();
    std::vector<test::client> queued;
    for (int each = 0; each < 20; ++each) { // nobody accepts yet
        queued.emplace_back(here.path());
        queued.back().send("request");
    }
    running.server.start();
    auto drain = running.shutdown(test::patience);
    running.run();
    const auto report = test::report_of(drain);
    CHECK(report.stragglers.empty());
    CHECK(report.drained + report.closed_idle == 20);
    for (auto& each : queued) {
        const auto rest = each.receive_rest();
        CHECK(rest.bytes == "request");
        CHECK(rest.end == test::stream_end::finished);
    }
    CHECK_FALSE(look(here.path()));
    CHECK(thrown_by([&] {
              test::client late(here.path());
          }).code() == std::errc::no_such_file_or_directory);
}

TEST_CASE("a Unix server starts again at the same path, and elsewhere", "[unix]")
{
    const place here;
    test::running_server running(test::echo, here.config());
    running.start();
    for (int round = 0; round < 3; ++round) {
        CHECK(echoes(here.path()));
        running.server.close();
        REQUIRE(
            running.log.wait_for(server_event_kind::stopped, static_cast<std::size_t>(round + 1)));
        CHECK_FALSE(look(here.path()));
        running.on_shard([&] { running.server.start(); });
    }
    CHECK(echoes(here.path()));
    running.server.close();
    REQUIRE(running.log.wait_for(server_event_kind::stopped, 4));
    running.on_shard([&] {
        CHECK(thrown_by([&] {
                  running.server.set_address("unix:relative");
              }).code() == errc::invalid_address);
        running.server.set_address("127.0.0.1:0");
        running.server.start();
    });
    CHECK_FALSE(look(here.path()));
    CHECK(running.on_shard([&] { return running.server.local_endpoint(); }).is_ip());
}

TEST_CASE("a socket's file on which nobody listens is replaced", "[unix][file]")
{
    const place here;
    const bool is_datagram = GENERATE(false, true);
    if (is_datagram) {
        bound_socket(here.path(), SOCK_DGRAM);
    } else {
        leave_stale_file(here.path());
    }
    test::running_server running(test::echo, here.config());
    running.start();
    CHECK(echoes(here.path()));
    running.stop();
    CHECK_FALSE(look(here.path()));
}

TEST_CASE("a path on which somebody listens is refused, and stays his", "[unix][file]")
{
    const place here;
    test::running_server first(test::echo, here.config());
    first.start();
    {
        test::running_server second(test::echo, here.config());
        const auto error = thrown_by([&] { second.server.open(); });
        CHECK(error.code() == std::errc::address_in_use);
        CHECK(says(error, "cannot listen on \"unix:" + here.path().substr(0, 20)));
        CHECK(says(error, "somebody listens there"));
        REQUIRE(second.log.errors().size() == 1);
        CHECK(second.log.errors().front().code == std::errc::address_in_use);
        CHECK(second.server.state() == fairlead::server_state::created);
    }
    CHECK(echoes(here.path()));
}

TEST_CASE("whoever listens is not mistaken for nobody", "[unix][file]")
{
    const place here;
    const auto how = GENERATE(0, 1, 2);
    const auto other =
        how == 0
            ? bound_socket(here.path(), SOCK_STREAM, 0)
            : bound_socket(here.path(), how == 1 ? SOCK_DGRAM : SOCK_SEQPACKET, 0 - (how == 1));
    std::vector<test::client> queue;
    if (how == 0) { // a server that is too busy to accept
        queue.emplace_back(here.path());
    }
    const auto before = look(here.path());
    test::running_server running(test::echo, here.config());
    const auto error = thrown_by([&] { running.server.open(); });
    CHECK(error.code() == std::errc::address_in_use);
    CHECK(says(error, "somebody listens there"));
    REQUIRE(look(here.path()));
    CHECK(look(here.path())->st_ino == before->st_ino);
}

TEST_CASE("a file that is no socket is never removed", "[unix][file]")
{
    const place here;
    const auto what = GENERATE(0, 1, 2, 3);
    if (what == 0) {
        here.directory.write("app.sock", "precious");
    } else if (what == 1) {
        std::filesystem::create_directory(here.path());
    } else { // a link, to a file or to nothing
        here.directory.write("precious", "precious");
        std::filesystem::create_symlink(here.path(what == 2 ? "precious" : "nothing"), here.path());
    }
    {
        test::running_server running(test::echo, here.config());
        const auto error = thrown_by([&] { running.server.open(); });
        CHECK(error.code() == std::errc::address_in_use);
        CHECK(says(error, "a file that is no socket is there"));
    }
    CHECK(look(here.path()));
    if (what == 0 || what == 2) {
        std::string text;
        std::ifstream(here.path()) >> text;
        CHECK(text == "precious");
    }
}

TEST_CASE("a path that cannot be is refused with the kernel's word", "[unix][file]")
{
    const place here;
    test::running_server running(test::echo, here.config("missing/app.sock"));
    CHECK(thrown_by([&] { running.server.open(); }).code() == std::errc::no_such_file_or_directory);
    CHECK(running.log.errors().size() == 1);
    here.directory.write("file", "");
    running.server.set_address("unix:" + here.path("file/app.sock"));
    CHECK(thrown_by([&] { running.server.open(); }).code() == std::errc::not_a_directory);
}

TEST_CASE("the file has the mode that it is to have, whatever the umask", "[unix][file]")
{
    const place here;
    auto config = here.config();
    CHECK(config.unix_socket.mode == 0600);
    const auto [mode, mask, expected] = GENERATE(table<int, ::mode_t, int>(
        {{0600, 0, 0600},
         {0600, 0777, 0600},
         {0666, 077, 0666},
         {0660, 0, 0660},
         {0, 0, 0777},
         {0, 027, 0750}}));
    config.unix_socket.mode = mode;
    test::running_server running(test::echo, config);
    const umask_of changed(mask);
    running.server.open();
    CHECK(mode_of(here.path()) == expected);
}

TEST_CASE("the file's owner and group are names or numbers that exist", "[unix][file]")
{
    const place here;
    auto config = here.config();
    const ::passwd* const self = ::getpwuid(::geteuid());
    const ::group* const own_group = ::getgrgid(::getegid());
    const bool by_name = GENERATE(false, true) && self != nullptr && own_group != nullptr;
    config.unix_socket.owner = by_name ? std::string(self->pw_name) : std::to_string(::geteuid());
    config.unix_socket.group =
        by_name ? std::string(own_group->gr_name) : std::to_string(::getegid());
    {
        test::running_server running(test::echo, config);
        running.server.open();
        CHECK(look(here.path())->st_uid == ::geteuid());
        CHECK(look(here.path())->st_gid == ::getegid());
    }
    config.unix_socket.group = "no-such-group";
    test::running_server running(test::echo, config);
    const auto error = thrown_by([&] { running.server.open(); });
    CHECK(error.code() == errc::invalid_config);
    CHECK(says(error, "unix_socket.group is \"no-such-group\": there is no such name"));
    CHECK_FALSE(look(here.path()));
    config.unix_socket.owner = "4294967295"; // chown(2)'s word for "as it is"
    test::running_server other(test::echo, config);
    CHECK(says(thrown_by([&] { other.server.open(); }), "unix_socket.owner is \"4294967295\""));
}

TEST_CASE("another owner takes privileges, and is set before anybody can connect", "[unix][file]")
{
    const place here;
    auto config = here.config();
    config.unix_socket = {.mode = 0660, .owner = "12345", .group = "23456"};
    test::running_server running(test::echo, config);
    if (::geteuid() != 0) {
        const auto error = thrown_by([&] { running.server.open(); });
        CHECK(error.code() == std::errc::operation_not_permitted);
        CHECK(says(error, "cannot set the owner and group of"));
        CHECK_FALSE(look(here.path()));
        return;
    }
    running.server.open();
    REQUIRE(look(here.path()));
    CHECK(look(here.path())->st_uid == 12345);
    CHECK(look(here.path())->st_gid == 23456);
    CHECK(mode_of(here.path()) == 0660);
}

TEST_CASE("the file goes with the server, unless another one has taken its place", "[unix][file]")
{
    const place here;
    {
        test::running_server running(test::echo, here.config());
        running.server.open(); // and never starts
        CHECK(is_socket(here.path()));
    }
    CHECK_FALSE(look(here.path()));
    {
        test::running_server running(test::echo, here.config());
        running.start();
        std::filesystem::remove(here.path());
        leave_stale_file(here.path());
        running.stop();
        CHECK(is_socket(here.path()));
        std::filesystem::remove(here.path());
    }
    {
        test::running_server running(test::echo, here.config());
        running.start();
        std::filesystem::rename(here.path(), here.path("elsewhere.sock"));
        here.directory.write("app.sock", "precious");
        CHECK(echoes(here.path("elsewhere.sock")));
    }
    CHECK(std::filesystem::file_size(here.path()) == 8);
}

TEST_CASE("of servers that start at one moment at one path one wins, and is heard", "[unix][file]")
{
    constexpr int rivals = 4;
    for (int round = 0; round < 25; ++round) {
        const place here;
        if (round % 2 == 0) {
            leave_stale_file(here.path());
        }
        std::atomic<int> ready = 0;
        std::atomic<int> opened = 0;
        std::atomic<int> refused = 0;
        std::vector<std::unique_ptr<test::running_server<decltype(&test::echo)>>> servers;
        for (int each = 0; each < rivals; ++each) {
            servers.push_back(std::make_unique<test::running_server<decltype(&test::echo)>>(
                &test::echo, here.config()));
        }
        std::vector<std::thread> threads;
        for (auto& each : servers) {
            threads.emplace_back([&] {
                for (++ready; ready != rivals;) {
                }
                const auto error = thrown_by([&] { each->server.open(); });
                opened += error.code() ? 0 : 1;
                refused += error.code() == std::errc::address_in_use ? 1 : 0;
            });
        }
        for (auto& each : threads) {
            each.join();
        }
        CHECK(opened == 1);
        CHECK(refused == rivals - 1);
        for (auto& each : servers) {
            if (each->server.local_endpoint().is_unix()) {
                each->start();
                CHECK(echoes(here.path()));
            }
        }
    }
}

TEST_CASE("nothing of a Unix server stays open", "[unix]")
{
    const place here;
    const std::size_t before = test::open_descriptors();
    {
        test::running_server running(test::echo, here.config());
        running.start();
        CHECK(echoes(here.path()));
    }
    CHECK(test::open_descriptors() == before);
}

TEST_CASE("a Unix socket's clients are turned away at the limit", "[unix]")
{
    const place here;
    auto config = here.config();
    config.max_connections = 1;
    config.at_limit = fairlead::limit_policy::reject;
    test::running_server running(test::echo, config);
    running.start();
    test::client first(here.path());
    REQUIRE(running.log.wait_for(connection_event_kind::opened));
    test::client second(here.path());
    CHECK(second.receive_rest().end == test::stream_end::finished);
    REQUIRE(running.log.wait_for(connection_event_kind::closed));
    CHECK(running.log.closed().front().reason == close_reason::rejected_by_limit);
    CHECK(running.log.closed().front().remote == endpoint::of_unix(""));
    first.send("x");
    CHECK(first.receive(1) == "x");
}

TEST_CASE("TLS is spoken on a Unix socket as anywhere", "[unix][tls]")
{
    const place here;
    auto config = here.config();
    config.tls = test::make_tls();
    test::running_server running(test::echo, config);
    running.start();
    test::tls_client client{test::client(here.path())};
    const std::string bytes(100'000, 't');
    for (int round = 0; round < 10; ++round) {
        client.send(bytes);
        CHECK(client.receive(bytes.size()) == bytes);
    }
    client.finish();
    CHECK(client.receive_rest().close_notify);
}

TEST_CASE("the shards of a server take turns at one Unix socket", "[unix][shards]")
{
    const place here;
    std::atomic<int> copies = 0;
    const shard_teller handler(copies);
    test::event_log log;
    fairlead::sharded_server server(handler, here.config(), {.threads = 3});
    log.attach(server);
    for (int run = 1; run <= 2; ++run) {
        server.start();
        CHECK(log.count(server_event_kind::listening) == static_cast<std::size_t>(run));
        CHECK(server.local_endpoint().path() == here.path());
        std::vector<test::client> clients;
        std::set<std::string> shards;
        for (int each = 0; each < 9; ++each) {
            clients.emplace_back(here.path());
            shards.insert(clients.back().receive(1));
        }
        CHECK(shards.size() == 3);
        clients.clear();
        CHECK(server.shutdown(test::patience).stragglers.empty());
        CHECK_FALSE(look(here.path()));
    }
    server.set_address("127.0.0.1:0"); // and back to a port of each shard's own
    server.start();
    CHECK(server.local_endpoint().is_ip());
    CHECK(log.count(server_event_kind::listening) == 3);
}

TEST_CASE("the kernel does not spread the clients of a Unix socket", "[unix][shards]")
{
    const place here;
    fairlead::sharded_server server(
        test::echo, here.config(),
        {.threads = 2, .distribution = fairlead::client_distribution::kernel});
    const auto error = thrown_by([&] { server.open(); });
    CHECK(error.code() == errc::invalid_config);
    CHECK(says(error, "the kernel spreads no clients of a Unix socket"));
    CHECK_FALSE(look(here.path()));
    server.set_address("127.0.0.1:0");
    server.start();
    CHECK(server.is_running());
}
