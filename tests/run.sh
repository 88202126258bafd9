#!/usr/bin/env bash
# Builds fairlead and runs its tests, on a bare Debian or Ubuntu too: what is missing is installed by apt.
#
#   bash tests/run.sh                      does it work here? unit, integration and parity tests, and installing
#   bash tests/run.sh --all                everything: also failing system calls, the examples and their clients (Redis'
#                                          tools and PostgreSQL are installed, and none is started by that), what
#                                          fuzzers have found, and each header alone
#   bash tests/run.sh --preset asan        another build (release, asan, tsan, clang); goes with --all too
#   bash tests/run.sh -R drain -V          what follows goes to ctest
#   bash tests/run.sh --help               prints this and changes nothing
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

preset=dev
everything=no
while [ $# -gt 0 ]; do
    case $1 in
    --all)
        everything=yes
        shift
        ;;
    --preset)
        preset=${2:?--preset needs a name}
        shift 2
        ;;
    *) break ;;
    esac
done

if [ "$everything" = yes ]; then bootstrap all; else bootstrap tests; fi
jobs=$(build_jobs)
build=build/$preset
log=$(mktemp)
trap 'rm -f "$log"' EXIT

build() # TARGET...
{
    cmake --build "$build" --parallel "$jobs" --target "$@"
}

# Most tests wait for most of their time.
run_ctest() { ctest --preset "$preset" --parallel $((jobs * 2)) "$@"; }

say "configuring, preset $preset"
cmake --preset "$preset" >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}

unit_programs=(fairlead_unit_ring0 fairlead_unit_ring1 fairlead_skipping)
case $preset in
asan | tsan) readme=() ;; # its programs are built without
*) readme=(fairlead_readme) ;;
esac

if [ "$everything" = yes ]; then
    say "building with $jobs jobs"
    build all
    say "testing"
    run_ctest "$@"
    if grep -q '^all_verify_interface_header_sets:' <<<"$(cmake --build "$build" --target help)"; then
        case $preset in
        asan | tsan | clang) ;; # the compiler's opinion of a header alone is asked once
        *)
            say "compiling each header alone"
            build all_verify_interface_header_sets
            ;;
        esac
    fi
    exit 0
fi

if [ $# -gt 0 ]; then
    say "building with $jobs jobs"
    build "${unit_programs[@]}" fairlead_integration ${readme[@]+"${readme[@]}"} fairlead_parity
    run_ctest "$@"
    exit
fi

# Each kind is run as soon as it is built: the first results come early, the tests that take longest come last.
failed=0
tests=0
skipped=0
stage() # WHAT LABELS TARGET...
{
    local what=$1 labels=$2 count
    shift 2
    say "$what: building with $jobs jobs"
    [ $# -eq 0 ] || build "$@"
    say "$what: testing"
    run_ctest --label-regex "^($labels)$" 2>&1 | tee "$log" || true
    count=$(sed -n 's/^[0-9]*% tests passed, [0-9]* tests failed out of \([0-9]*\)$/\1/p' "$log")
    if [ -z "$count" ]; then
        say "$what: ctest has run nothing"
        failed=$((failed + 1))
        return
    fi
    tests=$((tests + count))
    failed=$((failed + $(sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of .*$/\1/p' "$log")))
    skipped=$((skipped + $(grep -c '\*\*\*Skipped' "$log" || true)))
}

stage "unit tests" "unit|build" "${unit_programs[@]}"
stage "integration tests" "integration|readme" fairlead_integration ${readme[@]+"${readme[@]}"}
stage "parity tests" parity fairlead_parity
stage "installing" install

printf '\n%s tests, %s failed, %s skipped. Everything there is: bash tests/run.sh --all\n' "$tests" "$failed" "$skipped"
[ "$failed" -eq 0 ]
