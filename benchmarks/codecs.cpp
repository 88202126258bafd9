// What it is: what a codec costs: nanoseconds per frame, and bytes per second of the stream, to
// decode and to encode frames of 64 bytes and 4 KiB, beside memchr and memcpy over as many bytes.
// How to run it: codecs [--benchmark_filter=decode/line]
// Compare lines of one run only.

#include <fairlead/codec/chunked.hpp>
#include <fairlead/codec/cobs.hpp>
#include <fairlead/codec/delimiter.hpp>
#include <fairlead/codec/fixed.hpp>
#include <fairlead/codec/frame_reader.hpp>
#include <fairlead/codec/length_prefix.hpp>
#include <fairlead/codec/line.hpp>
#include <fairlead/codec/netstring.hpp>
#include <fairlead/codec/varint_prefix.hpp>

#include <benchmark/benchmark.h>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace
{
namespace codec = fairlead::codec;

/// Bytes of payload in a buffer: many frames, and all of it in the second-level cache.
constexpr std::size_t payload_total = 256 << 10;

/// Text, so that it suits every codec; no byte of it is in a delimiter.
std::vector<std::byte> payload_of(std::size_t size)
{
    std::vector<std::byte> payload(size);
    for (std::size_t i = 0; i < size; ++i) {
        payload[i] = static_cast<std::byte>('a' + i % 26);
    }
    return payload;
}

void report(benchmark::State& state, std::size_t frames, std::size_t bytes)
{
    const auto rounds = static_cast<double>(state.iterations());
    state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
    state.counters["per_frame"] = benchmark::Counter(
        rounds * static_cast<double>(frames),
        benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <typename Codec>
std::vector<std::byte> stream_of(const Codec& rules, std::size_t size)
{
    std::vector<std::byte> stream;
    const auto payload = payload_of(size);
    for (std::size_t i = 0; i < payload_total / size; ++i) {
        rules.encode(payload, stream);
    }
    return stream;
}

/// Through a frame_reader, with the copy into its memory, as over a connection.
template <typename Codec>
void decode(benchmark::State& state, const Codec& rules)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto stream = stream_of(rules, size);
    codec::frame_reader<Codec> reader(rules);
    for (auto _ : state) {
        reader.feed(stream);
        std::error_code error;
        std::size_t found = 0;
        while (const auto frame = reader.next(error)) {
            benchmark::DoNotOptimize(frame->data());
            ++found;
        }
        if (found != payload_total / size) {
            state.SkipWithError("a frame is missing");
            break;
        }
    }
    report(state, payload_total / size, stream.size());
}

template <typename Codec>
void encode(benchmark::State& state, const Codec& rules)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto payload = payload_of(size);
    auto out = stream_of(rules, size); // for its capacity
    const std::size_t whole = out.size();
    for (auto _ : state) {
        out.clear();
        for (std::size_t i = 0; i < payload_total / size; ++i) {
            rules.encode(payload, out);
        }
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    report(state, payload_total / size, whole);
}

/// The limit of what looks for the end of a frame.
void search(benchmark::State& state)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto stream = stream_of(codec::line{}, size);
    for (auto _ : state) {
        const std::byte* at = stream.data();
        const std::byte* const end = at + stream.size();
        while (at != end) {
            at = static_cast<const std::byte*>(
                     std::memchr(at, '\n', static_cast<std::size_t>(end - at))) +
                 1;
            benchmark::DoNotOptimize(at);
        }
    }
    report(state, payload_total / size, stream.size());
}

/// The limit of what copies.
void copy(benchmark::State& state)
{
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto payload = payload_of(size);
    std::vector<std::byte> out(payload_total);
    for (auto _ : state) {
        for (std::size_t at = 0; at < payload_total; at += size) {
            std::memcpy(out.data() + at, payload.data(), size);
        }
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
    }
    report(state, payload_total / size, payload_total);
}

template <typename Codec>
void add(
    const std::string& name, const Codec& rules,
    const std::vector<std::int64_t>& sizes = {64, 4096})
{
    const auto each = [&](const std::string& what, void (*run)(benchmark::State&, const Codec&)) {
        benchmark::RegisterBenchmark((what + "/" + name).c_str(), [=](benchmark::State& state) {
            run(state, rules);
        })->ArgsProduct({sizes});
    };
    each("decode", decode<Codec>);
    each("encode", encode<Codec>);
}
} // namespace

int main(int argc, char** argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return EXIT_FAILURE;
    }
    benchmark::RegisterBenchmark("memchr", search)->Arg(64)->Arg(4096);
    benchmark::RegisterBenchmark("memcpy", copy)->Arg(64)->Arg(4096);
    add("length_prefix", codec::length_prefix{});
    add("varint_prefix", codec::varint_prefix{});
    add("line", codec::line{});
    add("delimiter", codec::delimiter{{"||"}});
    add("delimiter_of_two", codec::delimiter{{"\r\n", "\n"}});
    add("netstring", codec::netstring{});
    add("chunked", codec::chunked{});
    add("cobs", codec::cobs{});
    add("fixed", codec::fixed{64}, {64}); // its size is an option
    add("fixed", codec::fixed{4096}, {4096});
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return EXIT_SUCCESS;
}
