#!/usr/bin/env bash
# The README's C example is clients/c/examples/ask.c, compiles without a warning against what was built, and runs; so do the
# commands of "Over HTTP/3".
set -uo pipefail
. "$(dirname "$0")/engine.sh"

printed=$(awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$TESSERA_SOURCE/README.md")
[ -n "$printed" ] || fail "README.md has no C example"
diff <(echo "$printed") "$TESSERA_SOURCE/clients/c/examples/ask.c" || fail "the README's example is not clients/c/examples/ask.c"

command -v "${CC:-cc}" >/dev/null || skip "no C compiler"
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

start_engine "${for_doors[@]}"
TESSERA_SOCKET=$socket patient 60 "$work/ask" "Once upon a time" >"$work/out" || fail "the example failed with an engine"
[ -s "$work/out" ] || fail "the example printed nothing"

# "Over HTTP/3": the client's line asks a door that stands at another port, doctor's and the door's are taken as they are.
bypass=$TESSERA_BUILD/dataplane/bypass/tessera-bypass
if [ -x "$bypass" ] && command -v gtlsclient >/dev/null && command -v openssl >/dev/null; then
    lines=$(awk '/^## / { inside = /^## Over HTTP\/3/ } inside && /^```sh$/ { code = 1; next } /^```$/ { code = 0 } code && inside' "$TESSERA_SOURCE/README.md" |
        sed -e ':a; /\\$/{N; s/\\\n *//; ba}')
    line() { grep -m 1 "^$1 " <<<"$lines" || fail "README.md's part on HTTP/3 has no line of: $1"; }
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -keyout "$work/key.pem" -out "$work/certificate.pem" 2>"$work/err" || fail "openssl: $(cat "$work/err")"
    "$bypass" --config /dev/null --user "$(id -un)" --engine "$socket" --listen 127.0.0.1:0 --quiet \
        --tls-certificate "$work/certificate.pem" --tls-key "$work/key.pem" >"$work/door" 2>"$work/door.err" &
    bypass_pid=$!
    trap '[ "$BASHPID" != $$ ] || kill -KILL $bypass_pid 2>/dev/null; clean_up' EXIT
    until grep -q '^ready' "$work/door"; do
        kill -0 $bypass_pid 2>/dev/null || fail "the second door did not start: $(cat "$work/door.err")"
        sleep 0.1
    done
    port=$(grep -m 1 -o '[0-9]*$' "$work/door")
    command=$(line gtlsclient)
    (cd "$work" && patient 60 bash -c "${command//8443/$port}") >"$work/out" || fail "$command"
    grep -q '"object":"list"' "$work/out" || fail "$command: $(cat "$work/out")"
    kill -TERM $bypass_pid && wait $bypass_pid || fail "the second door did not end well"

    command=$(line 'tessera doctor')
    bash -c "$tessera${command#tessera}" >"$work/out" 2>&1
    [ $? -le 1 ] || fail "$command: $(cat "$work/out")"
    printf 'k sha256:%s\n' "$(printf key | sha256sum | cut -d' ' -f1)" >"$work/keys"
    command=$(line 'sudo tessera-bypass')
    command=${command#sudo tessera-bypass}
    bash -c "$bypass --config /dev/null --check --user $(id -un) ${command//\/etc\/tessera\//$work/}" >"$work/out" 2>&1 ||
        fail "sudo tessera-bypass$command: $(cat "$work/out")"
fi
stop_engine
