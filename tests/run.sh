#!/usr/bin/env bash
# Builds fairlead and runs its tests, on a bare Debian or Ubuntu too: what is missing is installed by apt.
#
#   bash tests/run.sh                      the everyday build (preset dev)
#   bash tests/run.sh --preset asan        another preset: release, asan, tsan, clang
#   bash tests/run.sh -R drain -V          what follows goes to ctest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh

preset=dev
if [ "${1:-}" = --preset ]; then
    preset=${2:?--preset needs a name}
    shift 2
fi

bootstrap tests
jobs=$(build_jobs)

say "configuring, preset $preset"
cmake --preset "$preset"
say "building with $jobs jobs"
cmake --build --preset "$preset" --parallel "$jobs"
say "testing"
ctest --preset "$preset" --parallel "$jobs" "$@"
