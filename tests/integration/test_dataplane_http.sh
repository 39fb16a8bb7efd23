#!/usr/bin/env bash
# HTTP/1.1 end to end: the engine with the small model, tessera-dataplane, and curl, or raw bytes, in front of it.
set -uo pipefail
. "$(dirname "$0")/engine.sh"
command -v curl >/dev/null || skip "curl is not installed"
dataplane=$TESSERA_BUILD/dataplane/uring/tessera-dataplane
dataplane_pid=
end_dataplane() {
    [ "$BASHPID" = $$ ] || return 0
    [ -z "$dataplane_pid" ] || kill -KILL "$dataplane_pid" 2>/dev/null
    clean_up
}
trap end_dataplane EXIT

command -v openssl >/dev/null || skip "openssl is not installed"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/err" ||
    fail "openssl: $(cat "$work/err")"
start_engine --threads 1 "${for_doors[@]}"
: >"$work/door.out"
"$dataplane" --config /dev/null --user "$(id -un)" --engine "$socket" --listen 127.0.0.1:0 --head-seconds 1 \
    --listen-tls 127.0.0.1:0 --tls-certificate "$work/cert.pem" --tls-key "$work/key.pem" --alt-svc 8443 \
    >"$work/door.out" 2>"$work/door.err" &
dataplane_pid=$!
waited=0
until grep -q '^ready' "$work/door.out"; do
    if ! kill -0 "$dataplane_pid" 2>/dev/null; then
        grep -q io_uring "$work/door.err" && skip "$(tail -n 1 "$work/door.err")"
        fail "the dataplane did not start: $(cat "$work/door.err")"
    fi
    [ $((waited++)) -lt $((600 * slow)) ] || fail "the dataplane was not ready within a minute"
    sleep 0.1
done
url=$(grep -m 1 -o 'http://[0-9.:]*' "$work/door.out")
port=${url##*:}
secure=$(grep -m 1 -o 'https://[0-9.:]*' "$work/door.out")
curl --silent --retry 20 --retry-delay 1 --retry-all-errors --fail "$url/ready" >/dev/null || fail "no engine was connected"

# ask ARGUMENTS...: the answer's head and body in $work/head and $work/body, curl's figures on stdout
ask() {
    curl --silent --show-error --max-time 120 --dump-header "$work/head" --output "$work/body" \
        --write-out '%{http_code} %{http_version} %{size_upload} %{num_connects} ' "$@" 2>"$work/err" || fail "curl $*: $(cat "$work/err")"
}
# want FIGURES ARGUMENTS...: the figures are a pattern
want() {
    local figures=$1 got
    shift
    got=$(ask "$@") || exit 1
    # shellcheck disable=SC2053
    [[ $got == $figures ]] || fail "$got instead of $figures from: curl $* ($(head -c 300 "$work/body"))"
}
has() { grep -qi -- "$2" "$work/$1" || fail "the $1 lacks '$2': $(head -c 600 "$work/$1")"; }
lacks() { ! grep -qi -- "$2" "$work/$1" || fail "the $1 has '$2': $(head -c 600 "$work/$1")"; }

# Small answers; HEAD; HTTP/1.0; a connection that lives on.
want "200 1.1 *" "$url/health"
has head '^date: .* gmt'
has head '^content-length: '
want "200 1.1 *" --head "$url/health"
want "200 *" --http1.0 "$url/health"
has head '^connection: close'
want "200 *" --http1.0 --header 'Connection: keep-alive' "$url/health"
has head '^connection: keep-alive'
want "204 *" --request OPTIONS --request-target '*' "$url"
want "200 * 1 200 * 0 " "$url/health" --output /dev/null "$url/health" # the second one needs no new connection
want "404 *" "$url/nothing"
want "405 *" --request DELETE "$url/health"
has head '^allow: '

# The second door is announced, but not to who could be told anything on the way (RFC 7838, 2.1).
want "200 1.1 *" --insecure "$secure/health"
has head '^alt-svc: h3=":8443"; ma=86400'
want "200 1.1 *" "$url/health"
lacks head '^alt-svc'

# Bodies: of known length, in chunks, announced by Expect.
chat='{"messages":[{"role":"user","content":"list files"}],"max_tokens":8}'
json=(--header 'Content-Type: application/json')
want "200 *" "${json[@]}" --data "$chat" "$url/v1/chat/completions"
has body '"completion_tokens":[1-8],'
want "200 *" "${json[@]}" --header 'Transfer-Encoding: chunked' --data "$chat" "$url/v1/chat/completions"
has body '"completion_tokens":[1-8],'
# document BYTES: the same, with a long string that nobody asks for
document() {
    printf '%s,"ignored":"' "${chat%\}}"
    head -c "$1" /dev/zero | tr '\0' a
    printf '"}'
}
document 3000000 >"$work/large"
document 12000000 >"$work/larger"
want "200 * 300* *" "${json[@]}" --header 'Expect: 100-continue' --data "@$work/large" "$url/v1/chat/completions"
has head '^HTTP/1.1 100 '
want "413 * 0 *" "${json[@]}" --header 'Expect: 100-continue' --expect100-timeout 60 --data "@$work/larger" "$url/v1/chat/completions"
want "413 *" "${json[@]}" --header 'Expect:' --data "@$work/larger" "$url/v1/chat/completions"
want "413 *" "${json[@]}" --header 'Expect:' --header 'Transfer-Encoding: chunked' --data "@$work/larger" "$url/v1/chat/completions"
want "417 *" "${json[@]}" --header 'Expect: wonders' --data "$chat" "$url/v1/chat/completions"

# Streams: in chunks, and to HTTP/1.0 until the connection closes.
stream=${chat%\}},\"stream\":true\}
want "200 *" "${json[@]}" --data "$stream" "$url/v1/chat/completions"
has head '^transfer-encoding: chunked'
has body '^data: \[DONE\]'
want "200 *" --http1.0 "${json[@]}" --data "$stream" "$url/v1/chat/completions"
lacks head '^transfer-encoding'
has head '^connection: close'
has body '^data: \[DONE\]'

# raw STATUS...: what stdin says is answered so, and then the connection ends
raw() {
    local got
    exec 8<>"/dev/tcp/127.0.0.1/$port" || fail "no connection"
    cat >&8 2>/dev/null
    got=$(patient 60 cat <&8 | tr -d '\r' | grep -a -o 'HTTP/1.1 [0-9][0-9]*' | cut -d ' ' -f 2 | tr '\n' ' ')
    exec 8>&-
    [ "$got" = "$* " ] || fail "$got instead of $*"
}
host='Host: 127.0.0.1\r\n'
last="GET /health HTTP/1.1\r\n${host}Connection: close\r\n\r\n"

# In order, whatever takes longer.
{
    printf 'POST /v1/chat/completions HTTP/1.1\r\n%bContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%s' "$host" ${#stream} "$stream"
    printf 'GET /nothing HTTP/1.1\r\n%b\r\n%b' "$host" "$last"
} | raw 200 404 200
for ((i = 0; i < 500; i++)); do printf 'GET /health HTTP/1.1\r\n%b\r\n' "$host"; done >"$work/many"
printf '%b' "$last" | cat "$work/many" - | raw $(printf '200 %.0s' {1..501})

# Nothing behind a doubtful request is taken for one.
printf 'POST /health HTTP/1.1\r\n%bContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%b' "$host" "$last" | raw 400
printf 'POST /health HTTP/1.1\r\n%bContent-Length: 0\r\nContent-Length: 44\r\n\r\n%b' "$host" "$last" | raw 400
printf 'GET /health HTTP/1.1\r\n%bX: a\r\n b\r\n\r\n%b' "$host" "$last" | raw 400
printf 'GET /health HTTP/1.1\n%b\n%b' "$host" "$last" | raw 400
printf '\026\003\001\002\000\001\000' | raw 400
printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' | raw 505
{
    printf 'GET /health HTTP/1.1\r\n%b' "$host"
    for ((i = 0; i < 10000; i++)); do printf 'X-%d: y\r\n' $i; done
    printf '\r\n'
} | raw 431
{
    printf 'GET /'
    head -c 9000 /dev/zero | tr '\0' a
} | raw 414
printf 'GET /health HT' | raw 408

want "200 *" "$url/health"
kill -TERM "$dataplane_pid"
wait "$dataplane_pid" || fail "the dataplane ended with exit code $?"
dataplane_pid=
"$dataplane" --config /dev/null --listen 127.0.0.1:0 --alt-svc 8443 2>"$work/err" && fail "an alternative is announced without TLS"
grep -q -- '--alt-svc is said over TLS only: give --listen-tls' "$work/err" || fail "instead: $(cat "$work/err")"
stop_engine
echo "passed"
