# Builds the benchmarks in Release and sets `build` to where they are. Sourced, after cmake/bootstrap.sh, with `root` set.
# shellcheck shell=bash

# shellcheck disable=SC2154 # root is the caller's
build="${FAIRLEAD_BENCHMARK_BUILD:-$root/build/benchmarks}"

for program in cmake python3 openssl; do
    if ! has "$program"; then
        echo "the benchmarks need $program; bash tests/run.sh installs what the build needs" >&2
        exit 1
    fi
done

mkdir -p "$build"
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DFAIRLEAD_BUILD_BENCHMARKS=ON \
    -DFAIRLEAD_BUILD_TESTS=OFF -DFAIRLEAD_BUILD_EXAMPLES=OFF >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
cmake --build "$build" --parallel "$(build_jobs)" >>"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
