#!/usr/bin/env bash
# Builds the benchmarks in Release and prints how fairlead's echo compares with raw epoll and plain Asio.
#   bash benchmarks/run.sh [--rounds 5] [--seconds 2] [--syscalls] [--instructions] [--scenarios TEXT]
#                          [--servers raw,asio,fairlead,readable]
#   bash benchmarks/run.sh --help    prints this and changes nothing
# README.md in this folder says what the figures mean. The build goes to build/benchmarks.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=cmake/bootstrap.sh
. "$root/cmake/bootstrap.sh"
usage_if_asked "$@"
build="${FAIRLEAD_BENCHMARK_BUILD:-$root/build/benchmarks}"

for program in cmake python3 openssl; do
    if ! command -v "$program" >/dev/null; then
        echo "benchmarks/run.sh needs $program; bash tests/run.sh installs what the build needs" >&2
        exit 1
    fi
done

mkdir -p "$build"
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DFAIRLEAD_BUILD_BENCHMARKS=ON \
    -DFAIRLEAD_BUILD_TESTS=OFF -DFAIRLEAD_BUILD_EXAMPLES=OFF >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
cmake --build "$build" --parallel "$(build_jobs)" >>"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }

exec python3 "$root/benchmarks/report.py" --binaries "$build/benchmarks" "$@"
