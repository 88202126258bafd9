#!/usr/bin/env bash
# The proof of kv_store: redis-cli and redis-benchmark talk to it, over TCP and over TLS, and take it for a Redis.
#
#   kv_store.sh PROGRAM
# shellcheck disable=SC2016 # dollars are the protocol's
set -euo pipefail
# shellcheck source=tests/examples/example.sh
. "$(dirname "${BASH_SOURCE[0]}")/example.sh"

use_program "$@"
need redis-cli redis-benchmark openssl
tls=() # options for clients

cli() # ARGUMENT...
{
    timeout 20 redis-cli -h 127.0.0.1 -p "$port" ${tls[@]+"${tls[@]}"} "$@" 2>&1
}

expect() # REPLY ARGUMENT...
{
    local reply=$1
    shift
    same "$*" "$reply" "$(cli "$@")"
}

# --- commands ----------------------------------------------------------------------------------------------------

commands()
{
    local integer="ERR value is not an integer or out of range"
    expect PONG PING
    expect "hi there" ping "hi there"
    expect "ERR wrong number of arguments for 'ping' command" ping a b
    expect "some text" echo "some text"
    expect OK set key value
    expect value GET key
    expect "" get absent
    expect "ERR wrong number of arguments for 'get' command" get
    expect "ERR wrong number of arguments for 'set' command" SET key
    expect "ERR unknown command 'nope', with args beginning with: 'a' 'b' " nope a b
    expect "ERR unknown command 'HELLO', with args beginning with: '3' " HELLO 3
    expect "ERR syntax error" set key value sometimes

    expect "" set key other nx
    expect value set key third xx get
    expect "" set absent value xx
    expect third get key
    expect "ERR syntax error" set key value nx xx
    expect "ERR syntax error" set key value ex 10 keepttl
    expect "$integer" set key value ex soon
    expect "ERR invalid expire time in 'set' command" set key value ex 0
    expect "ERR invalid expire time in 'set' command" set key value px 9223372036854775807

    expect 1 incr number
    expect 2 incr number
    expect "$integer" incr key
    expect OK set number 9223372036854775807
    expect "ERR increment or decrement would overflow" incr number

    expect OK mset one 1 two 2 three 3
    expect $'1\n\n3' mget one absent three
    expect "ERR wrong number of arguments for 'mset' command" mset one 1 two
    expect 3 exists one two absent one
    expect 2 del one two absent
    expect 0 exists one two

    expect -1 ttl key
    expect -2 ttl absent
    expect 0 expire absent 100
    expect 1 expire key 100
    expect 100 ttl key
    expect OK set key value keepttl
    [ "$(cli ttl key)" -gt 0 ] || fail "KEEPTTL loses the expiry"
    expect OK set key value
    expect -1 ttl key
    expect "$integer" expire key soon
    expect 1 expire key -1
    expect 0 exists key

    expect OK select 0
    expect "ERR DB index is out of range" select 16
    expect OK client setname me
    expect save config get save
    expect "ERR unknown subcommand 'nope'. Try CONFIG HELP." config nope
    [ "$(cli command count)" -gt 15 ] || fail "COMMAND COUNT"
    cli command | grep -x mget >/dev/null || fail "COMMAND does not list mget"
    info_says 'db0:keys=[0-9]+,expires=[0-9]+' || fail "INFO has no keyspace: $(cli info)"
    expect OK quit

    # One megabyte is the most, and comes back as it went.
    head -c 1048576 /dev/urandom >"$work/megabyte"
    same "a value of a megabyte" OK "$(cli -x set large <"$work/megabyte")"
    cli get large >"$work/received"
    cmp -n 1048576 "$work/received" "$work/megabyte" || fail "a value of a megabyte changes on its way"
}

is_gone() # KEY
{
    [ -z "$(cli get "$1")" ]
}

info_says() # LINE, a regular expression
{
    cli info | tr -d '\r' | grep -Ex "$1" >/dev/null # reads all: -q would leave the others writing
}

# --- a terminal, and what is wrong -------------------------------------------------------------------------------

raw_bytes()
{
    same "inline commands" "+PONG|+OK|\$5|a b\"c|+OK|" \
        "$(raw 'ping\r\n\r\n  set  text "a \\x62\\"c"\nGET text\r\nquit\r\nping\r\n')"
    same "pipelining" "+OK|:2|\$1|2|*2|\$1|2|\$-1|+OK|" \
        "$(raw '*3\r\n$3\r\nset\r\n$1\r\nn\r\n$1\r\n1\r\nincr n\r\n*0\r\nget n\r\nmget n nil\r\nquit\r\n')"
    local error="-ERR Protocol error:"
    same "a count that is none" "+PONG|$error invalid multibulk length|" "$(raw 'ping\r\n*x\r\nping\r\n')"
    same "too many arguments" "$error invalid multibulk length|" "$(raw '*99999999\r\n')"
    same "no dollar" "$error expected '\$', got 'x'|" "$(raw '*1\r\nx')"
    same "a length below zero" "$error invalid bulk length|" "$(raw '*1\r\n$-1\r\n')"
    same "a bulk above a megabyte" "$error invalid bulk length|" "$(raw '*2\r\n$3\r\nget\r\n$1048577\r\n')"
    same "a length that is wrong" "$error expected CRLF behind a bulk|" "$(raw '*1\r\n$3\r\nping\r\n')"
    same "open quotes" "$error unbalanced quotes in request|" "$(raw 'set a "b\r\n')"
    local long
    long=$(printf '%070000d' 0)
    same "a line without an end" "$error too big inline request|" "$(raw "$long")"
    same "an endless count" "$error too big mbulk count string|" "$(raw "*$long")"
    same "an endless length" "$error too big bulk count string|" "$(raw "*1\r\n\$$long")"
    local half
    half=$(printf '%01000000d' 0)
    same "a command above two megabytes" "$error too big request|" \
        "$(raw "*4\r\n\$1000000\r\n$half\r\n\$1000000\r\n$half\r\n\$100000\r\n")"
}

# --- many at once ------------------------------------------------------------------------------------------------

mass_insert()
{
    local said
    said=$(repeat 20000 '*3\r\n$3\r\nSET\r\n$8\r\nkey%d\r\n$5\r\n%d\r\n' | cli --pipe)
    grep -q "errors: 0, replies: 20000" <<<"$said" || fail "--pipe: $said"
    expect $'10000\n29999' mget key10000 key29999
}

benchmark()
{
    local said name
    said=$(timeout 100 redis-benchmark -h 127.0.0.1 -p "$port" ${tls[@]+"${tls[@]}"} \
        -t ping,set,get,incr,mset -P 16 -n 20000 -q 2>&1) || fail "redis-benchmark: status $?: $said"
    said=$(tr '\r' '\n' <<<"$said")
    for name in PING_INLINE PING_MBULK SET GET INCR "MSET \(10 keys\)"; do
        grep -Eq "^$name: [1-9][0-9.]* requests per second" <<<"$said" || fail "redis-benchmark $name: $said"
    done
    ! grep -q "Error from server" <<<"$said" || fail "redis-benchmark: $said"
}

# Eight connections, several threads, one key: not one increment may be lost.
count_together()
{
    local one counters=() counter
    expect OK set together 0
    for one in 1 2 3 4 5 6 7 8; do
        repeat 20000 'incr together\r\n' | cli --pipe >"$work/together.$one" &
        counters+=("$!")
    done
    for counter in "${counters[@]}"; do
        wait "$counter" || fail "--pipe of INCR: $(cat "$work"/together.*)"
    done
    expect 160000 get together
}

# --- time, memory, the end ---------------------------------------------------------------------------------------

expiry()
{
    expect OK set short value px 100
    poll is_gone short
    expect -2 ttl short
    # Nobody asks for these any more.
    repeat 2000 'set forgotten%d value px 100\r\n' | cli --pipe >"$work/forgotten" || fail "$(cat "$work/forgotten")"
    poll info_says 'db0:keys=[0-9]+,expires=0'
}

memory()
{
    local value
    value=$(printf '%0100d' 0)
    repeat 5000 "set filler%d $value\r\n" | cli --pipe >"$work/full" || true
    grep -q "replies: 5000" "$work/full" || fail "a full store: $(cat "$work/full")"
    expect "OOM command not allowed when used memory > 'maxmemory'." set one "$value$value$value$value$value"
    expect "OOM command not allowed when used memory > 'maxmemory'." mset one "$value$value$value$value$value"
    expect "$value" get filler10000
    local used
    used=$(cli info memory | tr -d '\r' | sed -n 's/^used_memory://p')
    [[ $used -le 300000 && $used -gt 200000 ]] || fail "used_memory is $used of 300000"
    repeat 5000 'del filler%d\r\n' | cli --pipe >"$work/deleted" || fail "$(cat "$work/deleted")"
    info_says used_memory:0 || fail "memory is left behind: $(cli info)"
    expect OK set one "$value"
}

# What had arrived before the signal is answered, and the rest of a command is waited for.
drain()
{
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$port" 4<>"/dev/tcp/127.0.0.1/$port"
    printf 'ping\r\n' >&3
    printf 'ping\r\n' >&4
    read -r -t 20 answer <&3 || fail "no answer before the drain"
    read -r -t 20 answer <&4 || fail "no answer before the drain"
    printf '*1\r\n$4\r\npi' >&4
    repeat 5000 'incr last\r\n' >&3
    terminate
    same "replies in a drain" ":5000" "$(timeout 20 cat <&3 | tr -d '\r' | tail -n 1)"
    printf 'ng\r\n' >&4
    read -r -t 20 answer <&4 || fail "a command that had begun is not answered in a drain"
    same "a command that had begun" +PONG "${answer%$'\r'}"
    exec 3>&- 4>&-
}

start plain --threads 2
commands
raw_bytes
mass_insert
count_together
expiry
benchmark
drain
ended plain

start small --maxmemory 300000
memory
terminate
ended small

make_certificate
start tls --tls "$work/certificate.pem" "$work/key.pem"
if cli --tls --cacert "$work/certificate.pem" ping | grep -i "unrecognized option" >/dev/null; then
    skip "a redis-cli with TLS is not installed"
fi
tls=(--tls --cacert "$work/certificate.pem")
commands
mass_insert
benchmark
terminate
ended tls
echo "all held ($SECONDS s)"
