#!/usr/bin/env bash
# Runs the random workload on the simulated kernel for many seeds, in a release build.
#
#   bash tests/simulation/run.sh                     1000 seeds, about a minute
#   bash tests/simulation/run.sh --seeds 1000000     a night
#   bash tests/simulation/run.sh --first 7 --seeds 1 one of them again; it fails as it did
#   bash tests/simulation/run.sh --twice             each seed twice, which must make the same calls
#   bash tests/simulation/run.sh --help              prints this and changes nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

first=1
seeds=1000
more=()
while [ $# -gt 0 ]; do
    case $1 in
    --first) first=${2:?--first needs a number} && shift ;;
    --seeds) seeds=${2:?--seeds needs a number} && shift ;;
    --twice) more+=(--twice) ;;
    *) give_up "\"$1\" is no option of tests/simulation/run.sh: see --help" ;;
    esac
    shift
done

bootstrap tests
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset release >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
cmake --build build/release --parallel "$(build_jobs)" --target fairlead_workload

# Each processor has its share of the seeds.
parts=$(processors)
[ "$parts" -le "$seeds" ] || parts=$seeds
share=$(((seeds + parts - 1) / parts))
# So many reach every failure in the list.
[ "$share" -lt 500 ] || more+=(--covered)
status=0
pids=()
for ((part = 0; part < parts; ++part)); do
    from=$((first + part * share))
    count=$((first + seeds - from < share ? first + seeds - from : share))
    [ "$count" -gt 0 ] || continue
    build/release/tests/fairlead_workload --first "$from" --seeds "$count" ${more[@]+"${more[@]}"} &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
done
exit "$status"
