#!/usr/bin/env bash
# deploy/systemd: systemd finds nothing wrong with the units and little exposed, users and folders come to be, and the
# units' system call filter lets pass all that the engine does.
set -uo pipefail
. "$(dirname "$0")/engine.sh"
command -v systemd-analyze >/dev/null || skip "systemd is not installed"
units=$TESSERA_BUILD/deploy/systemd
engine_unit=$units/tessera-engine.service
dataplane_unit=$units/tessera-dataplane.service
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
allowed "$engine_unit" | sort -u >"$work/allowed"
for call in mount ptrace bpf init_module kexec_load swapon reboot setuid; do
    ! grep -qx "$call" "$work/allowed" || fail "the engine's unit allows $call"
done
command -v strace >/dev/null || skip "strace is not installed: what the engine calls was not held against its unit"
[ -z "${TESSERA_SANITIZE:-}" ] || skip "built with sanitizers: what the engine calls was not held against its unit"
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
mkdir -m 777 "$work/run" && chmod 755 "$work"
strace -f -qq -o "$work/trace" "${as[@]}" "$engine" --config /dev/null --model "$model" --socket "$socket" --kv-bytes 64M --user 65534 \
    >"$work/engine.out" 2>"$work/engine.err" &
tracer=$!
waited=0
until grep -q '^ready' "$work/engine.out"; do
    kill -0 "$tracer" 2>/dev/null || {
        grep -q 'ptrace' "$work/engine.err" && skip "nothing can be traced here: $(head -n 1 "$work/engine.err")"
        fail "the engine did not start under strace"
    }
    [ $((waited++)) -lt 1200 ] || fail "the engine was not ready within two minutes"
    sleep 0.1
done
engine_pid=$(awk 'NR == 1 { print $1 }' "$work/trace")
"$tessera" generate --socket "$socket" --tokens 4 "list files" >/dev/null || fail "no answer under strace"
kill -TERM "$engine_pid"
wait "$tracer" || fail "the engine did not end well under strace"
engine_pid=
sed -n '/tessera-engine/,$s/^[0-9]* *\([a-z0-9_]*\)(.*/\1/p' "$work/trace" | sort -u >"$work/called"
[ "$(wc -l <"$work/called")" -gt 30 ] || fail "strace saw only: $(cat "$work/called")"
refused=$(comm -23 "$work/called" "$work/allowed" | tr '\n' ' ')
[ -z "$refused" ] || fail "the engine's unit refuses what it calls: $refused"
echo "$(wc -l <"$work/called") system calls of the engine, all of them allowed by its unit"
