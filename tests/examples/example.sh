# What the proofs of the examples that are shell scripts share: a server of one's own, and an end that is always
# reached. To be sourced, with errexit, nounset and pipefail set.
# shellcheck shell=bash

case ${1:-} in
-h | --help)
    awk 'NR > 1 { if ($0 !~ /^#/) exit; if ($0 !~ /shellcheck/) { sub(/^# ?/, ""); print } }' "$0"
    exit 0
    ;;
esac

work=$(mktemp -d)
servers=() # process ids, ours alone
trap 'end_servers; rm -rf "$work"' EXIT

end_servers()
{
    local pid
    for pid in ${servers[@]+"${servers[@]}"}; do
        kill -KILL "$pid" 2>/dev/null || true
    done
}

fail() # WHAT
{
    echo "FAILED: $1" >&2
    exit 1
}

skip() # WHY
{
    echo "skipped: $1"
    exit 77
}

use_program() # the arguments of the proof: sets program
{
    if [ $# -ne 1 ] || [ ! -x "$1" ]; then
        echo "usage: $0 PROGRAM" >&2
        exit 1
    fi
    program=$1
}

need() # TOOL...
{
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
}

same() # WHAT EXPECTED GOT
{
    [ "$2" = "$3" ] || fail "$1: expected $(printf %q "$2"), got $(printf %q "$3")"
}

poll() # COMMAND...: until it succeeds, for ten seconds
{
    local try
    for try in $(seq 100); do
        if "$@"; then
            return 0
        fi
        sleep 0.1
    done
    fail "not within $try tries: $*"
}

# Runs the program on a free port; sets port and server, and logs into $work/NAME.log.
start() # NAME OPTION...
{
    local log=$work/$1.log
    shift
    : >"$log"
    "$program" 127.0.0.1:0 "$@" >"$log" 2>&1 &
    server=$!
    servers+=("$server")
    poll grep -q "^listening on" "$log"
    # shellcheck disable=SC2034 # for whoever sources this
    port=$(sed -n '/^listening on/{s/.*://p;q}' "$log")
}

terminate() # once: a second signal means "at once"
{
    kill -TERM "$server"
}

ended() # NAME: after `terminate`; it must end in order
{
    local status=0
    wait "$server" || status=$?
    servers=()
    [ "$status" = 0 ] || fail "$1: exit code $status: $(tail -n 5 "$work/$1.log")"
    grep -q "^drained" "$work/$1.log" || fail "$1 ended without its drain report"
}

make_certificate() # $work/certificate.pem and $work/key.pem, for localhost
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$work/key.pem" -out "$work/certificate.pem" 2>"$work/openssl.log" || fail "$(cat "$work/openssl.log")"
}

raw() # BYTES, as printf takes them: the replies to them, until the server closes; one line, CR as they come
{
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    # shellcheck disable=SC2059
    printf "$1" >&3
    timeout 20 cat <&3 | tr -d '\r' | tr '\n' '|'
    exec 3>&-
}

repeat() # COUNT FORMAT: with the number for a %d
{
    awk -v count="$1" -v format="$2" 'BEGIN { for (i = 10000; i < 10000 + count; ++i) printf format, i, i }'
}
