// Memory runs out once, at every point where the server's thread asks for some: `operator new`, Asio's aligned
// memory and OpenSSL's. Afterwards either service goes on, or the process ended, by std::terminate, in a place
// that README's table names. A program of its own, because it replaces the allocators.

#include "support/catch.hpp"
#include "support/certificates.hpp"
#include "support/client.hpp"
#include "support/tls_client.hpp"
#include <fairlead/codec/framed.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/server.hpp>

#include <asio/co_spawn.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <exception>
#include <execinfo.h>
#include <functional>
#include <future>
#include <map>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

// -- the allocators

namespace memory
{
constexpr int deepest = 100;

// NOLINTBEGIN: plain globals, as an allocator may be called at any time
thread_local bool is_servers_thread = false;
std::atomic<bool> is_armed = false;
std::atomic<unsigned> asked = 0;
unsigned fail_at = 0;
std::atomic<long> live = 0;
std::array<void*, deepest> trace;
int trace_size = 0;
// NOLINTEND

/// It is the turn of the one that fails.
bool fails() noexcept
{
    if (!is_servers_thread || !is_armed || ++asked != fail_at) {
        return false;
    }
    is_servers_thread = false;
    trace_size = ::backtrace(trace.data(), deepest);
    is_servers_thread = true;
    return true;
}

void* openssl_malloc(std::size_t size, const char*, int)
{
    return size == 0 || fails() ? nullptr : std::malloc(size);
}

void* openssl_realloc(void* old, std::size_t size, const char*, int)
{
    if (size == 0) {
        std::free(old);
        return nullptr;
    }
    return fails() ? nullptr : std::realloc(old, size);
}

void openssl_free(void* old, const char*, int)
{
    std::free(old);
}

/// Before anything of OpenSSL is used.
const int is_openssl_ours =
    ::CRYPTO_set_mem_functions(&openssl_malloc, &openssl_realloc, &openssl_free);
} // namespace memory

void* operator new(std::size_t size)
{
    void* const made = memory::fails() ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (made == nullptr) {
        throw std::bad_alloc();
    }
    ++memory::live;
    return made;
}

void operator delete(void* old) noexcept
{
    if (old != nullptr) {
        --memory::live;
        std::free(old);
    }
}

void operator delete(void* old, std::size_t) noexcept
{
    operator delete(old);
}

extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size)
{
    void* made = nullptr;
    return memory::fails() || ::posix_memalign(&made, alignment, size) != 0 ? nullptr : made;
}

namespace memory
{
// -- the handlers

asio::awaitable<void> echo(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    for (std::size_t n = co_await conn.read_some(asio::buffer(buffer)); n != 0;
         n = co_await conn.read_some(asio::buffer(buffer))) {
        co_await conn.write(asio::buffer(buffer, n));
    }
}

asio::awaitable<void> echo_when_readable(fairlead::connection& conn)
{
    std::array<char, 4096> buffer;
    for (bool more = co_await conn.readable(); more; more = co_await conn.readable()) {
        const auto n = co_await conn.read_some(asio::buffer(buffer));
        co_await conn.write(asio::buffer(buffer, n));
    }
}

asio::awaitable<void> echo_lines(fairlead::connection& conn)
{
    fairlead::framed lines(conn, fairlead::codec::line{.max_frame = 1 << 20});
    for (auto text = co_await lines.next(); text; text = co_await lines.next()) {
        co_await lines.send(*text);
    }
}

using handler = asio::awaitable<void> (*)(fairlead::connection&);

/// What happens while memory may run out.
enum class incident
{
    visit, // a client comes, is served and leaves
    queue, // the same, and it has to wait until another has left
    drain, // with clients there
    close, // the same
};

struct scenario
{
    const char* name;
    handler serve;
    bool is_tls;
    incident what;
};

constexpr std::array scenarios{
    scenario{"accept and echo", &echo, false, incident::visit},
    scenario{"TLS handshake and echo", &echo, true, incident::visit},
    scenario{"framed", &echo_lines, false, incident::visit},
    scenario{"framed under TLS", &echo_lines, true, incident::visit},
    scenario{"max_connections", &echo, false, incident::queue},
    scenario{"drain", &echo_when_readable, false, incident::drain},
    scenario{"drain of handlers that go on", &echo, false, incident::drain},
    scenario{"drain under TLS", &echo_when_readable, true, incident::drain},
    scenario{"close", &echo, false, incident::close},
    scenario{"close under TLS", &echo, true, incident::close},
};

// -- the child: one run

const fairlead::tls_config& certificate()
{
    static const fairlead::tls_config config = [] {
        const test::certificate_authority authority;
        const auto issued = authority.issue();
        return fairlead::tls_config{
            .certificate = issued.certificate_pem, .private_key = issued.key_pem};
    }();
    return config;
}

struct broken_promise_of_service : std::runtime_error
{
    using runtime_error::runtime_error;
};

void require(bool condition, const char* what)
{
    if (!condition) {
        throw broken_promise_of_service(what);
    }
}

/// A blocking client, plain or TLS, with less patience than most.
class visitor
{
public:
    visitor(std::uint16_t port, bool is_tls)
    {
        test::client connected(port);
        const timeval patience{.tv_sec = 3, .tv_usec = 0};
        ::setsockopt(connected.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (is_tls) {
            secure_.emplace(std::move(connected));
        } else {
            plain_.emplace(std::move(connected));
        }
    }

    /// True: what was said came back.
    bool converse(std::string_view text)
    {
        if (secure_) {
            secure_->send(text);
            return secure_->receive(text.size()) == text;
        }
        plain_->send(text);
        return plain_->receive(text.size()) == text;
    }

    /// Leaves in order.
    void leave()
    {
        if (secure_) {
            secure_->finish();
            secure_->receive_rest();
        } else {
            plain_->finish();
            plain_->receive_rest();
        }
    }

private:
    std::optional<test::client> plain_;
    std::optional<test::tls_client> secure_;
};

/// Says how it went as the last thing it does: what Asio needs to end the coroutine is not ours. A
/// coroutine that Asio destroys breaks its promise.
asio::awaitable<void> drain_and_tell(
    fairlead::tcp_server<handler>& server, std::promise<fairlead::drain_report> report)
{
    try {
        report.set_value(co_await server.shutdown(1s));
    } catch (...) {
        report.set_exception(std::current_exception());
    }
}

class server_on_a_thread
{
public:
    explicit server_on_a_thread(const scenario& rules)
        : server(context, rules.serve, config_of(rules)), thread_([this] { run(); })
    {}

    server_on_a_thread(const server_on_a_thread&) = delete;
    server_on_a_thread& operator=(const server_on_a_thread&) = delete;

    ~server_on_a_thread()
    {
        is_armed = false;
        server.close();
        work_.reset();
        thread_.join();
    }

    /// A second attempt is fair when the first threw: the caller was told.
    void drain(bool may_throw)
    {
        std::promise<fairlead::drain_report> promise;
        auto report = promise.get_future();
        asio::co_spawn(
            context, drain_and_tell(server, std::move(promise)), [](const std::exception_ptr&) {});
        require(report.wait_for(4s) == std::future_status::ready, "the drain never completes");
        try {
            report.get();
        } catch (const std::exception&) { // bad_alloc, or a broken promise
            require(may_throw, "a drain has no memory though there is some");
            is_armed = false;
            drain(false);
        }
    }

    template <typename Condition>
    static bool eventually(Condition condition)
    {
        const auto limit = std::chrono::steady_clock::now() + 4s;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > limit) {
                return false;
            }
            std::this_thread::sleep_for(100us);
        }
        return true;
    }

    asio::io_context context{1};
    fairlead::tcp_server<handler> server;
    std::atomic<unsigned> escaped = 0; // exceptions that left run()

private:
    static fairlead::server_config config_of(const scenario& rules)
    {
        fairlead::server_config config{.address = "127.0.0.1:0"};
        config.max_connections = rules.what == incident::queue ? 1 : 100;
        config.pre_open_timeout = 600ms;
        config.idle_timeout = 800ms;
        config.write_timeout = 600ms;
        config.linger = 200ms;
        config.tls_close_timeout = 200ms;
        if (rules.is_tls) {
            config.tls = certificate();
        }
        return config;
    }

    void run()
    {
        is_servers_thread = true;
        for (bool is_over = false; !is_over;) {
            try {
                context.run();
                is_over = true;
            } catch (const std::bad_alloc&) {
                ++escaped;
            }
        }
        is_servers_thread = false;
    }

    asio::executor_work_guard<asio::io_context::executor_type> work_ =
        asio::make_work_guard(context);
    std::thread thread_;
};

/// Comes, talks, leaves. False: it was sent away, or broken off.
bool visit(std::uint16_t port, const scenario& rules)
{
    const auto before = std::chrono::steady_clock::now();
    try {
        visitor client(port, rules.is_tls);
        bool is_served = client.converse("hello\n");
        if (rules.serve == &echo_lines) {
            is_served = is_served && client.converse(std::string(100'000, 'x') + "\n");
        }
        client.leave();
        return is_served;
    } catch (const std::exception&) {
        require(std::chrono::steady_clock::now() - before < 2500ms, "a client hangs");
        return false;
    }
}

/// Two that stay, though perhaps not for long.
struct guests
{
    guests(std::uint16_t port, const scenario& rules) : a(port, rules.is_tls), b(port, rules.is_tls)
    {
        require(a.converse("a\n") && b.converse("b\n"), "service, at first");
    }

    visitor a, b;
};

struct outcome
{
    unsigned points = 0;
    unsigned escaped = 0;
    bool is_first_served = true;
    long leaked = 0;
};

outcome run(const scenario& rules, unsigned fail_at_this)
{
    fail_at = fail_at_this;
    outcome result;
    const long live_before = live;
    {
        server_on_a_thread one(rules);
        auto& server = one.server;
        server.start();
        const auto port = [&] { return server.local_endpoint().port(); };
        std::optional<guests> inside;
        std::optional<visitor> in_the_way;
        if (rules.what == incident::queue) {
            in_the_way.emplace(port(), rules.is_tls);
            require(in_the_way->converse("first\n"), "service, at first");
        } else if (rules.what != incident::visit) {
            inside.emplace(port(), rules);
        }
        is_armed = true;
        switch (rules.what) {
        case incident::queue: {
            auto second = std::async(std::launch::async, [&] { return visit(port(), rules); });
            one.eventually([&] {
                return server.stats().pauses != 0 ||
                       second.wait_for(0s) == std::future_status::ready;
            });
            in_the_way->leave();
            result.is_first_served = second.get();
            break;
        }
        case incident::visit:
            result.is_first_served = visit(port(), rules);
            require(
                one.eventually([&] { return server.open_connections() == 0; }),
                "the connection stays in the accounts");
            break;
        case incident::drain:
            one.drain(true);
            break;
        case incident::close:
            server.close();
            require(
                one.eventually([&] { return server.state() == fairlead::server_state::stopped; }),
                "it never stops");
            break;
        }
        is_armed = false;
        inside.reset();
        in_the_way.reset();
        if (server.state() == fairlead::server_state::stopped) {
            require(server.open_connections() == 0, "stopped, and connections are open");
            server.start();
        }
        for (int i = 0; i < 2; ++i) {
            require(visit(port(), rules), "nobody is served any more");
        }
        one.drain(false);
        const auto stats = server.stats();
        require(
            stats.accepted == stats.closed && server.open_connections() == 0 && stats.handlers == 0,
            "the accounts do not agree");
        result.points = asked;
        result.escaped = one.escaped;
    }
    result.leaked = live - live_before;
    return result;
}

void tell(int report, const std::string& line)
{
    [[maybe_unused]] const auto written = ::write(report, line.data(), line.size());
}

int report_descriptor = -1; // NOLINT: a terminate handler has no arguments

void tell_trace()
{
    for (int i = 2; i < trace_size; ++i) {
        Dl_info place{};
        if (::dladdr(trace[static_cast<std::size_t>(i)], &place) != 0 &&
            place.dli_sname != nullptr) {
            tell(report_descriptor, "  " + std::string(place.dli_sname) + "\n");
        }
    }
}

[[noreturn]] void terminated()
{
    is_armed = false;
    tell(report_descriptor, "terminated\n");
    tell_trace();
    ::_exit(0);
}

[[noreturn]] void child(const scenario& rules, unsigned fail_at_this, int report)
{
    report_descriptor = report;
    std::set_terminate(&terminated);
    try {
        const outcome result = run(rules, fail_at_this);
        tell(
            report, "served points=" + std::to_string(result.points) +
                        " escaped=" + std::to_string(result.escaped) +
                        " first=" + std::to_string(result.is_first_served ? 1 : 0) +
                        " leaked=" + std::to_string(result.leaked) + "\n");
        tell_trace();
    } catch (const std::exception& error) {
        tell(report, std::string("failed: ") + error.what() + "\n");
        tell_trace();
    }
    ::_exit(0);
}

// -- the parent

/// What the child had to say: a line, and then the trace of the allocation that failed.
struct account
{
    std::string line;
    std::string trace;

    long number(const std::string& name) const
    {
        const auto at = line.find(name + "=");
        return at == std::string::npos ? 0 : std::stol(line.substr(at + name.size() + 1));
    }

    bool is_served() const
    {
        return line.starts_with("served");
    }

    /// It ended at the start of an operation that a coroutine awaits: Asio 1.22 calls what starts it
    /// from a function that is `noexcept`. Where it does not any more, the exception leaves run().
    bool ended_as_documented() const
    {
        return line == "terminated" && trace.find("await_transform") != std::string::npos;
    }

    /// The operation is the one that `asio::co_spawn` begins with.
    bool ended_in_co_spawn() const
    {
        return ended_as_documented() &&
               trace.find("initiate_dispatch") < trace.find("await_transform");
    }
};

account run_child(const scenario& rules, unsigned fail_at_this)
{
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::close(ends[0]);
        for (const int fatal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTERM}) {
            std::signal(fatal, SIG_DFL); // not Catch2's
        }
        ::alarm(30); // a hang
        child(rules, fail_at_this, ends[1]);
    }
    ::close(ends[1]);
    std::string heard;
    std::array<char, 4096> buffer;
    for (ssize_t n = 1; n > 0;) {
        n = ::read(ends[0], buffer.data(), buffer.size());
        heard.append(buffer.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) {
        heard = "ended by signal " + std::to_string(WTERMSIG(status)) + "\n" + heard;
    }
    const auto end = heard.find('\n');
    return {heard.substr(0, end), end == std::string::npos ? "" : heard.substr(end + 1)};
}
} // namespace memory

TEST_CASE("memory that runs out once ends no service", "[memory]")
{
    using namespace memory;
    REQUIRE(is_openssl_ours == 1);
    certificate();
    std::array<void*, 2> warm{};
    ::backtrace(warm.data(), 2); // loads what it needs
    const char* const only = std::getenv("FAIRLEAD_MEMORY_ONLY");
    const char* const from = std::getenv("FAIRLEAD_MEMORY_FROM");
    const bool is_loud = std::getenv("FAIRLEAD_MEMORY_LOUD") != nullptr;
    for (const scenario& rules : scenarios) {
        if (only != nullptr && std::string_view(rules.name) != only) {
            continue;
        }
        const account undisturbed = run_child(rules, 0);
        INFO(rules.name << ": " << undisturbed.line);
        REQUIRE(undisturbed.is_served());
        unsigned served = 0, lost = 0, escaped = 0, spawning = 0, starting = 0, bad = 0;
        unsigned n = from != nullptr ? static_cast<unsigned>(std::atoi(from)) : 1;
        for (;; ++n) {
            const account seen = run_child(rules, n);
            if (seen.is_served() && seen.number("points") < long(n)) {
                break;
            }
            const bool leaks =
                seen.is_served() && seen.number("leaked") > undisturbed.number("leaked");
            if (seen.is_served() && !leaks) {
                ++served;
                lost += seen.number("first") == 0 ? 1 : 0;
                escaped += seen.number("escaped") != 0 ? 1 : 0;
            } else if (seen.ended_as_documented()) {
                ++(seen.ended_in_co_spawn() ? spawning : starting);
            } else {
                ++bad;
            }
            if (is_loud || (!seen.is_served() && !seen.ended_as_documented()) || leaks) {
                std::printf(
                    "%s, %u: %s\n%s\n", rules.name, n, seen.line.c_str(), seen.trace.c_str());
                std::fflush(stdout);
            }
        }
        std::printf(
            "%-30s %4u points: %4u served on (%u lost the client, %u left run()); ended: %u at the "
            "start of a "
            "coroutine, %u of an operation; %u wrong\n",
            rules.name, n - 1, served, lost, escaped, spawning, starting, bad);
        std::fflush(stdout);
        CHECK(bad == 0);
    }
}
