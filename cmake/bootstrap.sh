# What the scripts share: install what is missing to build fairlead here. Sourced, never run.
# shellcheck shell=bash
#
#   usage_if_asked "$@"                  prints the comment that a script begins with and ends it, for -h and --help
#   bootstrap build|tests|all|fuzz|ci    checks for everything the purpose needs and installs by apt what is missing
#
# Each need is checked by looking for the thing itself, so whatever another package manager or a hand installed
# counts. When nothing is missing, nothing touches the network. Without apt, or without the right to use it, the
# packages are named and the script ends with status 2.

say() { printf '%s\n' "-- $*"; }

print_usage() { awk 'NR > 1 { if ($0 !~ /^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

usage_if_asked()
{
    local argument
    for argument in "$@"; do
        case $argument in
        -h | --help)
            print_usage
            exit 0
            ;;
        esac
    done
}

# Status 2: this machine lacks something that we cannot put there.
give_up()
{
    printf 'fairlead: %s\n' "$@" >&2
    exit 2
}

has() { command -v "$1" >/dev/null 2>&1; }

# The first of the named commands that exists.
first_of()
{
    local name
    for name in "$@"; do
        if has "$name"; then
            printf '%s\n' "$name"
            return 0
        fi
    done
    return 1
}

# at_least 3.25 3.25.1
at_least()
{
    awk -v wanted="$1" -v version="$2" 'BEGIN {
        n = split(wanted, w, "."); split(version, v, ".")
        for (i = 1; i <= n; ++i) if (v[i] + 0 != w[i] + 0) exit !(v[i] + 0 > w[i] + 0)
    }'
}

# The C++ compiler for the presets that name none: CXX when it is set, otherwise a g++ that is new enough.
find_gxx()
{
    local name version
    for name in ${CXX:+"$CXX"} g++ g++-15 g++-14 g++-13 g++-12; do
        has "$name" || continue
        [ "$name" != "${CXX:-}" ] || { printf '%s\n' "$name"; return 0; }
        version=$("$name" -dumpfullversion -dumpversion)
        if at_least 12 "$version"; then
            printf '%s\n' "$name"
            return 0
        fi
    done
    return 1
}

has_cmake() { has cmake && at_least 3.25 "$(cmake --version | sed -n 's/^cmake version //p')"; }

# has_header asio/version.hpp: found by the compiler, or in a place where one would look before there is a compiler.
has_header()
{
    local gxx
    if gxx=$(find_gxx); then
        printf '#include <%s>\n' "$1" | "$gxx" -std=c++20 -E -x c++ - >/dev/null 2>&1
    else
        [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]
    fi
}

has_catch2() { has_header catch2/catch_test_macros.hpp || has_header catch2/catch.hpp; }
has_postgresql() { has psql && has pgbench && { has initdb || ls /usr/lib/postgresql/*/bin/initdb; }; }
has_netcat() { has nc && nc -h 2>&1 | grep -qi openbsd; }
clangs=(clang++-22 clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16)
has_clang() { first_of "${clangs[@]}" >/dev/null; }

# The Clang that cmake/clang.cmake takes; its libFuzzer is in a package of its own.
newest_clang() { first_of "${clangs[@]}" clang++; }
has_libfuzzer()
{
    local clang
    clang=$(newest_clang) || return 1
    printf '%s\n' 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
        "$clang" -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null
}

# need PACKAGE CHECK...: remembers the package when the check fails.
missing=()
need()
{
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

list_missing()
{
    missing=()
    need g++ find_gxx
    need cmake has_cmake
    need ninja-build has ninja
    need pkg-config first_of pkg-config pkgconf
    need libasio-dev has_header asio/version.hpp
    need libssl-dev has_header openssl/ssl.h
    need openssl has openssl
    need python3 has python3
    case $1 in
    tests | all | fuzz | ci)
        need catch2 has_catch2
        need ccache has ccache
        need socat has socat
        need netcat-openbsd has_netcat
        ;;
    esac
    case $1 in
    all | ci)
        need curl has curl
        need strace has strace
        need redis-tools has redis-benchmark
        need postgresql has_postgresql
        ;;
    esac
    case $1 in
    fuzz | ci) need clang-19 has_clang ;;
    esac
    case $1 in
    fuzz | ci) need libclang-rt-19-dev has_libfuzzer ;;
    esac
    case $1 in
    ci)
        need clang-format-14 has clang-format-14
        need clang-tidy-14 has clang-tidy-14
        need valgrind has valgrind
        ;;
    esac
}

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

apt_install()
{
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install --yes --no-install-recommends "$@"
}

# Packages of servers start them, and have them started at boot; nobody who runs tests asked for that. Nothing starts
# while this installs, PostgreSQL makes no database of its own, and its service is not enabled.
apt_install_quietly()
{
    local status=0 policy=/usr/sbin/policy-rc.d own_policy=no clusters=/etc/postgresql-common/createcluster.d own_clusters=no
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    case " $* " in
    *" postgresql "*)
        own_clusters=yes
        as_root mkdir -p "$clusters"
        echo "create_main_cluster = false" | as_root tee "$clusters/fairlead-tests.conf" >/dev/null
        ;;
    esac
    apt_install "$@" || status=$?
    if [ "$own_clusters" = yes ]; then
        as_root rm -f "$clusters/fairlead-tests.conf"
        as_root rmdir "$clusters" 2>/dev/null || true
        as_root deb-systemd-helper disable postgresql.service >/dev/null 2>&1 || true
        as_root update-rc.d postgresql disable >/dev/null 2>&1 || true
    fi
    if [ "$own_policy" = yes ]; then
        as_root rm -f "$policy"
    fi
    return "$status"
}

is_known_to_apt() { apt-cache show "$1" >/dev/null 2>&1; }

# The releases differ in what they call a new compiler: take the name that this one has.
choose_names()
{
    local package clang chosen=()
    for package in ${missing[@]+"${missing[@]}"}; do
        case $package in
        clang-19)
            is_known_to_apt clang-19 || package=clang-16
            is_known_to_apt "$package" || package=clang
            ;;
        libclang-rt-19-dev)
            # That of the Clang that is here, or of the one chosen above.
            if clang=$(first_of "${clangs[@]}"); then
                package=libclang-rt-$("$clang" -dumpversion | sed 's/[.].*//')-dev
            else
                is_known_to_apt clang-19 || package=libclang-rt-16-dev
            fi
            is_known_to_apt "$package" || package=libclang-rt-dev
            ;;
        clang-format-14 | clang-tidy-14)
            # The format is defined by this version, and later releases do not have it: then it is not checked.
            is_known_to_apt "$package" || continue
            ;;
        esac
        chosen+=("$package")
    done
    missing=(${chosen[@]+"${chosen[@]}"})
}

bootstrap()
{
    local purpose=$1
    list_missing "$purpose"

    if [ ${#missing[@]} -gt 0 ]; then
        has apt-get || give_up \
            "this machine lacks: ${missing[*]}" \
            "(Debian's names). There is no apt here: please install them with your package manager, that is" \
            "g++ 12 or newer, CMake 3.25 or newer, Ninja, pkg-config, standalone Asio 1.22 or newer (headers)," \
            "OpenSSL 1.1.1 or newer (headers and the openssl command), python3; for the tests also Catch2 2 or 3," \
            "socat and OpenBSD's nc; for all of them (--all) curl, strace, Redis' tools and PostgreSQL."
        [ "$(id -u)" -eq 0 ] || has sudo || give_up \
            "this machine lacks: ${missing[*]}" \
            "Run this script as root, or have root run: apt-get install ${missing[*]}"

        say "installing by apt: ${missing[*]}"
        as_root apt-get -o DPkg::Lock::Timeout=300 update --quiet=2
        choose_names
        if [ ${#missing[@]} -gt 0 ]; then
            apt_install_quietly "${missing[@]}" >"${TMPDIR:-/tmp}/fairlead-apt.$$" 2>&1 || {
                cat "${TMPDIR:-/tmp}/fairlead-apt.$$" >&2
                rm -f "${TMPDIR:-/tmp}/fairlead-apt.$$"
                give_up "apt could not install: ${missing[*]}"
            }
            rm -f "${TMPDIR:-/tmp}/fairlead-apt.$$"
        fi
    fi

    has_cmake || give_up \
        "CMake 3.25 or newer is needed, and this release's package is older: $(cmake --version | head -n 1)." \
        "Please install a newer one from cmake.org."
    CXX=$(find_gxx) || give_up "g++ 12 or newer is needed, and this release has none."
    export CXX
}

processors() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1; }

# Of memory, in whole gigabytes: what is available, or where the system does not say, what there is.
gigabytes()
{
    if [ -r /proc/meminfo ]; then
        awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo
    else
        { sysctl -n hw.memsize 2>/dev/null || sysctl -n hw.physmem 2>/dev/null || echo 4294967296; } |
            awk '{ print int($1 / 1073741824) }'
    fi
}

# One job less than would make a small machine swap: a file that includes Asio takes about 1 GB.
build_jobs()
{
    local jobs memory
    jobs=$(processors)
    memory=$(gigabytes)
    if [ "$memory" -lt 1 ]; then memory=1; fi
    printf '%s\n' $((jobs < memory ? jobs : memory))
}
