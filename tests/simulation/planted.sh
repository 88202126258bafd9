#!/usr/bin/env bash
# Plants one bug after the other into a copy of the library, and says by which seed the random workload finds it. A bug
# that it does not find is a hole in the net.
#
#   bash tests/simulation/planted.sh                    every bug, about 40 minutes on two processors
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

seeds=1000
bugs=()
while [ $# -gt 0 ]; do
    case $1 in
    --seeds) seeds=${2:?--seeds needs a number} && shift ;;
    -*) give_up "\"$1\" is no option of tests/simulation/planted.sh: see --help" ;;
    *)
        [ -f "tests/simulation/planted/$1.patch" ] || give_up "\"$1\" is none of the bugs in tests/simulation/planted"
        bugs+=("$1")
        ;;
    esac
    shift
done
if [ ${#bugs[@]} -eq 0 ]; then
    for patch in tests/simulation/planted/*.patch; do
        bugs+=("$(basename "$patch" .patch)")
    done
fi

bootstrap tests
patches=$PWD/tests/simulation/planted
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R CMakeLists.txt CMakePresets.json LICENSE README.md cmake examples include tests "$copy"
cd "$copy"

build()
{
    cmake --build build/release --parallel "$(build_jobs)" --target fairlead_workload >build.log 2>&1
}

# Prints the first seed that fails, and what it says; nothing when none does. Each processor has its share of them.
first_failure()
{
    local parts share part pids=()
    parts=$(processors)
    share=$(((seeds + parts - 1) / parts))
    for ((part = 0; part < parts; ++part)); do
        timeout 1800 build/release/tests/fairlead_workload --one --first $((1 + part * share)) --seeds "$share" \
            >"part.$part" 2>&1 &
        pids+=($!)
    done
    for ((part = 0; part < parts; ++part)); do
        wait "${pids[$part]}" && continue
        # A crash says no seed of its own.
        grep -a -m 1 '^seed ' "part.$part" || printf 'seeds from %s: the program died\n' $((1 + part * share))
    done | sort -t ' ' -k 2 -n | head -n 1
}

cmake --preset release >configure.log 2>&1 || {
    cat configure.log >&2
    exit 1
}
build || {
    cat build.log >&2
    exit 1
}
found=$(first_failure)
[ -z "$found" ] || give_up "without any bug the workload fails: $found"

missed=0
for bug in "${bugs[@]}"; do
    if ! git apply "$patches/$bug.patch"; then
        printf '%-36s does not apply any more\n' "$bug"
        missed=$((missed + 1))
        continue
    fi
    if build; then
        found=$(first_failure)
        if [ -n "$found" ]; then
            printf '%-36s %s\n' "$bug" "$found"
        else
            printf '%-36s NOT FOUND by %s seeds\n' "$bug" "$seeds"
            missed=$((missed + 1))
        fi
    else
        printf '%-36s does not compile\n' "$bug"
        tail -n 20 build.log >&2
        missed=$((missed + 1))
    fi
    git apply --reverse "$patches/$bug.patch"
done
printf '%s bugs, %s of them not found\n' "${#bugs[@]}" "$missed"
[ "$missed" -eq 0 ]
