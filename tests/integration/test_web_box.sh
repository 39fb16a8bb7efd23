#!/usr/bin/env bash
# The box's page in a real Chromium, served by the real dataplane before a real engine: see web/check_box.py.
set -uo pipefail
. "$TESSERA_SOURCE/tests/integration/web/chromium.sh"
. "$TESSERA_SOURCE/tests/integration/engine.sh"
door_pid=
trap '[ -z "$door_pid" ] || kill "$door_pid"; clean_up' EXIT

better=$TESSERA_SOURCE/models/SmolLM2-135M-Instruct.Q4_1.gguf
[ ! -f "$better" ] || model=$better
start_engine --threads 1
: >"$work/door.out"
"$TESSERA_BUILD/dataplane/uring/tessera-dataplane" --engine "$socket" --listen 127.0.0.1:0 --config /dev/null --user "$(id -un)" \
    >"$work/door.out" 2>"$work/door.err" &
door_pid=$!
until grep -q '^ready' "$work/door.out"; do
    kill -0 "$door_pid" 2>/dev/null || fail "the dataplane did not start: $(cat "$work/door.err")"
    sleep 0.1
done
"$python" "$web/check_box.py" "$(grep -o -m1 'http://[^ ]*' "$work/door.out" | sed 's:/*$:/:')" "$pictures" "$@" || fail "see above"
