#!/usr/bin/env bash
# deploy/systemd: systemd finds nothing wrong with the units and little exposed, users and folders come to be, and the
# units' system call filters let pass all that the daemons do.
set -uo pipefail
. "$(dirname "$0")/engine.sh"
command -v systemd-analyze >/dev/null || skip "systemd is not installed"
units=$TESSERA_BUILD/deploy/systemd
engine_unit=$units/tessera-engine.service
dataplane_unit=$units/tessera-dataplane.service
bypass_unit=$units/tessera-bypass.service
bypass_xdp=$TESSERA_SOURCE/deploy/systemd/bypass-af_xdp.conf
dataplane=$TESSERA_BUILD/dataplane/uring/tessera-dataplane
bypass=$TESSERA_BUILD/dataplane/bypass/tessera-bypass
export SYSTEMD_PAGER=cat

# As installed, but with the programs as built; one that is not built is stood in for.
mkdir "$work/units"
cp "$engine_unit" "$dataplane_unit" "$bypass_unit" "$TESSERA_SOURCE/deploy/systemd/tessera-dataplane.socket" "$work/units"
for program in engine/serve/tessera-engine dataplane/uring/tessera-dataplane dataplane/bypass/tessera-bypass; do
    built=$TESSERA_BUILD/$program
    [ -x "$built" ] || built=/bin/true
    sed -i "s|^ExecStart=[^ ]*/${program##*/} |ExecStart=$built |" "$work/units/${program##*/}.service"
done
sed "s|^\(Exec[^=]*\)=[^ ]*/tessera-vfio |\1=$TESSERA_SOURCE/deploy/systemd/tessera-vfio |" "$units/tessera-vfio.service" >"$work/units/tessera-vfio.service"
# The drop-ins, each as if its unit were one.
for kind in af_xdp vfio; do
    cat "$work/units/tessera-bypass.service" "$TESSERA_SOURCE/deploy/systemd/bypass-$kind.conf" >"$work/units/bypass-$kind.service"
done
for unit in "$work"/units/*; do
    said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail "systemd-analyze verify: $said"
    [ -z "$(grep tessera <<<"$said")" ] || fail "systemd-analyze verify: $said"
done

# 0 is the best; each keeps below its bound by far, so that nothing is opened by accident.
while read -r bound unit; do
    said=$(systemd-analyze security --offline=true --threshold="$bound" "$work/units/$unit.service") || fail "$said"
    tail -n 1 <<<"$said"
done <<'TXT'
20 tessera-engine
20 tessera-dataplane
20 tessera-bypass
30 bypass-vfio
30 bypass-af_xdp
TXT

# Users, folders and configuration, in a root of their own.
root=$work/root
mkdir -p "$root/etc"
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --root="$root" "$TESSERA_SOURCE/deploy/systemd/tessera.sysusers" || fail "systemd-sysusers"
    for user in tessera tessera-dataplane tessera-bypass; do
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
    for daemon in engine dataplane bypass; do
        [ -s "$root/etc/tessera/$daemon.conf" ] || fail "no configuration to begin with for $daemon"
    done
fi

# The configuration is right as it stands, but for the user whom sysusers makes and the model, which is the operator's.
sed '/^allow = /d' "$TESSERA_SOURCE/deploy/systemd/engine.conf" >"$work/engine.conf"
"$engine" --config "$work/engine.conf" --model "$model" --kv-bytes 64M --check || fail "engine.conf is refused"
for user in tessera-dataplane tessera-bypass; do
    allow=$(sed -n "s/^allow = uid:$user/uid:0/p" "$TESSERA_SOURCE/deploy/systemd/engine.conf")
    "$engine" --config /dev/null --allow "$allow" --model "$model" --kv-bytes 64M --check || fail "engine.conf: allow is refused"
done

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
# allowed UNIT...: the calls that its SystemCallFilter= lines let pass, and those that always pass
allowed() {
    local line
    local -A calls=()
    while read -r line; do
        case $line in
        "~"*) for call in $(expand ${line#"~"}); do unset "calls[$call]"; done ;;
        *) for call in $(expand $line); do calls[$call]=1; done ;;
        esac
    done < <(sed -n 's/^SystemCallFilter=//p' "$@")
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
    rm -f "$work/$name.out" "$work/$name.trace" # of the one before
    strace -f -qq -o "$work/$name.trace" "${as[@]}" "$@" >"$work/$name.out" 2>"$work/$name.err" &
    tracers[$name]=$!
    until grep -qs '^ready' "$work/$name.out"; do
        kill -0 "${tracers[$name]}" 2>/dev/null || {
            grep -q 'ptrace' "$work/$name.err" && skip "nothing can be traced here: $(head -n 1 "$work/$name.err")"
            fail "the $name did not start under strace: $(cat "$work/$name.err")"
        }
        [ $((waited++)) -lt $((1200 * slow)) ] || fail "the $name was not ready within two minutes"
        sleep 0.1
    done
    daemons[$name]=$(awk 'NR == 1 { print $1 }' "$work/$name.trace")
}
end_traced() {
    for name in "${!daemons[@]}"; do kill -KILL "${daemons[$name]}" 2>/dev/null; done
    clean_up
}
trap end_traced EXIT

# hold NAME UNIT [DROP-IN]: ends it, and holds what it called against the unit
hold() {
    local name=$1 call refused
    shift
    kill -TERM "${daemons[$name]}"
    wait "${tracers[$name]}" || fail "the $name did not end well under strace"
    unset "daemons[$name]"
    allowed "$@" | sort -u >"$work/allowed"
    for call in mount ptrace bpf init_module kexec_load swapon reboot setuid; do
        ! grep -qx "$call" "$work/allowed" || [ "$call $#" = "bpf 2" ] || fail "the $name's unit allows $call"
    done
    sed -n "/execve.*tessera-$name/,\$s/^[0-9]* *\\([a-z0-9_]*\\)(.*/\\1/p" "$work/$name.trace" | sort -u >"$work/called"
    [ "$(wc -l <"$work/called")" -gt 30 ] || fail "strace saw only: $(cat "$work/called")"
    # iopl: DPDK tries it for old cards, and does without
    refused=$(comm -23 "$work/called" "$work/allowed" | grep -vx iopl | tr '\n' ' ')
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
        patient 20 cat <&4 >"$work/answer"
        exec 4>&-
        ! grep -q '^HTTP/1.1 200' "$work/answer" || break
        sleep 0.1 # until it has reached the engine
    done
    grep -q '^HTTP/1.1 200' "$work/answer" || fail "no answer by the dataplane under strace: $(cat "$work/answer")"
    hold dataplane "$dataplane_unit"
fi

# The second door on a UDP socket, and with the drop-in's rights and no others on a link that its XDP program steers.
if [ -x "$bypass" ] && command -v gtlsclient >/dev/null && command -v openssl >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -keyout "$work/run/key.pem" -out "$work/run/certificate.pem" 2>/dev/null || fail "openssl makes no certificate"
    chmod 644 "$work/run/key.pem"
    tls=(--tls-certificate "$work/run/certificate.pem" --tls-key "$work/run/key.pem")
    sed "s|/etc/tessera/|$work/run/|" "$TESSERA_SOURCE/deploy/systemd/bypass.conf" >"$work/bypass.conf"
    "$bypass" --config "$work/bypass.conf" --check || fail "bypass.conf is refused"
    # ask WHAT IN...: until the door has reached the engine
    ask() {
        local what=$1
        shift
        printf '{"max_tokens": 4, "messages": [{"role": "user", "content": "list files"}]}' >"$work/ask"
        for _ in {1..300}; do
            patient 20 "$@" gtlsclient --exit-on-all-streams-close --no-quic-dump --no-http-dump --http-method=POST --data="$work/ask" \
                "${what%:*}" "${what##*:}" https://localhost/v1/chat/completions >"$work/answer" 2>&1
            ! grep -q ':status: 200' "$work/answer" || return 0
            sleep 0.1
        done
        fail "no answer by the second door under strace: $(tail -n 3 "$work/answer")"
    }
    trace bypass "$bypass" --config /dev/null --listen 127.0.0.1:0 --engine "$socket" "${tls[@]}" --secret "$work/run/secret" --user 65534 --quiet
    ask "127.0.0.1:$(sed -n 's|^https://127.0.0.1:||p' "$work/bypass.out")" env
    hold bypass "$bypass_unit"

    if [ "$(id -u)" = 0 ] && ip netns add "tsr-u$$" 2>/dev/null; then
        server=(ip netns exec "tsr-u$$")
        # from one end of a pair to the other: the client's is in a namespace of its own
        ip netns add "tsr-v$$"
        end_links() {
            ip netns del "tsr-u$$"
            ip netns del "tsr-v$$"
            end_traced
        }
        trap end_links EXIT
        ip -n "tsr-u$$" link add v0 type veth peer name v1 netns "tsr-v$$"
        ip -n "tsr-u$$" addr add 10.77.0.1/24 dev v0 && ip -n "tsr-u$$" link set v0 up
        ip -n "tsr-v$$" addr add 10.77.0.2/24 dev v1 && ip -n "tsr-v$$" link set v1 up
        ip netns exec "tsr-v$$" ethtool -K v1 tx off gso off tso off >/dev/null
        printf 'k sha256:%s\n' "$(printf key | sha256sum | cut -d' ' -f1)" >"$work/run/keys"
        # IPC_LOCK in place of the unit's LimitMEMLOCK=, which root cannot raise everywhere
        rights=$(sed -n 's/^AmbientCapabilities=//p' "$bypass_xdp" | sed 's/CAP_/+/g; s/ /,/g' | tr 'A-Z' 'a-z'),+ipc_lock
        as=("${server[@]}" setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set "-all,$rights" --inh-caps "-all,$rights"
            --ambient-caps "-all,$rights")
        trace bypass "$bypass" --config /dev/null --device net_af_xdp0,iface=v0 --no-huge --listen 10.77.0.1/24:8443 --engine "$socket" \
            --keys "$work/run/keys" "${tls[@]}" --quiet
        hold bypass "$bypass_unit" "$bypass_xdp"
    fi
fi
hold engine "$engine_unit"
