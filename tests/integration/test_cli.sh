#!/usr/bin/env bash
# The `tessera` command against an engine with the small model: answers, figures, refusals, exit codes.
set -uo pipefail
. "$(dirname "$0")/engine.sh"

# want CODE command...: runs it into $work/out and $work/err
want() {
    local code=$1 got
    shift
    patient 120 "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" = "$code" ] || fail "exit code $got, not $code, of: $* ($(tail -n 3 "$work/err"))"
}
says() { grep -q -- "$2" "$work/$1" || fail "std$1 lacks '$2': $(head -c 600 "$work/$1")"; }

# Command lines.
want 2 "$tessera"
want 2 "$tessera" sing
says err "no command 'sing'"
want 0 "$tessera" --help
says out "Exit codes"
for command in generate chat tokenize embed status top bench; do
    want 0 "$tessera" "$command" --help
    says out "tessera $command"
    says out "--socket"
    want 2 "$tessera" "$command" --no-such-option
    says err "--help"
done
want 2 "$tessera" generate --temperature warm hello
says err "'warm'"
want 2 "$tessera" generate --raw --system x hello
want 2 "$tessera" status surplus
want 2 "$tessera" top surplus
want 2 "$tessera" top --interval 0
want 2 "$tessera" bench --streams 0

# Nobody there.
for command in "generate hello" chat "tokenize hello" "embed hello" status "top --once" bench; do
    # shellcheck disable=SC2086
    want 3 "$tessera" $command --socket "$work/nobody.sock"
    says err "nobody.sock"
done

# --check can be interrupted, here while nobody reads what it says.
mkfifo "$work/full"
exec 9<>"$work/full"
dd if=/dev/zero of="$work/full" bs=64K count=1 oflag=nonblock status=none
timeout -k 10 0.5 "$engine" --check --model "$model" 2>&9
[ $? = 124 ] || fail "--check was not interrupted"
exec 9>&-

# No socket becomes the engine's closed standard output. (Only root may look.)
"$engine" --model "$model" --socket "$socket" --kv-bytes 64M <&- >&- 2>&- &
engine_pid=$!
want 0 "$tessera" generate --socket "$socket" --wait 60 --raw --tokens 2 Once
for fd in 0 1 2; do
    file=$(readlink "/proc/$engine_pid/fd/$fd")
    [ -z "$file" ] || [ "$file" = /dev/null ] || fail "descriptor $fd of the engine is $file"
done
stop_engine

trap '' HUP # what is ignored at its start, as under nohup, does not end the engine
start_engine
trap - HUP
kill -HUP "$engine_pid"
at=(--socket "$socket")

# Answers.
want 0 "$tessera" generate "${at[@]}" --raw --tokens 12 --ignore-end --figures "Once upon a time"
says err "12 tokens"
cp "$work/out" "$work/first"
[ "$(wc -c <"$work/first")" -gt 2 ] || fail "generate printed nothing"
want 0 "$tessera" generate "${at[@]}" --raw --tokens 12 --ignore-end Once upon a time
cmp -s "$work/out" "$work/first" || fail "the same question, another answer"
echo -n "Once upon a time" | patient 60 "$tessera" generate "${at[@]}" --raw --tokens 12 --ignore-end >"$work/out"
cmp -s "$work/out" "$work/first" || fail "a prompt from standard input, another answer"
want 0 "$tessera" generate "${at[@]}" --raw --tokens 12 --temperature 1 --seed 5 --ignore-end "Once"
cp "$work/out" "$work/first"
want 0 "$tessera" generate "${at[@]}" --raw --tokens 12 --temperature 1 --seed 5 --ignore-end "Once"
cmp -s "$work/out" "$work/first" || fail "the same seed, another answer"
want 0 "$tessera" generate "${at[@]}" --raw --json --tokens 5 --ignore-end --temperature 1 --seed 18446744073709551615 "Once"
says out '"tokens":5'
says out '"seed":18446744073709551615'
says out '"reason":"length"'
if command -v python3 >/dev/null; then
    python3 -m json.tool <"$work/out" >/dev/null || fail "--json is not JSON"
fi
want 1 "$tessera" generate "${at[@]}" --raw ""
[ -s "$work/err" ] || fail "an empty prompt was refused without a word"
want 1 "$tessera" generate "${at[@]}" --raw "$(seq 3000)"
says err "2048\|2,048" # the context that the prompt exceeds

[ ! -s "$work/out" ] || fail "a refused prompt has an answer"

# Output that cannot be written is no success, and a closed one does not become the engine's socket.
for command in "generate --raw --tokens 2 Once" "generate --raw --json --tokens 2 Once" "tokenize Once" "embed Once" "status --json" --help; do
    [ "$command" = --help ] || command+=" ${at[*]}"
    # shellcheck disable=SC2086
    want 1 bash -c '"$@" >/dev/full' - "$tessera" $command
    says err "cannot be written: No space left"
    # shellcheck disable=SC2086
    want 1 bash -c '"$@" >&-' - "$tessera" $command
    says err "cannot be written: Bad file descriptor"
done

# Tokens.
want 0 "$tessera" tokenize "${at[@]}" --ids "Hello there, world"
ids=$(cat "$work/out")
want 0 "$tessera" tokenize "${at[@]}" --count "Hello there, world"
[ "$(cat "$work/out")" = "$(echo "$ids" | wc -w)" ] || fail "--count and --ids differ"
want 0 "$tessera" tokenize "${at[@]}" --no-bos "Hello there, world"
text=$(sed -n 's/^ *[0-9]*  "\(.*\)"$/\1/p' "$work/out" | tr -d '\n')
[ "$text" = "Hello there, world" ] || fail "the pieces make '$text'"

want 0 "$tessera" tokenize "${at[@]}" "wörld"
says out '\\xc3\|ö'

# Embeddings: numbers that round-trip, of length 1, the same for the same text.
want 0 "$tessera" embed "${at[@]}" "Hello there, world"
cp "$work/out" "$work/embedding"
[ "$(wc -l <"$work/out")" = 1 ] || fail "an embedding of $(wc -l <"$work/out") lines"
awk '{ gsub(/[][,]/, " "); for (i = 1; i <= NF; i++) s += $i * $i; exit !(NF > 100 && s > 0.9999 && s < 1.0001) }' \
    "$work/out" || fail "the embedding is not of length 1: $(head -c 300 "$work/out")"
echo -n "Hello there, world" | patient 60 "$tessera" embed "${at[@]}" >"$work/out"
cmp -s "$work/out" "$work/embedding" || fail "the same text, another embedding"
want 0 "$tessera" embed "${at[@]}" --chat "Hello there, world"
! cmp -s "$work/out" "$work/embedding" || fail "--chat makes no difference"
want 1 "$tessera" embed "${at[@]}" "$(seq 3000)"
says err "2048"

# Status and bench.
want 0 "$tessera" status "${at[@]}"
says out "Model"
says out "KV cache"
says out "worker"
want 0 "$tessera" status "${at[@]}" --json
says out '"requests_done":'
if command -v python3 >/dev/null; then
    python3 -m json.tool <"$work/out" >/dev/null || fail "status --json is not JSON"
fi
want 0 "$tessera" top "${at[@]}" --once --interval 0.1
says out "0.0/s answered"
says out "KV cache   \[\.\.\."
! grep -q $'\033' "$work/out" || fail "top --once steers a terminal that is none"
want 124 timeout -s INT 1 "$tessera" top "${at[@]}" --interval 0.1
[ "$(grep -c "^0.0 tokens/s, .* KV 0 %$" "$work/out")" -ge 2 ] || fail "top in a pipe: $(cat "$work/out")"
want 0 "$tessera" bench "${at[@]}" --streams 2 --requests 4 --prompt 16 --tokens 8
says out "tokens/s"
says out "p99.9"
want 0 "$tessera" bench "${at[@]}" --prompt 16 --tokens 8 --json
says out '"between_tokens_ms"'
want 1 "$tessera" bench "${at[@]}" --streams 60000
says err "at a time"

# A conversation without a terminal: a line a message.
printf 'Hello\n/new\n/retry\n/nonsense\nAgain \\\nand more\n/exit\nnot read\n' >"$work/in"
patient 120 "$tessera" chat "${at[@]}" --tokens 8 --seed 1 <"$work/in" >"$work/out" 2>"$work/err"
code=$?
if grep -q "no chat template" "$work/err"; then
    [ "$code" = 1 ] || fail "chat without a template ended with $code"
else
    [ "$code" = 0 ] || fail "chat ended with $code: $(cat "$work/err")"
    says out "A new conversation"
    says out "There is no answer yet"
    says out "no command /nonsense"
fi

# Ctrl-C cancels, and the engine is none the worse.
: >"$work/out"
set -m # job control: without it a shell lets its background jobs ignore SIGINT
"$tessera" generate "${at[@]}" --raw --ignore-end --tokens 400 "Once" >"$work/out" 2>"$work/err" &
client=$!
set +m
until [ -s "$work/out" ] || ! kill -0 "$client" 2>/dev/null; do sleep 0.02; done
if kill -INT "$client" 2>/dev/null; then
    wait "$client"
    code=$?
    [ "$code" = 130 ] || [ "$code" = 1 ] || fail "after Ctrl-C the exit code was $code"
else
    wait "$client"
fi
want 0 "$tessera" generate "${at[@]}" --raw --tokens 2 "Once"

# The engine dies under a client.
"$tessera" generate "${at[@]}" --raw --ignore-end --tokens 400 "Once" >"$work/out" 2>"$work/err" &
client=$!
sleep 0.3
kill -KILL "$engine_pid"; disown "$engine_pid" 2>/dev/null
wait "$engine_pid" 2>/dev/null
engine_pid=
wait "$client"
code=$?
[ "$code" = 4 ] || [ "$code" = 3 ] || [ "$code" = 0 ] || fail "when the engine died, the exit code was $code"
echo "all well"
