// What it is: a client that loads an echo server of this machine and says how it fared: requests
// per second, latency percentiles, errors and, with --server-pid, the server's CPU time per
// request. Raw epoll, one thread, no fairlead and no Asio, so that both ends of a measurement do
// not share a mistake.
// How to run it: load_generator --address 127.0.0.1:7777 --connections 100 --size 64 --seconds 5

#include "common/loopback.hpp"
#include "load/engine.hpp"
#include "load/options.hpp"

#include <openssl/ssl.h>

#include <atomic>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace
{
using tls_context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

std::atomic<bool> stop = false;

tls_context make_tls_context()
{
    tls_context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_read_ahead(context.get(), 1);
    SSL_CTX_set_mode(
        context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                           SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return context;
}

const char* name_of(bench::load_mode mode)
{
    switch (mode) {
    case bench::load_mode::reconnect:
        return "reconnect";
    case bench::load_mode::idle:
        return "idle";
    default:
        return "echo";
    }
}

double microseconds(std::uint64_t nanoseconds)
{
    return static_cast<double>(nanoseconds) * 1e-3;
}

/// The figures that both forms of output print.
struct summary
{
    double per_second = 0;
    double cpu_per_request = 0;
    double p50 = 0;
    double p99 = 0;
    double p99_9 = 0;
    double longest = 0;
};

summary summarise(const bench::load_result& result)
{
    summary s;
    const auto requests = static_cast<double>(result.requests);
    if (result.seconds > 0)
        s.per_second = requests / result.seconds;
    if (result.requests > 0)
        s.cpu_per_request = static_cast<double>(result.server_cpu_nanoseconds) / requests;
    s.p50 = microseconds(result.latency.percentile(0.5));
    s.p99 = microseconds(result.latency.percentile(0.99));
    s.p99_9 = microseconds(result.latency.percentile(0.999));
    s.longest = microseconds(result.latency.max());
    return s;
}

void print_text(const bench::load_options& options, const bench::load_result& result)
{
    const auto s = summarise(result);
    const auto& errors = result.errors;
    std::printf(
        "%s%s, %zu connections, %zu bytes, depth %zu\n", name_of(options.mode),
        options.tls ? " over TLS" : "", options.connections, options.size, options.depth);
    if (options.mode == bench::load_mode::idle) {
        std::printf("%" PRIu64 " connections held for %.3f s\n", result.requests, result.seconds);
    } else {
        std::printf(
            "%" PRIu64 " requests in %.3f s: %.0f requests/s\n", result.requests, result.seconds,
            s.per_second);
        std::printf(
            "latency in us: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n", s.p50, s.p99, s.p99_9,
            s.longest);
    }
    std::printf(
        "errors: connect %" PRIu64 ", handshake %" PRIu64 ", closed %" PRIu64 ", broken %" PRIu64
        ", mismatch %" PRIu64 "\n",
        errors.connect, errors.handshake, errors.closed, errors.broken, errors.mismatch);
    if (options.server_pid != 0)
        std::printf("server CPU: %.1f ns per request\n", s.cpu_per_request);
}

void print_json(const bench::load_options& options, const bench::load_result& result)
{
    const auto s = summarise(result);
    const auto& errors = result.errors;
    std::printf(
        "{\"mode\": \"%s\", \"tls\": %s, \"connections\": %zu, \"size\": %zu, \"depth\": %zu, ",
        name_of(options.mode), options.tls ? "true" : "false", options.connections, options.size,
        options.depth);
    std::printf(
        "\"seconds\": %.6f, \"requests\": %" PRIu64 ", \"requests_per_second\": %.1f, ",
        result.seconds, result.requests, s.per_second);
    std::printf(
        "\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p99_9\": %.1f, \"max\": %.1f}, ", s.p50,
        s.p99, s.p99_9, s.longest);
    std::printf(
        "\"errors\": {\"connect\": %" PRIu64 ", \"handshake\": %" PRIu64 ", \"closed\": %" PRIu64
        ", \"broken\": %" PRIu64 ", \"mismatch\": %" PRIu64 "}",
        errors.connect, errors.handshake, errors.closed, errors.broken, errors.mismatch);
    if (options.server_pid != 0)
        std::printf(
            ", \"server_cpu_ns\": %" PRIu64 ", \"server_cpu_ns_per_request\": %.1f",
            result.server_cpu_nanoseconds, s.cpu_per_request);
    std::printf("}\n");
}

/// 0: all echoes exact; 1: errors.
int load(const bench::load_options& options)
{
    const auto limit = bench::raise_descriptor_limit();
    if (options.connections + 64 > limit)
        throw std::invalid_argument(
            "--connections " + std::to_string(options.connections) +
            " is more than this process's descriptor limit of " + std::to_string(limit) +
            " allows; run several generators");
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGINT, [](int) { stop = true; });
    std::signal(SIGTERM, [](int) { stop = true; });

    const tls_context tls = options.tls ? make_tls_context() : tls_context(nullptr, &SSL_CTX_free);
    bench::load_engine engine(options, tls.get(), stop);
    engine.open_all();
    if (options.mode == bench::load_mode::idle) {
        std::fprintf(stderr, "holding %zu connections\n", engine.open());
        std::fflush(stderr);
    }
    const auto result = engine.run();
    if (options.json)
        print_json(options, result);
    else
        print_text(options, result);
    return result.errors.total() == 0 ? 0 : 1;
}
} // namespace

int main(int count, char** values)
try {
    for (int i = 1; i < count; ++i) {
        if (std::string_view(values[i]) == "--help") {
            std::fputs(bench::load_usage, stdout);
            return 0;
        }
    }
    return load(bench::parse_load_options(count, values));
} catch (const std::exception& problem) {
    std::fprintf(stderr, "load_generator: %s\n", problem.what());
    return 2;
}
