#!/usr/bin/env bash
# Builds the echo examples and lets strangers talk to them, on a bare Debian or Ubuntu too: what is missing is
# installed by apt.
#
#   bash examples/run.sh            one conversation over TCP, one over TLS, then serves both until Ctrl-C
#   bash examples/run.sh --check    stops after the conversations; status 0 only if both echoes were exact
#   bash examples/run.sh --help     prints this and changes nothing
#
# Listens on 127.0.0.1:7777 (TCP) and 127.0.0.1:7778 (TLS); FAIRLEAD_PORT and FAIRLEAD_TLS_PORT choose others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=cmake/bootstrap.sh
. cmake/bootstrap.sh
usage_if_asked "$@"

plain_port=${FAIRLEAD_PORT:-7777}
tls_port=${FAIRLEAD_TLS_PORT:-7778}
check=no
case ${1:-} in
"") ;;
--check) check=yes ;;
*)
    print_usage >&2
    exit 2
    ;;
esac

# --- are the ports free? -----------------------------------------------------------------------------------------

bootstrap build

for port in "$plain_port" "$tls_port"; do
    python3 - "$port" <<'PYTHON' || exit 1
import socket, sys
port = int(sys.argv[1])
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"127.0.0.1:{port} cannot be used ({error.strerror}): is another server running there? "
                 "FAIRLEAD_PORT and FAIRLEAD_TLS_PORT choose other ports.")
PYTHON
done

# --- build -------------------------------------------------------------------------------------------------------

say "building the examples"
work=$(mktemp -d)
servers=() # process ids, ours alone
trap 'end_servers KILL; rm -rf "$work"' EXIT

end_servers() # SIGNAL
{
    local pid
    for pid in ${servers[@]+"${servers[@]}"}; do
        kill -s "$1" "$pid" 2>/dev/null || true
    done
}

# A compiler newer than ours may have a new warning; that must not keep anybody from seeing the library run.
cmake --preset release -DFAIRLEAD_BUILD_TESTS=OFF -DFAIRLEAD_WERROR=OFF >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
cmake --build build/release --parallel "$(build_jobs)" --target fairlead_example_echo fairlead_example_tls_echo

# --- start -------------------------------------------------------------------------------------------------------

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/certificate.pem" 2>"$work/openssl.log" || {
    cat "$work/openssl.log"
    exit 1
}

# Job control gives every background job a process group of its own, so that Ctrl-C reaches this script alone and
# the servers are told once, by it.
set -m

view() # NAME PID LOG: what the server prints, until it has ended
{
    local line alive=yes
    while [ "$alive" = yes ]; do
        kill -0 "$2" 2>/dev/null || alive=no # one more look: what it said last
        while IFS= read -r line || [ -n "$line" ]; do
            printf '[%s] %s\n' "$1" "$line"
        done
        [ "$alive" = no ] || sleep 0.1
    done <"$3"
}

start() # NAME COMMAND...: runs the server, shows what it prints, and returns once it listens
{
    local name=$1 log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 &
    local pid=$!
    servers+=("$pid")
    view "$name" "$pid" "$log" &
    viewers+=("$!")

    local try
    for try in $(seq 100); do
        if grep -q "listening on" "$log"; then
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not begin to listen (try $try of 100)" >&2
    exit 1
}

viewers=()
start echo build/release/examples/echo "127.0.0.1:$plain_port"
start tls_echo build/release/examples/tls_echo "$work/certificate.pem" "$work/key.pem" "127.0.0.1:$tls_port"

# --- talk --------------------------------------------------------------------------------------------------------

show() # DIRECTION FILE
{
    sed "s/^/    $1 /" "$2"
}

compare() # WHAT
{
    show '>' "$work/sent"
    show '<' "$work/received"
    if cmp -s "$work/sent" "$work/received"; then
        say "$1: the echo is exact"
    else
        say "$1: THE ECHO DIFFERS"
        exact=no
    fi
}

exact=yes

say "a python3 client on 127.0.0.1:$plain_port"
printf 'hello over TCP,\nfrom a plain socket\n' >"$work/sent"
python3 - "$plain_port" "$work/sent" "$work/received" <<'PYTHON' || exact=no
import socket, sys
port, sent, received = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
    with open(sent, "rb") as file:
        client.sendall(file.read())
    client.shutdown(socket.SHUT_WR)  # the server sees the end and finishes too
    with open(received, "wb") as file:
        while data := client.recv(4096):
            file.write(data)
PYTHON
compare "TCP"

at_most() # SECONDS COMMAND...: where there is a command to say so
{
    if has timeout; then
        timeout "$@"
    else
        shift
        "$@"
    fi
}

# shellcheck disable=SC2094 # looking at the reply while it grows is the point
converse_over_tls()
{
    {
        cat "$work/sent"
        # s_client leaves when its input ends, so the input ends when the echo is complete, or after ten seconds.
        for _ in $(seq 100); do
            [ "$(wc -c <"$work/received")" -lt "$(wc -c <"$work/sent")" ] || break
            sleep 0.1
        done
    } | at_most 20 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile "$work/certificate.pem" \
        -servername localhost -connect "127.0.0.1:$tls_port" >"$work/received" 2>"$work/s_client.log"
}

say "openssl s_client on 127.0.0.1:$tls_port"
printf 'hello over TLS,\nfrom openssl s_client\n' >"$work/sent"
: >"$work/received"
converse_over_tls || {
    exact=no
    cat "$work/s_client.log"
}
compare "TLS"

# --- serve, and stop ---------------------------------------------------------------------------------------------

stop_servers() # tells each server once and waits for its last line
{
    local pid status=0
    end_servers INT
    for _ in $(seq 400); do
        local alive=no
        for pid in "${servers[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then alive=yes; fi
        done
        [ "$alive" = yes ] || break
        sleep 0.1
    done
    if [ "$alive" = yes ]; then
        echo "a server has not stopped within 40 seconds: killed" >&2
        end_servers KILL
        status=1
    fi
    for pid in "${servers[@]}"; do
        wait "$pid" || status=1
    done
    servers=()
    for pid in "${viewers[@]}"; do
        wait "$pid" || true
    done
    return $status
}

all_alive()
{
    local pid
    for pid in "${servers[@]}"; do
        kill -0 "$pid" 2>/dev/null || return 1
    done
}

if [ "$check" = no ]; then
    cat <<TEXT

-- serving; talk to it from another terminal:
     nc 127.0.0.1 $plain_port
     openssl s_client -quiet -CAfile $work/certificate.pem -servername localhost -connect 127.0.0.1:$tls_port
   Ctrl-C stops.

TEXT
    stopping=no
    trap 'stopping=yes' INT TERM HUP
    while [ "$stopping" = no ] && all_alive; do
        sleep 0.2
    done
    trap '' INT TERM HUP
    [ "$stopping" = yes ] || say "a server has ended by itself"
fi

say "stopping"
stop_servers || exact=no
for name in echo tls_echo; do
    grep -q "^drained" "$work/$name.log" || {
        echo "$name ended without its drain report" >&2
        exact=no
    }
done
[ "$exact" = yes ]
