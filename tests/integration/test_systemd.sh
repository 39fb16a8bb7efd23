#!/usr/bin/env bash
# deploy/systemd: systemd finds nothing wrong with the units and little exposed, users and folders come to be, and the
# units' system call filters let pass all that the daemons do.
set -uo pipefail
. "$(dirname "$0")/engine.sh"
command -v systemd-analyze >/dev/null || skip "systemd is not installed"
units=$TESSERA_BUILD/deploy/systemd
engine_unit=$units/tessera-engine.service
dataplane_unit=$units/tessera-dataplane.service
dataplane=$TESSERA_BUILD/dataplane/uring/tessera-dataplane
export SYSTEMD_PAGER=cat

# As installed, but with the programs as built; one that is not built is stood in for.
mkdir "$work/units"
cp "$engine_unit" "$dataplane_unit" "$TESSERA_SOURCE/deploy/systemd/tessera-dataplane.socket" "$work/units"
for program in engine/serve/tessera-engine dataplane/uring/tessera-dataplane; do
    built=$TESSERA_BUILD/$program
    [ -x "$built" ] || built=/bin/true
    sed -i "s|^ExecStart=[^ ]*/${program##*/} |ExecStart=$built |" "$work/units/${program##*/}.service"
done
for unit in "$work"/units/*; do
    said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail "systemd-analyze verify: $said"
    [ -z "$(grep tessera <<<"$said")" ] || fail "systemd-analyze verify: $said"
done

# 0 is the best; 2 is what both keep below by far, so that nothing is opened by accident.
for unit in "$engine_unit" "$dataplane_unit"; do
    said=$(systemd-analyze security --offline=true --threshold=20 "$unit") || fail "$said"
    tail -n 1 <<<"$said"
done

# Users, folders and configuration, in a root of their own.
root=$work/root
mkdir -p "$root/etc"
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --root="$root" "$TESSERA_SOURCE/deploy/systemd/tessera.sysusers" || fail "systemd-sysusers"
    for user in tessera tessera-dataplane; do
        grep -q "^$user:.*:/usr/sbin/nologin$" "$root/etc/passwd" || fail "no user $user: $(cat "$root/etc/passwd")"
        grep -q "^$user:" "$root/etc/group" || fail "no group $user"
    done
fi
if command -v systemd-tmpfiles >/dev/null && [ "$(id -u)" = 0 ]; then
    share=$(sed -n 's|^C /etc/tessera/engine.conf .* \(/.*\)/engine.conf$|\1|p' "$units/tessera.tmpfiles")
    mkdir -p "$root$share"
    cp "$TESSERA_SOURCE"/deploy/systemd/*.conf "$root$share"
    systemd-tmpfiles --root="$root" --create "$units/tessera.tmpfiles" || fail "systemd-tmpfiles"
    [ -d "$root/var/lib/tessera/models" ] || fail "no folder for models"
    [ -s "$root/etc/tessera/engine.conf" ] && [ -s "$root/etc/tessera/dataplane.conf" ] || fail "no configuration to begin with"
fi

# The configuration is right as it stands, but for the user whom sysusers makes and the model, which is the operator's.
sed '/^allow = /d' "$TESSERA_SOURCE/deploy/systemd/engine.conf" >"$work/engine.conf"
"$engine" --config "$work/engine.conf" --model "$model" --kv-bytes 64M --check || fail "engine.conf is refused"
allow=$(sed -n 's/^allow = uid:tessera-dataplane/uid:0/p' "$TESSERA_SOURCE/deploy/systemd/engine.conf")
"$engine" --config /dev/null --allow "$allow" --model "$model" --kv-bytes 64M --check || fail "engine.conf: allow is refused"

# expand NAMES...: system calls and groups of them, one call a line
expand() {
    local name
    for name in "$@"; do
        case $name in
        @*) expand $(systemd-analyze syscall-filter "$name" | sed -n '2,$s/^ *\([^# ]*\).*/\1/p') ;;
        *) echo "$name" ;;
        esac
    done
}
# allowed UNIT: the calls that its SystemCallFilter= lines let pass, and those that always pass
allowed() {
    local line
    local -A calls=()
    while read -r line; do
        case $line in
        "~"*) for call in $(expand ${line#"~"}); do unset "calls[$call]"; done ;;
        *) for call in $(expand $line); do calls[$call]=1; done ;;
        esac
    done < <(sed -n 's/^SystemCallFilter=//p' "$1")
    printf '%s\n' "${!calls[@]}"
    expand @default
}
command -v strace >/dev/null || skip "strace is not installed: what the daemons call was not held against their units"
[ -z "${TESSERA_SANITIZE:-}" ] || skip "built with sanitizers: what the daemons call was not held against their units"
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
mkdir -m 777 "$work/run" && chmod 755 "$work"

# trace NAME PROGRAM ARGUMENTS...: runs it as an unprivileged user under strace; returns when it is ready
declare -A tracers daemons
trace() {
    local name=$1 waited=0
    shift
    strace -f -qq -o "$work/$name.trace" "${as[@]}" "$@" >"$work/$name.out" 2>"$work/$name.err" &
    tracers[$name]=$!
    until grep -qs '^ready' "$work/$name.out"; do
        kill -0 "${tracers[$name]}" 2>/dev/null || {
            grep -q 'ptrace' "$work/$name.err" && skip "nothing can be traced here: $(head -n 1 "$work/$name.err")"
            fail "the $name did not start under strace: $(cat "$work/$name.err")"
        }
        [ $((waited++)) -lt 1200 ] || fail "the $name was not ready within two minutes"
        sleep 0.1
    done
    daemons[$name]=$(awk 'NR == 1 { print $1 }' "$work/$name.trace")
}
end_traced() {
    for name in "${!daemons[@]}"; do kill -KILL "${daemons[$name]}" 2>/dev/null; done
    clean_up
}
trap end_traced EXIT

# hold NAME UNIT FEWEST: ends it, and holds what it called against the unit
hold() {
    local name=$1 call refused
    kill -TERM "${daemons[$name]}"
    wait "${tracers[$name]}" || fail "the $name did not end well under strace"
    unset "daemons[$name]"
    allowed "$2" | sort -u >"$work/allowed"
    for call in mount ptrace bpf init_module kexec_load swapon reboot setuid; do
        ! grep -qx "$call" "$work/allowed" || fail "the $name's unit allows $call"
    done
    sed -n "/execve.*tessera-$name/,\$s/^[0-9]* *\\([a-z0-9_]*\\)(.*/\\1/p" "$work/$name.trace" | sort -u >"$work/called"
    [ "$(wc -l <"$work/called")" -gt 30 ] || fail "strace saw only: $(cat "$work/called")"
    refused=$(comm -23 "$work/called" "$work/allowed" | tr '\n' ' ')
    [ -z "$refused" ] || fail "the $name's unit refuses what it calls: $refused"
    echo "$(wc -l <"$work/called") system calls of the $name, all of them allowed by its unit"
}

trace engine "$engine" --config /dev/null --model "$model" --socket "$socket" --kv-bytes 64M --user 65534 --quiet
"$tessera" generate --socket "$socket" --tokens 4 "list files" >/dev/null || fail "no answer under strace"

# The dataplane, with an answer through both.
if [ -x "$dataplane" ]; then
    "$dataplane" --config "$TESSERA_SOURCE/deploy/systemd/dataplane.conf" --check || fail "dataplane.conf is refused"
    trace dataplane "$dataplane" --config /dev/null --listen 127.0.0.1:0 --engine "$socket" --user 65534 --quiet
    port=$(sed -n 's|^http://127.0.0.1:||p' "$work/dataplane.out")
    for _ in {1..300}; do
        exec 4<>"/dev/tcp/127.0.0.1/$port" || fail "nothing listens at $port"
        body='{"model": "shell-5m", "max_tokens": 4, "messages": [{"role": "user", "content": "list files"}]}'
        printf 'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
            ${#body} "$body" >&4
        timeout 20 cat <&4 >"$work/answer"
        exec 4>&-
        ! grep -q '^HTTP/1.1 200' "$work/answer" || break
        sleep 0.1 # until it has reached the engine
    done
    grep -q '^HTTP/1.1 200' "$work/answer" || fail "no answer by the dataplane under strace: $(cat "$work/answer")"
    hold dataplane "$dataplane_unit"
fi
hold engine "$engine_unit"
