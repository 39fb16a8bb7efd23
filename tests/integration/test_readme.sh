#!/usr/bin/env bash
# The README's C example is clients/c/examples/ask.c, compiles without a warning against what was built, and runs.
set -uo pipefail
. "$(dirname "$0")/engine.sh"

printed=$(awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$TESSERA_SOURCE/README.md")
[ -n "$printed" ] || fail "README.md has no C example"
diff <(echo "$printed") "$TESSERA_SOURCE/clients/c/examples/ask.c" || fail "the README's example is not clients/c/examples/ask.c"

# As the README says, from an installed libtessera; from the build folder where a sanitizer must be linked along.
strict="-std=c17 -Wall -Wextra -Wpedantic -Werror"
if [ -z "${TESSERA_SANITIZE:-}" ] && command -v pkg-config >/dev/null; then
    cmake --install "$TESSERA_BUILD" --prefix "$work/installed" >"$work/install.log" || fail "cmake --install: $(tail -n 3 "$work/install.log")"
    description=$(find "$work/installed" -name tessera.pc)
    library=$(dirname "$(dirname "$description")")
    flags=$(PKG_CONFIG_PATH=$(dirname "$description") pkg-config --define-prefix --cflags --libs tessera) || fail "pkg-config does not know tessera"
else
    library=$TESSERA_BUILD/clients/c
    flags="-I $TESSERA_SOURCE/clients/c/include -L $library -ltessera ${TESSERA_SANITIZE:+-fsanitize=$TESSERA_SANITIZE}"
fi
# shellcheck disable=SC2086
${CC:-cc} $strict "$TESSERA_SOURCE/clients/c/examples/ask.c" $flags -Wl,-rpath,"$library" -o "$work/ask" ||
    fail "the example does not compile"

if TESSERA_SOCKET=$work/nobody.sock "$work/ask" "Hello" >"$work/out" 2>"$work/err"; then
    fail "the example succeeds where there is no engine"
fi
[ -s "$work/err" ] || [ -s "$work/out" ] || fail "the example does not say that there is no engine"

start_engine
TESSERA_SOCKET=$socket timeout 60 "$work/ask" "Once upon a time" >"$work/out" || fail "the example failed with an engine"
[ -s "$work/out" ] || fail "the example printed nothing"
stop_engine
