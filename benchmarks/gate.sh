#!/usr/bin/env bash
# Builds the benchmarks in Release and holds what thresholds.txt says of them: instructions, system calls, allocations and
# memory of an echo, and what a minimal program costs its compiler. None of it depends on how fast the machine is.
#   bash benchmarks/gate.sh           status 1: a limit is broken
#   bash benchmarks/gate.sh --help    prints this and changes nothing
# What valgrind, strace or g++ 12 would be needed for is left out, with a word, where they are missing.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=cmake/bootstrap.sh
. "$root/cmake/bootstrap.sh"
usage_if_asked "$@"
# shellcheck source=benchmarks/build.sh
. "$root/benchmarks/build.sh"

compiler=$(find_gxx)
exec python3 "$root/benchmarks/gate.py" --binaries "$build/benchmarks" --compiler "$compiler" \
    --flags "-DASIO_STANDALONE -I$root/include"
