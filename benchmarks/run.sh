#!/usr/bin/env bash
# Builds the benchmarks in Release and prints how fairlead's echo compares with raw epoll and plain Asio.
#   bash benchmarks/run.sh [--rounds 5] [--seconds 2] [--syscalls] [--instructions] [--scenarios TEXT]
#                          [--servers raw,asio,fairlead,readable,framed]
#   bash benchmarks/run.sh --help    prints this and changes nothing
# README.md in this folder says what the figures mean. The build goes to build/benchmarks.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=cmake/bootstrap.sh
. "$root/cmake/bootstrap.sh"
usage_if_asked "$@"
# shellcheck source=benchmarks/build.sh
. "$root/benchmarks/build.sh"

exec python3 "$root/benchmarks/report.py" --binaries "$build/benchmarks" "$@"
