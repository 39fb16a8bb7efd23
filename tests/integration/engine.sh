# For the scripts of this folder: a scratch folder ($work), an engine with the small committed model ($socket), and its end.
# Not a test itself; it is sourced.
: "${TESSERA_SOURCE:?}" "${TESSERA_BUILD:?}"
engine=$TESSERA_BUILD/engine/serve/tessera-engine
tessera=$TESSERA_BUILD/clients/cli/tessera
model=$TESSERA_SOURCE/tests/vectors/shell-5m
work=$(mktemp -d "${TMPDIR:-/tmp}/tessera-test-XXXXXX")
socket=$work/run/engine.sock
engine_pid=

# patient SECONDS COMMAND...: longer on a machine that is TESSERA_TEST_SLOW times slower, as all that is waited for
slow=${TESSERA_TEST_SLOW:-1}
patient() { timeout $(($1 * slow)) "${@:2}"; }

fail() {
    echo "failed: $*"
    [ ! -s "$work/engine.err" ] || tail -n 20 "$work/engine.err"
    exit 1
}
skip() {
    echo "skipped: $*"
    exit 77
}
clean_up() {
    [ "$BASHPID" = $$ ] || return 0 # a subshell that dies before it has become a program
    if [ -n "$engine_pid" ] && kill -KILL "$engine_pid" 2>/dev/null; then
        wait "$engine_pid" 2>/dev/null
    fi
    rm -rf "$work"
}
trap clean_up EXIT

# Where there is a user tessera, the engine's folder would be closed to doors that stay who we are.
for_doors=(--user "$(id -un)")

# start_engine options...: returns when it is ready
start_engine() {
    : >"$work/engine.out"
    "$engine" --config /dev/null --model "$model" --socket "$socket" --kv-bytes 64M "$@" >"$work/engine.out" 2>"$work/engine.err" &
    engine_pid=$!
    local waited=0
    until grep -q '^ready' "$work/engine.out"; do
        kill -0 "$engine_pid" 2>/dev/null || fail "the engine did not start"
        [ $((waited++)) -lt $((1200 * slow)) ] || fail "the engine was not ready within two minutes"
        sleep 0.1
    done
}

# stop_engine: asks it to end, and wants that it does so cleanly
stop_engine() {
    kill -TERM "$engine_pid"
    wait "$engine_pid"
    local code=$?
    engine_pid=
    [ "$code" = 0 ] || fail "the engine ended with exit code $code"
}
