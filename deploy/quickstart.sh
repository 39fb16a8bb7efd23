#!/usr/bin/env bash
# From a fresh clone on Debian 12 or 13 to a model's answer: installs packages, builds, fetches a model, starts the
# engine, asks it something through the shared-memory channel, shows the answer with its figures, and stops the engine.
#
#     sudo deploy/quickstart.sh           with the default model, SmolLM2-135M-Instruct
#     sudo deploy/quickstart.sh MODEL     with yours: a .gguf file, or a Hugging Face folder (config.json, safetensors)
#
# May be run again at any time: what is done is not done twice. Without root it does what it can, and says what it
# left out. Under sudo, only packages and huge pages are root's doing; the rest runs as the user who called.
# QUESTION in the environment is asked instead of "What is the capital of France?".
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
question=${QUESTION:-What is the capital of France?}

case ${1:-} in
-h | --help)
    sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
esac
model=
if [ $# -gt 0 ]; then
    model=$(realpath -e -- "$1" 2>/dev/null) || {
        echo "quickstart: there is no file or folder $1" >&2
        exit 2
    }
fi

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n%s\n' "$*"; }
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# Put before a command, this runs it as the user who called sudo, or as we are.
as_user=(env)
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    user_home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_user=(setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups env HOME="$user_home" USER="$SUDO_USER")
fi

engine_pid=
work=
pages_before=
pages_file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
clean_up() {
    if [ -n "$engine_pid" ] && kill "$engine_pid" 2>/dev/null; then
        wait "$engine_pid" 2>/dev/null || true
    fi
    [ -z "$pages_before" ] || echo "$pages_before" >"$pages_file" || true
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step "1. Packages"
groups=(build)
[ -n "$model" ] || groups+=(model)
"$top/deploy/packages.sh" "${groups[@]}" || fail "these packages are needed first"
echo "All there."

step "2. Build"
build=$top/build/release
if [ ! -f "$build/build.ninja" ]; then
    (cd "$top" && "${as_user[@]}" cmake --preset release >/dev/null) || fail "cmake could not configure $build"
fi
log=$(mktemp)
if ! "${as_user[@]}" cmake --build "$build" --target tessera tessera-engine tessera-model >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    fail "the build failed (its last words are above)"
fi
if grep -q 'no work to do' "$log"; then echo "Up to date: $build"; else echo "Built: $build"; fi
rm -f "$log"
engine=$build/engine/serve/tessera-engine
tessera=$build/clients/cli/tessera

step "3. Model"
engine_options=()
if [ -z "$model" ]; then
    model=$("${as_user[@]}" "$top/deploy/fetch-model.sh") || exit 1
    engine_options=(--kv-bytes 256M) # one question needs little, and what is reserved is also faulted in
fi
model_bytes=$(du -sbL "$model" | cut -f1)
echo "$model ($((model_bytes >> 20)) MiB)"

step "4. Huge pages"
# Enough for the weights, the KV cache and the step's buffers; given back at the end.
pages_want=$(((model_bytes + model_bytes / 8) / 2097152 + 256))
mem_available=$(awk '/^MemAvailable:/ { print int($2 / 2048) }' /proc/meminfo)
transparent=$(sed -n 's/.*\[\(.*\)\].*/\1/p' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || true)
if [ "${transparent:-never}" = never ]; then without="4 KiB pages are used"; else without="transparent ones are used"; fi
pages_free=$(cat "${pages_file%/*}/free_hugepages" 2>/dev/null || echo 0)
if [ "$pages_free" -ge "$pages_want" ]; then
    echo "$pages_free of 2 MiB are free already."
elif [ ! -w "$pages_file" ]; then
    echo "Not reserved, as that takes root; $without instead."
elif [ "$mem_available" -lt $((2 * pages_want)) ]; then
    echo "Not reserved, as memory is short ($((2 * mem_available)) MiB available); $without instead."
else
    pages_before=$(cat "$pages_file")
    echo $((pages_before + pages_want - pages_free)) 2>/dev/null >"$pages_file" || true
    pages_free=$(cat "${pages_file%/*}/free_hugepages")
    if [ "$pages_free" -ge "$pages_want" ]; then
        echo "Reserved $pages_want of 2 MiB ($((2 * pages_want)) MiB), until this script ends."
    else
        echo "$pages_before" >"$pages_file"
        pages_before=
        echo "Memory is too scattered for $pages_want of 2 MiB (got $pages_free, given back); $without instead."
    fi
fi

step "5. Engine"
work=$("${as_user[@]}" mktemp -d "${TMPDIR:-/tmp}/tessera-quickstart-XXXXXX")
socket=$work/engine.sock
: >"$work/said"
"${as_user[@]}" "$engine" --model "$model" --socket "$socket" "${engine_options[@]}" >"$work/said" &
engine_pid=$!
until grep -q '^ready' "$work/said"; do
    if ! kill -0 "$engine_pid" 2>/dev/null; then
        engine_pid=
        fail "the engine did not start; what it said is above"
    fi
    sleep 0.1
done
"${as_user[@]}" "$tessera" status --socket "$socket" | sed -n '/^Model/,/^Threads/{/^Threads/d;/./p}'

step "6. $question"
"${as_user[@]}" "$tessera" generate --socket "$socket" --figures "$question"

step "Done in $SECONDS s."
cat <<TXT
To keep an engine running, and to talk with it:
    $engine --model $model --socket ~/.tessera/engine.sock &
    $tessera chat --socket ~/.tessera/engine.sock --wait 30
TXT
