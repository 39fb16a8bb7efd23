#!/usr/bin/env bash
# deploy/quickstart.sh on what is built: it asks, answers, and leaves nothing behind. With the default model, where it has been
# fetched, the capital of France is Paris; else with the small one.
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
trap 'rm -rf "$work"' EXIT
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
