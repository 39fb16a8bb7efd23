#!/usr/bin/env bash
# From a fresh clone on Debian 12 or 13 to a model's answer: installs packages, builds, fetches a model, starts the
# engine, asks it something through the shared-memory channel, shows the answer with its figures, and stops the engine.
#
#     sudo deploy/quickstart.sh           with the default model, SmolLM2-135M-Instruct
#     sudo deploy/quickstart.sh MODEL     with yours: a .gguf file, or a Hugging Face folder (config.json, safetensors)
#
#     sudo deploy/quickstart.sh --serve [MODEL]           leaves engine and dataplane running; prints the URL and a curl line
#     sudo deploy/quickstart.sh --serve --http3 [MODEL]   also HTTP/3, with a certificate that it makes; with
#                                                         --device DEVICE --listen ADDRESS past the kernel (tessera-bypass --help)
#     sudo deploy/quickstart.sh --stop                    ends them
#     sudo deploy/quickstart.sh --serve --systemd MODEL   as services of systemd, installed in /usr/local
#
# May be run again at any time: what is done is not done twice, what runs as it should is left alone. Without root it does
# what it can, and says what it left out. Under sudo, only packages, huge pages and systemd are root's doing; the rest runs
# as the user who called. In the environment: QUESTION is asked instead of "What is the capital of France?", PORT is
# served instead of 8000, HTTP3_PORT instead of 8443, SERVE_DIR holds socket, logs and process numbers instead of ~/.tessera (root's: /run/tessera).
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
question=${QUESTION:-What is the capital of France?}
port=${PORT:-8000}

serve=no systemd=no stop=no http3=no device= model=
listen=()
while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
    -h | --help)
        sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    --serve) serve=yes ;;
    --systemd) systemd=yes ;;
    --stop) stop=yes ;;
    --http3) http3=yes ;;
    --device | --listen)
        if [ $# = 0 ]; then
            echo "quickstart: a value is missing behind $word" >&2
            exit 2
        fi
        if [ "$word" = --device ]; then device=$1; else listen+=(--listen "$1"); fi
        shift
        ;;
    *)
        if [ "${word#-}" != "$word" ] || [ -n "$model" ]; then
            echo "quickstart: '$word' was not expected; --help says how" >&2
            exit 2
        fi
        model=$(realpath -e -- "$word" 2>/dev/null) || {
            echo "quickstart: there is no file or folder $word" >&2
            exit 2
        }
        ;;
    esac
done
wrong=
if [ $systemd = yes ] && { [ $serve = no ] || [ -z "$model" ]; }; then
    wrong="--systemd goes with --serve and a model"
elif [ $http3 = yes ] && { [ $serve = no ] || [ $systemd = yes ]; }; then
    wrong="--http3 goes with --serve, and without --systemd (there: /etc/tessera/bypass.conf)"
elif [ -n "$device" ] && { [ $http3 = no ] || [ ${#listen[@]} = 0 ]; }; then
    wrong="--device goes with --http3 and --listen"
elif [ ${#listen[@]} -gt 0 ] && [ -z "$device" ]; then
    wrong="--listen goes with --device; HTTP3_PORT is the port on this machine"
fi
if [ -n "$wrong" ]; then
    echo "quickstart: $wrong" >&2
    exit 2
fi

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n%s\n' "$*"; }
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# Put before a command, this runs it as the user who called sudo, or as we are.
as_user=(env)
user=$(id -un)
user_home=$HOME
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    user=$SUDO_USER
    user_home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_user=(setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups env HOME="$user_home" USER="$SUDO_USER")
fi

build=$top/build/release
engine=$build/engine/serve/tessera-engine
dataplane=$build/dataplane/uring/tessera-dataplane
bypass=$build/dataplane/bypass/tessera-bypass
tessera=$build/clients/cli/tessera

started=() # ends with this script
work=
pages_before=
pages_file=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
clean_up() {
    local pid
    for pid in "${started[@]}"; do
        if kill "$pid" 2>/dev/null; then wait "$pid" 2>/dev/null || true; fi
    done
    [ -z "$pages_before" ] || echo "$pages_before" >"$pages_file" || true
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
exec 3>&2 # where programs that are started say what they have to say

# ---- What --serve leaves running: engine.pid, engine.log, the same of the doors; pages: how many were reserved before; http3:
# the second door's certificate and keys

if [ "$user" = root ]; then dir=${SERVE_DIR:-/run/tessera}; else dir=${SERVE_DIR:-$user_home/.tessera}; fi
dir=$(realpath -m -- "$dir")

# pid_of PROGRAM: of the process that we left running; fails where it is gone, or the number is another's by now
pid_of() {
    local pid
    pid=$(cat "$dir/${1##*tessera-}.pid" 2>/dev/null) && [ "$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | head -n 1)" = "$1" ] &&
        echo "$pid"
}

# runs PROGRAM ARGUMENTS...: it runs with just these, and was not built anew since
runs() {
    local pid
    pid=$(pid_of "$1") && [ ! "$1" -nt "$dir/${1##*tessera-}.pid" ] && printf '%s\0' "$@" | cmp -s - "/proc/$pid/cmdline"
}

# end PROGRAM: answers under way may become whole; after a minute they may not
end() {
    local pid waited=0
    if pid=$(pid_of "$1"); then
        kill "$pid" || fail "process $pid (${1##*/}) cannot be ended"
        while [ "$(pid_of "$1" || true)" = "$pid" ]; do
            [ $((++waited)) != 600 ] || kill -KILL "$pid"
            sleep 0.1
        done
        echo "Ended ${1##*/} (process $pid)."
    fi
    rm -f "$dir/${1##*tessera-}".{pid,log}
}

# start FILE PROGRAM ARGUMENTS...: returns when it is ready; its standard output is added to FILE, its process number is $!
start() {
    local out=$1
    shift
    "${as_user[@]}" setsid nohup "$@" </dev/null >>"$out" 2>&3 3>&- &
    started+=($!)
    until grep -q '^ready' "$out"; do
        if ! kill -0 $! 2>/dev/null; then
            tail -n 5 "$out" >&2
            fail "${1##*/} did not start; what it said is above"
        fi
        sleep 0.1
    done
}

# leave PROGRAM ARGUMENTS...: starts it unless it runs already
leave() {
    local name=${1##*tessera-}
    if runs "$@"; then
        echo "Runs already: process $(pid_of "$1")."
        return
    fi
    end "$1"
    "${as_user[@]}" touch "$dir/$name.log" "$dir/$name.pid"
    start "$dir/$name.log" "$@" 3>>"$dir/$name.log"
    echo $! >"$dir/$name.pid"
    echo "Process $!; it writes to $dir/$name.log."
}

if [ $stop = yes ]; then
    end "$bypass"
    end "$dataplane"
    end "$engine"
    rm -rf "$dir/engine.sock" "$dir/http3"
    if pages_before=$(cat "$dir/pages" 2>/dev/null); then
        rm -f "$dir/pages"
        echo "Giving back huge pages."
    fi
    rmdir "$dir" 2>/dev/null || true
    exit 0
fi

step "1. Packages"
groups=(build)
[ -n "$model" ] || groups+=(model)
[ $http3 = no ] || groups+=(bypass)
"$top/deploy/packages.sh" "${groups[@]}" || fail "these packages are needed first"
echo "All there."

step "2. Build"
if [ ! -f "$build/build.ninja" ]; then
    (cd "$top" && "${as_user[@]}" cmake --preset release >/dev/null) || fail "cmake could not configure $build"
fi
targets=(tessera tessera-engine tessera-model)
[ $serve = no ] || targets+=(tessera-dataplane)
if [ $http3 = yes ]; then
    # configured anew, since it may have been left out when packages were missing
    (cd "$top" && "${as_user[@]}" cmake --preset release >/dev/null) || fail "cmake could not configure $build"
    targets+=(tessera-bypass)
fi
[ $systemd = no ] || targets+=(clients/c/all) # all that is installed
log=$(mktemp)
if ! "${as_user[@]}" cmake --build "$build" --target "${targets[@]}" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    fail "the build failed (its last words are above)"
fi
if grep -q 'no work to do' "$log"; then echo "Up to date: $build"; else echo "Built: $build"; fi
rm -f "$log"

step "3. Model"
kv_bytes=()
if [ -z "$model" ]; then
    model=$("${as_user[@]}" "$top/deploy/fetch-model.sh") || exit 1
    kv_bytes=(--kv-bytes 256M) # enough for a small model, and what is reserved is also faulted in
fi
model_bytes=$(du -sbL "$model" | cut -f1)
echo "$model ($((model_bytes >> 20)) MiB)"

# Where the programs drop root, this is the user whom the engine lets in.
peer=$user
if [ "$user" = root ]; then peer=$(getent passwd tessera >/dev/null && echo tessera || echo nobody); fi
serve_engine=("$engine" --config /dev/null --model "$model" --socket "$dir/engine.sock" "${kv_bytes[@]}" --quiet
    --allow "uid:$peer,tenants,requests=1024,request-ring=4M,event-ring=16M")
serve_dataplane=("$dataplane" --config /dev/null --listen "127.0.0.1:$port" --engine "$dir/engine.sock" --quiet)

# Enough for the weights, the KV cache and the step's buffers; given back at the end.
reserve_pages() {
    local want=$(((model_bytes + model_bytes / 8) / 2097152 + 256)) available transparent without free
    available=$(awk '/^MemAvailable:/ { print int($2 / 2048) }' /proc/meminfo)
    transparent=$(sed -n 's/.*\[\(.*\)\].*/\1/p' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || true)
    if [ "${transparent:-never}" = never ]; then without="4 KiB pages are used"; else without="transparent ones are used"; fi
    free=$(cat "${pages_file%/*}/free_hugepages" 2>/dev/null || echo 0)
    if [ "$free" -ge "$want" ]; then
        echo "$free of 2 MiB are free already."
    elif [ ! -w "$pages_file" ]; then
        echo "Not reserved, as that takes root; $without instead."
    elif [ "$available" -lt $((2 * want)) ]; then
        echo "Not reserved, as memory is short ($((2 * available)) MiB available); $without instead."
    else
        pages_before=$(cat "$pages_file")
        echo $((pages_before + want - free)) 2>/dev/null >"$pages_file" || true
        free=$(cat "${pages_file%/*}/free_hugepages")
        if [ "$free" -ge "$want" ]; then
            echo "Reserved $want of 2 MiB ($((2 * want)) MiB), until $([ $serve = yes ] && echo "--stop" || echo "this script ends")."
        else
            echo "$pages_before" >"$pages_file"
            pages_before=
            echo "Memory is too scattered for $want of 2 MiB (got $free, given back); $without instead."
        fi
    fi
}

show_engine() { "${as_user[@]}" "$tessera" status --socket "$1" | sed -n '/^Model/,/^Threads/{/^Threads/d;/./p}'; }

# is_ready URL: the dataplane there has reached its engine
is_ready() (
    exec 4<>"/dev/tcp/127.0.0.1/${1##*:}" && printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&4 &&
        timeout 5 head -n 1 <&4 | grep -q ' 200 '
) 2>/dev/null

# show_url URL SOCKET: once requests can be answered
show_url() {
    local name waited=0
    until is_ready "$1"; do
        [ $((waited++)) -lt 300 ] || fail "the dataplane at $1 does not reach the engine at $2"
        sleep 0.1
    done
    name=$("${as_user[@]}" "$tessera" status --socket "$2" --json | sed -n 's/^{"model":\("\([^"\\]\|\\.\)*"\).*/\1/p')
    step "It runs: $1"
    cat <<TXT
In a browser that page chats and shows live figures; OpenAI's clients take $1/v1 as their base URL.
    curl $1/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": ${name//\'/\'\\\'\'}, "messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}'
    $tessera top --socket $2
TXT
}

# make_certificate FOR...: for these addresses, unless it is there already
make_certificate() {
    local names=DNS:localhost address
    for address in "$@"; do names+=,IP:$address; done
    [ "$(cat "$dir/http3/names" 2>/dev/null)" != "$names" ] || return 0
    end "$bypass" # which may have another
    "${as_user[@]}" mkdir -p -m 700 "$dir/http3"
    "${as_user[@]}" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=tessera \
        -addext "subjectAltName=$names" -keyout "$dir/http3/key.pem" -out "$dir/http3/certificate.pem" 2>/dev/null ||
        fail "openssl makes no certificate for $names"
    echo "$names" >"$dir/http3/names"
    # the door reads them as the user that it becomes
    [ "$user" != root ] || chown -R "$peer" "$dir/http3"
}

# serve_http3: on this machine, or through the device to others, who then need a key
serve_http3() {
    local url_port question=$dir/http3/question.json
    local options=("$bypass" --config /dev/null --engine "$dir/engine.sock" --tls-certificate "$dir/http3/certificate.pem"
        --tls-key "$dir/http3/key.pem" --user "$peer" --quiet)
    if [ -z "$device" ]; then
        make_certificate 127.0.0.1
        leave "${options[@]}" --listen "127.0.0.1:${HTTP3_PORT:-8443}"
        url_port=$(sed -n 's|^https://127.0.0.1:||p' "$dir/bypass.log")
        printf '{"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0, "max_tokens": 64}\n' >"$question"
        step "HTTP/3: https://127.0.0.1:$url_port"
        cat <<TXT
Its certificate is $dir/http3/certificate.pem. With ngtcp2's client, for one:
    gtlsclient -q --exit-on-all-streams-close -m POST --data=$question --download=$dir/http3 \\
        127.0.0.1 $url_port https://localhost:$url_port/v1/chat/completions && cat $dir/http3/completions
TXT
        return
    fi
    "$tessera" doctor --no-huge --device "$device" "${listen[@]}" || fail "the device is not ready; the commands stand above"
    # the addresses without brackets, networks and ports
    make_certificate $(printf '%s\n' "${listen[@]}" | sed -n '/^--listen$/d; s/^\[\([^]/]*\).*/\1/p; t; s/[/:].*//p')
    if [ ! -e "$dir/http3/keys" ]; then
        "$dataplane" --make-key quickstart >"$dir/http3/keys" 2>"$dir/http3/key"
        [ "$user" != root ] || chown "$peer" "$dir/http3/keys"
    fi
    local as_user=(env) # only root may open it; the door gives that up
    leave "${options[@]}" --device "$device" "${listen[@]}" --no-huge --keys "$dir/http3/keys"
    step "HTTP/3: $(grep '^https' "$dir/bypass.log" | paste -sd ' ')"
    echo "Its certificate is $dir/http3/certificate.pem. Clients send 'Authorization: Bearer KEY'. $(cat "$dir/http3/key")"
}

if [ $systemd = yes ]; then
    step "4. Services"
    [ "$(id -u)" = 0 ] || fail "--systemd takes root"
    [ -d /run/systemd/system ] || fail "systemd does not run here; without --systemd both run as plain processes"
    marks() { cat /usr/local/sbin/tessera-{engine,dataplane} /usr/local/lib/systemd/system/tessera-* /etc/tessera/*.conf 2>/dev/null | cksum; }
    before=$(marks)
    cmake --install "$build" --prefix /usr/local >/dev/null || fail "cmake --install failed"
    systemd-sysusers && systemd-tmpfiles --create tessera.conf && systemctl daemon-reload || fail "systemd could not be set up"
    setpriv --reuid tessera --regid tessera --clear-groups test -r "$model" ||
        fail "user tessera cannot read $model; put it into /var/lib/tessera/models"
    quoted=$(printf '%s' "$model" | sed 's/[&|\\]/\\&/g')
    sed -i "0,/^#\{0,1\}model *=.*/s||model = $quoted|" /etc/tessera/engine.conf
    sed -i "0,/^listen *=.*/s||listen = 127.0.0.1:$port|" /etc/tessera/dataplane.conf
    verb=start
    [ "$(marks)" = "$before" ] || verb=restart
    systemctl --quiet enable tessera-engine tessera-dataplane && systemctl $verb tessera-engine tessera-dataplane ||
        fail "a service did not start; journalctl -u tessera-engine -u tessera-dataplane says why"
    as_user=(env) # who may always ask the engine
    show_url "http://127.0.0.1:$port" /run/tessera/engine.sock
    echo "    systemctl disable --now tessera-engine tessera-dataplane    # ends them"
    exit 0
fi

if [ $serve = yes ]; then
    "${as_user[@]}" mkdir -p "$dir"
    step "4. Huge pages"
    if runs "${serve_engine[@]}"; then
        echo "The engine has its memory already."
    else
        end "$engine"
        reserve_pages
    fi
    step "5. Engine"
    leave "${serve_engine[@]}"
    show_engine "$dir/engine.sock"
    step "6. Dataplane"
    leave "${serve_dataplane[@]}"
    show_url "$(grep -m1 '^http' "$dir/dataplane.log")" "$dir/engine.sock"
    [ $http3 = no ] || serve_http3
    [ -z "$pages_before" ] || [ -e "$dir/pages" ] || echo "$pages_before" >"$dir/pages"
    pages_before= started=()
    echo "    $0 --stop    # ends it"
    exit 0
fi

step "4. Huge pages"
reserve_pages

step "5. Engine"
work=$("${as_user[@]}" mktemp -d "${TMPDIR:-/tmp}/tessera-quickstart-XXXXXX")
socket=$work/engine.sock
: >"$work/said"
start "$work/said" "$engine" --config /dev/null --model "$model" --socket "$socket" "${kv_bytes[@]}"
show_engine "$socket"

step "6. $question"
"${as_user[@]}" "$tessera" generate --socket "$socket" --figures "$question"

step "Done in $SECONDS s."
cat <<TXT
To keep an engine running, with the OpenAI API in front of it:
    $0 --serve
TXT
