#!/usr/bin/env bash
# HTTP/3 end to end: the engine with the small model, tessera-bypass on a kernel's UDP socket, and ngtcp2's client.
set -uo pipefail
. "$(dirname "$0")/engine.sh"
bypass=$TESSERA_BUILD/dataplane/bypass/tessera-bypass
[ -x "$bypass" ] || skip "tessera-bypass was not built: ngtcp2 or nghttp3 is missing"
command -v gtlsclient >/dev/null || skip "gtlsclient is not installed (ngtcp2-client)"
command -v openssl >/dev/null || skip "openssl is not installed"
bypass_pid=
end_bypass() {
    [ "$BASHPID" = $$ ] || return 0
    [ -z "$bypass_pid" ] || kill -KILL "$bypass_pid" 2>/dev/null
    clean_up
}
trap end_bypass EXIT

# make_certificate: in $work/tls, replacing what is there
make_certificate() {
    mkdir -p "$work/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
        -keyout "$work/tls/key.pem" -out "$work/tls/cert.pem" 2>"$work/err" || fail "openssl: $(cat "$work/err")"
}
# start_bypass OPTIONS...: at $port
start_bypass() {
    : >"$work/door.out"
    "$bypass" --config /dev/null --user "$(id -un)" --engine "$socket" --listen 127.0.0.1:0 \
        --tls-certificate "$work/tls/cert.pem" --tls-key "$work/tls/key.pem" "$@" >"$work/door.out" 2>"$work/door.err" &
    bypass_pid=$!
    local waited=0
    until grep -q '^ready' "$work/door.out"; do
        kill -0 "$bypass_pid" 2>/dev/null || fail "the door did not start: $(cat "$work/door.err")"
        [ $((waited++)) -lt $((600 * slow)) ] || fail "the door was not ready within a minute"
        sleep 0.1
    done
    port=$(grep -m 1 -o '[0-9]*$' "$work/door.out")
}
stop_bypass() {
    kill -TERM "$bypass_pid"
    wait "$bypass_pid"
    local code=$?
    bypass_pid=
    [ "$code" = 0 ] || fail "the door ended with exit code $code: $(cat "$work/door.err")"
}

# ask OPTIONS... PATH...: what gtlsclient says goes to $work/said, bodies to $work/got/NAME
ask() {
    rm -rf "$work/got" && mkdir "$work/got"
    local options=() urls=()
    while [ $# -gt 0 ] && [[ $1 == -* ]]; do options+=("$1") && shift; done
    for path in "$@"; do urls+=("https://localhost:$port$path"); done
    patient 60 gtlsclient --exit-on-all-streams-close --no-quic-dump --no-http-dump --download="$work/got" "${options[@]}" 127.0.0.1 "$port" \
        "${urls[@]}" >"$work/said" 2>&1 || fail "gtlsclient $*: $(tail -n 5 "$work/said")"
}
has() { grep -aq -- "$2" "$work/$1" || fail "$1 lacks '$2': $(tail -c 800 "$work/$1")"; }

# says TEXT: the door's log does, soon
says() {
    local waited=0
    until grep -q -- "$1" "$work/door.err"; do
        [ $((waited++)) -lt $((300 * slow)) ] || fail "the door does not say '$1': $(cat "$work/door.err")"
        sleep 0.1
    done
}

# reset_token: of a connection that the door does not know (RFC 9000, 10.3); it follows from the secret
reset_token() {
    python3 - "$port" <<'EOF' || fail "no stateless reset came"
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(10)
    s.sendto(b"\x40\x00" + b"fifteen bytes ." + bytes(50), ("127.0.0.1", int(sys.argv[1])))
    print(s.recv(2000)[-16:].hex())
EOF
}

make_certificate
start_engine --threads 1 "${for_doors[@]}"
start_bypass --retry-from 100 --queues 2 --capture "$work/dropped.pcap" --secret "$work/secret"
[ "$(stat -c '%a %s' "$work/secret")" = '600 32' ] || fail "the secret is not of 32 bytes for its owner: $(ls -l "$work/secret")"
cp "$work/secret" "$work/secret.first"
token=$(reset_token) || exit 1

# Small answers, an error, several at once, after loss.
ask /health
has said ':status: 200'
has said 'server: tessera'
waited=0
until ask /ready && grep -q ':status: 200' "$work/said"; do
    [ $((waited++)) -lt $((100 * slow)) ] || fail "no engine was connected"
    sleep 0.1
done
ask /nothing
has said ':status: 404'
ask -n100 /v1/models
[ "$(grep -c ':status: 200' "$work/said")" = 100 ] || fail "of 100 requests $(grep -c ':status: 200' "$work/said") were answered"
ask --tx-loss=0.1 --rx-loss=0.1 -n20 /v1/models
[ "$(grep -c ':status: 200' "$work/said")" = 20 ] || fail "with loss, of 20 requests $(grep -c ':status: 200' "$work/said") were answered"

# Completions, whole and as a stream.
printf '%s' '{"messages":[{"role":"user","content":"list files"}],"max_tokens":8}' >"$work/chat"
ask --http-method=POST --data="$work/chat" /v1/chat/completions
has said ':status: 200'
has got/completions '"completion_tokens":[1-8],'
printf '%s' '{"messages":[{"role":"user","content":"list files"}],"max_tokens":8,"stream":true}' >"$work/chat"
ask --http-method=POST --data="$work/chat" --tx-loss=0.05 --rx-loss=0.05 /v1/chat/completions
has said 'content-type: text/event-stream'
has got/completions '^data: \[DONE\]'

# A new address and new keys in the midst of a connection; another version; figures.
ask --change-local-addr=20ms --delay-stream=60ms /health
has said ':status: 200'
ask --change-local-addr=20ms --nat-rebinding --delay-stream=60ms /health
has said ':status: 200'
ask --key-update=20ms --delay-stream=60ms /health
has said ':status: 200'
ask --version=v2 /health
has said ':status: 200'
ask /metrics
has got/metrics '^tessera:door_connections_total [1-9]'
has got/metrics '^tessera:door_datagrams_dropped_total{cause="malformed"} '
has got/metrics '^tessera:door_packets_dropped_total{cause="checksum"} 0'
has got/metrics '^tessera:door_packets_received_total [1-9]'
has got/metrics '^tessera:door_token_work_seconds_count{woken="yes"} [1-9]'
has got/metrics '^tessera:door_token_seconds_count{woken="yes"} [1-9]'
has got/metrics '^tessera:door_request_seconds_count [1-9]'
has got/metrics '^tessera:door_bell_seconds_count [1-9]'

# What was dropped, on demand; the next time it replaces what there was.
printf 'grabbed' >"/dev/udp/127.0.0.1/$port"
printf '\300no packet of QUIC' >"/dev/udp/127.0.0.1/$port"
ask /health
kill -USR1 "$bypass_pid"
says 'dropped packets that are kept have been written'
[ "$(head -c 4 "$work/dropped.pcap" | od -An -tx1 | tr -d ' ')" = 4d3cb2a1 ] || fail "no pcap file"
has dropped.pcap grabbed
has dropped.pcap 'no packet of QUIC'
before=$(stat -c %s "$work/dropped.pcap")
: >"$work/door.err"
kill -USR1 "$bypass_pid"
says 'dropped packets that are kept have been written'
[ "$(stat -c %s "$work/dropped.pcap")" = "$before" ] || fail "a second capture has $(stat -c %s "$work/dropped.pcap") bytes instead of $before"

# A new certificate, seen by itself and at a signal, then a door that is closing.
make_certificate
says 'the certificate has changed and was read again'
kill -HUP "$bypass_pid"
says 'keys and certificates have been read again'
ask /health
has said ':status: 200'
stop_bypass

# Every client must show its address.
start_bypass --retry-from 0 --spin --secret "$work/secret" --congestion bbr
cmp "$work/secret" "$work/secret.first" || fail "the secret was made anew"
[ "$(reset_token)" = "$token" ] || fail "a connection of before is not reset by the same token"
ask /health
has said ':status: 200'
ask /metrics
has got/metrics '^tessera:door_stateless_total{kind="retry"} [1-9]'
stop_bypass

# Options that do not go together are named.
"$bypass" --config /dev/null --listen 0.0.0.0:0 --tls-certificate x --tls-key y 2>"$work/err" && fail "an open door without keys"
has err '0.0.0.0:0 is open to other machines'
"$bypass" --config /dev/null 2>"$work/err" && fail "a door without a certificate"
has err 'give --tls-certificate'
stop_engine
echo "HTTP/3 by gtlsclient: answers, streams, loss, migration, key update, reload, two queues, capture, secret"
