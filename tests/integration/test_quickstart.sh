#!/usr/bin/env bash
# deploy/quickstart.sh on what is built: it asks, answers, and leaves nothing behind; --serve leaves the box running, --stop
# nothing. With the default model, where it has been fetched, the capital of France is Paris; else with the small one.
set -uo pipefail
skip() {
    echo "skipped: $*"
    exit 77
}
fail() {
    echo "failed: $*"
    exit 1
}
[ "$(realpath "$TESSERA_BUILD")" = "$(realpath "$TESSERA_SOURCE")/build/release" ] ||
    skip "quickstart builds in build/release, and this is $TESSERA_BUILD"
"$TESSERA_SOURCE/deploy/packages.sh" --missing build >/dev/null || skip "quickstart would install packages"

work=$(mktemp -d)
chmod 755 "$work" # the programs drop root
export SERVE_DIR=$work/serve PORT=0 HTTP3_PORT=0
clean_up() {
    "$TESSERA_SOURCE/deploy/quickstart.sh" --stop >/dev/null 2>&1
    rm -rf "$work"
}
trap clean_up EXIT
pages=/proc/sys/vm/nr_hugepages
pages_before=$(cat "$pages" 2>/dev/null)

if "$TESSERA_SOURCE/deploy/quickstart.sh" "$work/no-such-model" >"$work/out" 2>&1; then
    fail "a model that is not there was taken"
fi
echo "not a model" >"$work/broken.gguf"
if TMPDIR=$work "$TESSERA_SOURCE/deploy/quickstart.sh" "$work/broken.gguf" >"$work/out" 2>&1; then
    fail "a file that is no model was taken"
fi
grep -q "broken.gguf" "$work/out" || fail "the engine did not say what is wrong: $(tail -n 5 "$work/out")"

if [ -f "$TESSERA_SOURCE/models/SmolLM2-135M-Instruct.Q4_1.gguf" ]; then
    TMPDIR=$work timeout 250 "$TESSERA_SOURCE/deploy/quickstart.sh" >"$work/out" 2>&1 || fail "$(tail -n 20 "$work/out")"
    grep -q "The capital of France is Paris" "$work/out" || fail "Paris was not named: $(cat "$work/out")"
else
    TMPDIR=$work QUESTION="list files" timeout 250 "$TESSERA_SOURCE/deploy/quickstart.sh" "$TESSERA_SOURCE/tests/vectors/shell-5m" \
        >"$work/out" 2>&1 || fail "$(tail -n 20 "$work/out")"
fi
for words in "tokens/s" "Memory" "loaded in" "first after" "2 MiB"; do
    grep -q "$words" "$work/out" || fail "nothing is said of '$words': $(cat "$work/out")"
done
left=$(find "$work" -mindepth 1 -maxdepth 1 -name 'tessera-quickstart-*')
[ -z "$left" ] || fail "a folder was left behind: $left"
[ "$(cat "$pages" 2>/dev/null)" = "$pages_before" ] || fail "huge pages were not given back: $pages_before before, $(cat "$pages") now"
cat "$work/out"

# --serve
quickstart=$TESSERA_SOURCE/deploy/quickstart.sh
small=$TESSERA_SOURCE/tests/vectors/shell-5m
for wrong in --sevre "--serve --systemd" "--systemd $small" "$small $small" --http3 "--serve --systemd --http3 $small" "--serve --device" \
    "--serve --device net_tap0" "--serve --http3 --device net_tap0" "--serve --http3 --listen 10.0.0.1:443"; do
    "$quickstart" $wrong >"$work/out" 2>&1
    [ $? = 2 ] || fail "'$wrong' was taken: $(cat "$work/out")"
done
if "$quickstart" --serve "$work/broken.gguf" >"$work/out" 2>&1; then fail "--serve took a file that is no model"; fi
grep -q "broken.gguf" "$work/out" || fail "--serve did not say what is wrong: $(tail -n 5 "$work/out")"
[ ! -e "$SERVE_DIR/engine.sock" ] || fail "a failed --serve left a socket"

http3=()
if "$TESSERA_SOURCE/deploy/packages.sh" --missing bypass >/dev/null; then http3=(--http3); fi
"$quickstart" --serve "${http3[@]}" "$small" >"$work/out" 2>&1 || fail "$(tail -n 20 "$work/out")"
engine=$(cat "$SERVE_DIR/engine.pid")
dataplane=$(cat "$SERVE_DIR/dataplane.pid")
url=$(sed -n 's/^It runs: //p' "$work/out")
[[ $url =~ ^http://127\.0\.0\.1:([0-9]+)$ ]] || fail "no URL: $(cat "$work/out")"
lives() { grep -qs '^State:.[^ZX]' "/proc/$1/status"; } # nobody may have waited for it yet
get() { # PATH: the answer of the dataplane
    exec 4<>"/dev/tcp/127.0.0.1/${BASH_REMATCH[1]}" || fail "nothing listens at $url"
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&4
    timeout 20 cat <&4
    exec 4>&-
}
get /v1/models >"$work/models"
grep -q '^HTTP/1.1 200' "$work/models" && grep -q shell-5m "$work/models" || fail "/v1/models: $(cat "$work/models")"
if command -v curl >/dev/null; then
    curl_line=$(sed -n '/^    curl /,/[^\\]$/p' "$work/out")
    answer=$(timeout 60 bash -c "${curl_line/curl /curl -sS --max-time 50 }") || fail "$curl_line: $answer"
    grep -q '"choices":' <<<"$answer" || fail "$curl_line: $answer"
fi
if [ ${#http3[@]} -gt 0 ]; then
    client_line=$(sed -n '/^    gtlsclient /,/[^\\]$/p' "$work/out")
    answer=$(timeout 60 bash -c "$client_line") || fail "$client_line: $answer"
    grep -q '"choices":' <<<"$answer" || fail "$client_line: $answer"
    bypass=$(cat "$SERVE_DIR/bypass.pid")
fi
for word in curl "--stop" "tessera top"; do
    grep -q -- "$word" "$work/out" || fail "--serve says nothing of $word: $(cat "$work/out")"
done

"$quickstart" --serve "${http3[@]}" "$small" >"$work/out" 2>&1 || fail "again: $(tail -n 20 "$work/out")"
[ ${#http3[@]} = 0 ] || [ "$(cat "$SERVE_DIR/bypass.pid")" = "$bypass" ] || fail "a second --serve --http3 started anew"
grep -q "It runs: $url" "$work/out" || fail "a second --serve changed the URL: $(cat "$work/out")"
[ "$(cat "$SERVE_DIR/engine.pid") $(cat "$SERVE_DIR/dataplane.pid")" = "$engine $dataplane" ] || fail "a second --serve started anew"

# What died is started, what lives stays.
kill -KILL "$dataplane"
while lives "$dataplane"; do sleep 0.1; done
"$quickstart" --serve "$small" >"$work/out" 2>&1 || fail "after a death: $(tail -n 20 "$work/out")"
[ "$(cat "$SERVE_DIR/engine.pid")" = "$engine" ] || fail "the engine was started anew"
dataplane=$(cat "$SERVE_DIR/dataplane.pid")

"$quickstart" --stop >"$work/out" 2>&1 || fail "--stop: $(cat "$work/out")"
for pid in $engine $dataplane ${bypass:-}; do
    if lives "$pid"; then fail "process $pid runs on after --stop"; fi
done
[ ! -e "$SERVE_DIR" ] || fail "--stop left $(ls "$SERVE_DIR")"
[ "$(cat "$pages" 2>/dev/null)" = "$pages_before" ] || fail "huge pages were not given back by --stop: $pages_before before, $(cat "$pages") now"
"$quickstart" --stop >"$work/out" 2>&1 || fail "--stop of nothing: $(cat "$work/out")"
