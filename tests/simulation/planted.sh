#!/usr/bin/env bash
# Plants one bug after the other into a copy of the library, and says by which seed the random workload finds it. A bug
# that it does not find is a hole in the net.
#
#   bash tests/simulation/planted.sh                    every bug, about 20 minutes on two processors
#   bash tests/simulation/planted.sh --seeds 300        the first 300 seeds only, instead of 1000
#   bash tests/simulation/planted.sh closed_twice ...   only these
#   bash tests/simulation/planted.sh --help             prints this and changes nothing
#
# The bugs are the patches in tests/simulation/planted/. Status 0: each was found, and without any nothing is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

root=$PWD
patches=tests/simulation/planted
seeds=1000
bugs=()
while [ $# -gt 0 ]; do
    case $1 in
    --seeds) seeds=${2:?--seeds needs a number} && shift ;;
    -*) give_up "\"$1\" is no option of tests/simulation/planted.sh: see --help" ;;
    *)
        [ -f "$patches/$1.patch" ] || give_up "\"$1\" is none of the bugs in $patches"
        bugs+=("$1")
        ;;
    esac
    shift
done
if [ ${#bugs[@]} -eq 0 ]; then
    for patch in "$patches"/*.patch; do
        bugs+=("$(basename "$patch" .patch)")
    done
fi

bootstrap tests
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Runs the workload on a copy with this bug, or with none; tells of it in one line. Status 0: as it must be.
try_one() # BUG|none
{
    local bug=$1 copy=$scratch/$1 found
    mkdir "$copy"
    (cd "$root" && cp -R CMakeLists.txt CMakePresets.json LICENSE README.md cmake examples include tests "$copy")
    cd "$copy"
    if [ "$bug" != none ] && ! git apply "$patches/$bug.patch"; then
        printf '%-36s does not apply any more\n' "$bug"
        return 1
    fi
    if ! { cmake --preset release -DCMAKE_CXX_FLAGS_RELEASE=-O1 &&
        cmake --build build/release --parallel 1 --target fairlead_workload; } >build.log 2>&1; then
        printf '%-36s does not compile\n' "$bug"
        tail -n 20 build.log >&2
        return 1
    fi
    if timeout 1800 build/release/tests/fairlead_workload --one --seeds "$seeds" >run.log 2>&1; then
        found=""
    else
        found=$(grep -a -m 1 '^seed ' run.log || echo "the program dies")
    fi
    cd "$root"
    rm -rf "$copy"
    if [ "$bug" = none ]; then
        printf '%-36s %s\n' "none" "${found:-nothing found by $seeds seeds}"
        [ -z "$found" ]
    else
        printf '%-36s %s\n' "$bug" "${found:-NOT FOUND by $seeds seeds}"
        [ -n "$found" ]
    fi
}

export -f try_one
export root patches seeds scratch
# shellcheck disable=SC2016 # the inner shell expands it
printf '%s\0' none "${bugs[@]}" | xargs -0 -n 1 -P "$(processors)" bash -c 'try_one "$1"' try_one
