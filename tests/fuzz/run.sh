#!/usr/bin/env bash
# Builds every fuzz target with Clang and runs each, as many at once as there are cores. Fails on any finding.
#
#   bash tests/fuzz/run.sh             60 seconds each
#   bash tests/fuzz/run.sh 600         10 minutes each
#   bash tests/fuzz/run.sh 600 line    one target
#   bash tests/fuzz/run.sh --help      prints this and changes nothing
#
# What a fuzzer learns goes to a scratch folder that is removed, never to the tree; what it finds stays in
# build/fuzz/findings, and is run again by: build/fuzz/tests/fuzz/fuzzers/<target> <file>
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=("$@")

bootstrap fuzz
say "configuring, preset fuzz"
cmake --preset fuzz >/dev/null
say "building the fuzzers"
cmake --build --preset fuzz --parallel "$(build_jobs)"

fuzzers=build/fuzz/tests/fuzz/fuzzers
findings=build/fuzz/findings
mkdir -p "$findings"
if [ $# -eq 0 ]; then
    targets=()
    for source in tests/fuzz/*.cpp; do
        target=$(basename "$source" .cpp)
        [ "$target" = replay ] || targets+=("$target")
    done
fi

# What is freed is remembered for a while, to find who uses it all the same; 256 MB of it, unless told otherwise, would
# look like a leak to the limit below.
export ASAN_OPTIONS=quarantine_size_mb=64${ASAN_OPTIONS:+:$ASAN_OPTIONS}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

run_one()
{
    local target=$1 log=$scratch/$1.log timeout=10
    mkdir "$scratch/$target"
    # The fuzzer's own watch would read the simulated clock; who goes round in a circle is noticed by the kernel there.
    [ "$target" != scenario ] || timeout=0
    if "$fuzzers/$target" -max_total_time="$seconds" -max_len=1024 -timeout="$timeout" -rss_limit_mb=1024 \
        -artifact_prefix="$findings/$target-" -print_final_stats=1 \
        "$scratch/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        say "$target: nothing found in $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
    else
        tail -n 60 "$log" >&2
        say "$target: FOUND SOMETHING, see $findings"
        return 1
    fi
}

say "fuzzing ${#targets[@]} targets for $seconds seconds each"
export -f run_one say
export fuzzers findings scratch seconds
# shellcheck disable=SC2016 # the inner shell expands it
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "$(processors)" bash -c 'run_one "$1"' run_one
