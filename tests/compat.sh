#!/usr/bin/env bash
# Both commands of the README on a bare Debian 12 and a bare Debian 13, with g++ and with the newest Clang of each.
# By hand and as root: it takes the better part of an hour for each, and 5 GB.
#
#   bash tests/compat.sh                   both
#   bash tests/compat.sh trixie            one; suites by name
#   bash tests/compat.sh trixie -- --all   what follows goes to tests/run.sh
#   bash tests/compat.sh --help            prints this and changes nothing
#
# The roots are made by debootstrap from the mirror that this machine's apt uses (or FAIRLEAD_COMPAT_MIRROR), in
# build/compat (or FAIRLEAD_COMPAT_ROOTS), and stay there: the next run is faster. Remove them with rm -rf.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

suites=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    suites+=("$1")
    shift
done
[ $# -eq 0 ] || shift
[ ${#suites[@]} -gt 0 ] || suites=(bookworm trixie)

[ "$(id -u)" -eq 0 ] || give_up "root is needed, for debootstrap and chroot."
if ! has debootstrap; then
    has apt-get || give_up "debootstrap is needed."
    apt-get update --quiet=2
    apt_install debootstrap
fi
roots=${FAIRLEAD_COMPAT_ROOTS:-$PWD/build/compat}
# shellcheck disable=SC2016 # apt's own notation
mirror=${FAIRLEAD_COMPAT_MIRROR:-$(
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 'Component: main' | awk 'NR == 1'
)}
[ -n "$mirror" ] || give_up "apt's sources name no mirror of Debian: set FAIRLEAD_COMPAT_MIRROR."
mkdir -p "$roots"

mounted=()
trap 'unmount' EXIT
unmount()
{
    local folder
    for folder in ${mounted[@]+"${mounted[@]}"}; do
        umount "$folder" || umount --lazy "$folder"
    done
    mounted=()
}

mount_into() # ROOT: unless somebody has
{
    if ! mountpoint -q "$1/proc"; then
        mount -t proc proc "$1/proc"
        mounted+=("$1/proc")
    fi
    if ! mountpoint -q "$1/dev"; then
        mount --bind /dev "$1/dev"
        mounted+=("$1/dev")
    fi
}

inside() # ROOT COMMAND...
{
    local root=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" DEBIAN_FRONTEND=noninteractive \
        chroot "$root" sh -c 'cd /fairlead && exec "$@"' sh "$@"
}

results=()
attempt() # WHAT COMMAND...
{
    local what=$1
    shift
    say "$what: $*"
    if "$@"; then
        results+=("passed  $what")
    else
        results+=("FAILED  $what")
        status=1
    fi
}

status=0
for suite in "${suites[@]}"; do
    root=$roots/$suite
    if [ ! -e "$root/etc/debian_version" ]; then
        say "$suite: making a root in $root"
        debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$roots/$suite.log" || {
            tail -n 20 "$roots/$suite.log" >&2
            exit 1
        }
    fi
    mount_into "$root"
    # A bare machine, but for the tree: what is missing is the scripts' business. What was built there stays.
    mkdir -p "$root/fairlead"
    find "$root/fairlead" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from - --ignore-failed-read | tar --extract --directory "$root/fairlead"

    attempt "$suite, examples/run.sh" inside "$root" env FAIRLEAD_PORT=17777 FAIRLEAD_TLS_PORT=17778 \
        bash examples/run.sh --check
    attempt "$suite, tests/run.sh, g++" inside "$root" bash tests/run.sh "$@"
    clang=$(inside "$root" sh -c "apt-cache pkgnames clang- | grep -E '^clang-[0-9]+$'" | sort -V | tail -n 1)
    inside "$root" apt-get install --yes --quiet=2 --no-install-recommends "$clang" >/dev/null
    attempt "$suite, tests/run.sh, $clang" inside "$root" bash tests/run.sh --preset clang "$@"
    unmount
done

printf '%s\n' "${results[@]}"
exit "$status"
