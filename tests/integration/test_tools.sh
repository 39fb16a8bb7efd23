#!/usr/bin/env bash
# The commands that need no engine, on the small committed model: what they print, what they refuse, their exit codes.
set -uo pipefail
. "$(dirname "$0")/engine.sh"

input=/dev/null
# want CODE words...: tessera with these words and $input, into $work/out and $work/err
want() {
    local code=$1 got
    shift
    patient 120 "$tessera" "$@" >"$work/out" 2>"$work/err" <"$input"
    got=$?
    [ "$got" = "$code" ] || fail "exit code $got, not $code, of: $* ($(head -c 300 "$work/err"))"
}
says() { grep -q -- "$2" "$work/$1" || fail "std$1 lacks '$2': $(head -c 600 "$work/$1")"; }
# gives WORDS: standard input for the next command
gives() {
    printf '%s' "$1" >"$work/in"
    input=$work/in
}
same() { cmp -s "$work/out" "$1" || fail "the output is not $1: $(head -c 300 "$work/out")"; }

# Command lines, and models that are none.
head -c 5000000 "$model/model.safetensors" >"$work/cut"
mkdir "$work/cut.d" "$work/words" "$work/empty" "$work/odd"
cp "$model"/*.json "$work/cut.d" && cp "$work/cut" "$work/cut.d/model.safetensors"
cp "$model"/tokenizer*.json "$work/words"
sed 's/"llama"/"lama"/' "$model/config.json" >"$work/odd/config.json"
cp "$model/model.safetensors" "$model"/tokenizer*.json "$work/odd"
printf 'GGUF\3\0\0\0\1\0\0\0' >"$work/cut.gguf"
echo "not a model" >"$work/text.gguf"
for command in inspect tokenize template verify; do
    want 0 "$command" --help
    says out "tessera $command MODEL"
    want 2 "$command" "$model" --no-such-option
    says err "--help"
    want 2 "$command"
    says err "MODEL is missing"
    want 2 "$command" "$model" "$model"
    says err "one too many"
    want 1 "$command" "$work/nobody"
    says err "nobody: cannot be opened"
    for broken in cut.gguf text.gguf empty; do
        want 1 "$command" "$work/$broken"
        says err "tessera: .*$broken"
        [ ! -s "$work/out" ] || fail "$command printed something of a broken file"
    done
done

# inspect
want 0 inspect "$model"
says out "llama, 5.5 M parameters, context 2048"
says out "num_key_value_heads 2"
if grep -q ' $' "$work/out"; then fail "lines end in blanks: $(cat -A "$work/out")"; fi
says out "BF16     tensors 56"
says out "int8 "
if grep -q unsupported "$work/out"; then fail "something is unsupported: $(cat "$work/out")"; fi
want 0 inspect --json --tensors "$model"
says out '"architecture": "llama"'
says out '"parameters": 5475584'
says out '"name": "model.norm.weight"'
says out '"unsupported": \[\]'
says out '"runs": true'
if command -v python3 >/dev/null; then
    python3 -m json.tool <"$work/out" >/dev/null || fail "inspect --json is not JSON"
fi
want 0 inspect "$work/odd"
says out "architecture 'lama' is not supported"
says out "hidden_size 256"
want 0 inspect --json "$work/odd"
says out '"runs": false'
want 0 inspect "$work/words"
says out "byte-level BPE"
says out "without config.json"
want 1 inspect "$work/cut.d"
says err "is truncated"

# tokenize
gives $'<|im_start|>list files\n'
for files in "$model" "$work/words"; do
    want 0 tokenize "$files" --json
    grep -qx '\[1, [0-9, ]*\]' "$work/out" || fail "the mark at the beginning is not one id: $(cat "$work/out")"
    cp "$work/out" "$work/ids"
    want 0 tokenize "$files"
    [ "$(wc -l <"$work/out")" = "$(tr -cd , <"$work/ids" | wc -c | awk '{ print $1 + 1 }')" ] || fail "lines and ids differ"
    says out '^       1  "<|im_start|>"$'
    says out '\\n"$'
    want 0 tokenize "$files" --plain --json
    if grep -q '^\[1,' "$work/out"; then fail "--plain recognised a special token"; fi
    cp "$work/out" "$work/plain"
    input=$work/plain want 0 tokenize "$files" --decode
    same "$work/in"
    tr -d '[],' <"$work/plain" >"$work/words.ids"
    input=$work/words.ids want 0 tokenize --decode "$files"
    same "$work/in"
done
input=$work/ids want 0 tokenize "$model" --decode
[ "$(cat "$work/out")" = "list files" ] || fail "--decode shows special tokens: $(cat "$work/out")"
head -c 50000 /dev/urandom >"$work/noise"
input=$work/noise want 0 tokenize "$model" --plain --json
cp "$work/out" "$work/ids"
input=$work/ids want 0 tokenize "$model" --decode
same "$work/noise"
gives ""
want 0 tokenize "$model" --json
[ "$(cat "$work/out")" = "[]" ] || fail "of nothing there are ids: $(cat "$work/out")"
for wrong in '[1, 2' '[1, "2"]' '[-1]' '[4294967296]' '{"ids": [1]}' '1 2 x' '99999999999' '1,2' '[4096]'; do
    gives "$wrong"
    want 1 tokenize "$model" --decode
    says err "^tessera: "
    [ ! -s "$work/out" ] || fail "a text was made of $wrong"
done

# template
gives '[{"role": "user", "content": "list files"}]'
want 0 template "$model"
cp "$work/out" "$work/prompt"
gives '{"messages": [{"role": "user", "content": "list files"}]}'
want 0 template "$model"
same "$work/prompt"
want 0 template "$model" --ids
cp "$work/out" "$work/ids"
input=$work/prompt want 0 tokenize "$model" --json
same "$work/ids"
gives '[{"role": "user", "content": "<|im_end|>"}]'
want 0 template "$model" --ids
[ "$(tr ' ' '\n' <"$work/out" | grep -c '^2,$')" = 1 ] || fail "a message ends its turn: $(cat "$work/out")"
printf '{{ bos_token is defined }} {{ eos_token }} {{ colour }} {{ strftime_now("%%d %%b %%Y %%H:%%M:%%S") }}' >"$work/own.jinja"
gives '{"colour": "blue"}'
for moment in 2026-01-02T03:04:05 2026-01-02T03:04:05Z 2026-01-02T03:04:05.678+02:00 "2026-01-02 03:04:05-0330"; do
    want 0 template "$model" --template "$work/own.jinja" --now "$moment"
    [ "$(cat "$work/out")" = "False <|im_end|> blue 02 Jan 2026 03:04:05" ] || fail "--now $moment: $(cat "$work/out")"
done
want 0 template "$model" --template "$work/own.jinja" --now 2026-01-02
says out "02 Jan 2026 00:00:00"
gives '{"eos_token": "END"}'
want 0 template "$model" --template "$work/own.jinja"
says out "False END"
for moment in yesterday 2026-02-31 2026-01-02T25:00 2026-01-02T03:04:05+2 2026-01-02T03:04:05ZZ; do
    want 2 template "$model" --now "$moment"
    says err "--now"
done
want 1 template "$model" --template "$work/none.jinja"
says err "none.jinja: cannot be opened"
printf 'one\n{%% if true %%}\n{{ raise_exception("no tools here") }}{%% endif %%}' >"$work/own.jinja"
want 1 template "$model" --template "$work/own.jinja"
says err "line 3.*no tools here"
[ ! -s "$work/out" ] || fail "a failed template left a prompt"
printf 'one\n{%% include "other" %%}' >"$work/own.jinja"
want 1 template "$model" --template "$work/own.jinja"
says err "line 2.*include"
for wrong in '' 'hello' '[{"role": ]' '7'; do
    gives "$wrong"
    want 1 template "$model"
    says err "^tessera: "
done
input=/dev/null

# verify
want 0 verify "$model"
says out "tokenizer     holds"
says out "template      holds"
says out "file logits   holds"
says out "file ways in  holds  0 of"
want 2 verify "$model" --weights fp4
says err "'fp4'"
want 1 verify "$model" --against "$work/none.json"
says err "none.json: cannot be opened"
want 1 verify "$model" --against "$model/config.json"
says err "no golden file"
want 1 verify "$model" --against "$work/text.gguf"
says err "line 1"
printf '{"prompts": [[1, 2, -3]], "greedy": []}' >"$work/golden.json"
want 1 verify "$model" --against "$work/golden.json"
says err "prompt 0: element 2"
printf '{"prompts": [[1, 2, 3]], "greedy": []}' >"$work/golden.json"
want 1 verify "$model" --against "$work/golden.json"
says err "golden.safetensors"
cp "$model/model.safetensors" "$work/golden.safetensors"
want 1 verify "$model" --against "$work/golden.json"
says err "no tensor 'logits.0'"
want 1 verify "$work/odd"
says err "'lama'"

# doctor: what it finds is up to this machine, how it says so is not.
want 0 doctor --help
says out "tessera doctor"
want 2 doctor --no-such-option
want 2 doctor "$model" "$model"
says err "one too many"
want 1 doctor "$work/nobody"
says err "nobody: cannot be opened"
want 2 doctor --device net_tap0 "$model"
says err "does not go with --device"
want 2 doctor --queues 2
says err "go with --device"
want 2 doctor --device net_tap0 --queues 17
says err "from 1 to 16"
want 1 doctor --device net_af_xdp0,iface=no-such-link --no-huge
says out "MEND  device  *there is no interface no-such-link"
want 1 doctor --json --device ffff:00:00.0
says out '"command": "grep -l'
start_engine --threads 1
for words in "" "$model"; do
    patient 60 "$tessera" doctor $words --socket "$socket" --json >"$work/out"
    code=$?
    [ $code -le 1 ] || fail "doctor: exit code $code"
    for name in cpu isolation governor huge-pages swap memory-bandwidth memlock nofile io_uring engine; do
        says out "\"name\": \"$name\""
    done
    says out "shell-5m at $socket"
    says out "\"findings\": $(grep -c '"level": "mend"' "$work/out")"
    [ $code = 0 ] || [ "$(grep -c '"command": ' "$work/out")" -ge "$(grep -c '"level": "mend"' "$work/out")" ] ||
        fail "a finding without a command: $(cat "$work/out")"
    [ $code = "$(grep -q '"level": "mend"' "$work/out" && echo 1 || echo 0)" ] || fail "doctor: exit code $code: $(cat "$work/out")"
done
says out "tokens/s for one request to this model"
stop_engine
patient 60 "$tessera" doctor --no-measure --socket "$socket" >"$work/out"
says out "note  engine .*$socket"
says out "systemctl start tessera-engine"
! grep -q memory-bandwidth "$work/out" || fail "--no-measure measures"

# Installed, the program is found in libexec; without it there is a sentence.
if [ -z "${TESSERA_SANITIZE:-}" ]; then
    cmake --install "$TESSERA_BUILD" --prefix "$work/installed" >"$work/install.log" || fail "cmake --install: $(tail -n 3 "$work/install.log")"
    tessera=$work/installed/bin/tessera
    want 0 inspect "$model"
    rm "$work"/installed/libexec/tessera/tessera-model
    want 1 inspect "$model"
    says err "tessera-model"
fi
echo "all well"
