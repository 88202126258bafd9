#!/usr/bin/env bash
# Compiles and runs main.cpp with one compiler call and what pkg-config says, no CMake.
# Usage: pkg_config.sh PKG_CONFIG PREFIX WORK_FOLDER VERSION    (environment: CXX, CXXFLAGS)
set -euo pipefail

case ${1:-} in
-h | --help)
    awk 'NR > 1 { if ($0 !~ /^#/) exit; sub(/^# ?/, ""); print }' "$0"
    exit 0
    ;;
esac
pkg_config=$1 prefix=$2 work=$3 version=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PKG_CONFIG_PATH="$prefix/share/pkgconfig"

found=$("$pkg_config" --modversion fairlead)
if [ "$found" != "$version" ]; then
    echo "pkg-config says version $found, expected $version"
    exit 1
fi

# pkg-config escapes what a shell would split, such as a space in the prefix, so a shell has to read it.
flags=()
eval "flags=($("$pkg_config" --cflags --libs fairlead))"

mkdir -p "$work"
# shellcheck disable=SC2086 # CXX may hold a launcher, CXXFLAGS several flags
${CXX:-c++} -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror ${CXXFLAGS:-} \
    "$here/main.cpp" -o "$work/main" "${flags[@]}"
"$work/main"
