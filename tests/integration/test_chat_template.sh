#!/usr/bin/env bash
# --chat-template and --name: a template and a name in place of the model's own; what cannot be used is refused before loading.
set -uo pipefail
source "$(dirname "$0")/engine.sh"

refused() { # WHAT SENTENCE: the engine does not start with $work/own.jinja and says why
    "$engine" --model "$model" --socket "$socket" --quiet --chat-template "$work/own.jinja" >"$work/engine.out" 2>"$work/engine.err" &&
        fail "$1 was taken"
    grep -q -- "$2" "$work/engine.err" || fail "$1: no word of '$2'"
}

refused "a file that is not there" "there is no chat template .*own.jinja"
printf '{%% for %%}' >"$work/own.jinja"
refused "a template that is not one" "chat-template .*own.jinja cannot be used"
refused "a template that is not one" "line 1"
mkdir "$work/folder" && mv "$work/own.jinja" "$work/folder" && mkdir "$work/own.jinja"
refused "a folder" "own.jinja is no regular file"
rmdir "$work/own.jinja"

printf '<|im_start|>user\nlist {{ messages[0].content }}<|im_end|>\n<|im_start|>assistant\n\n' >"$work/own.jinja" # Jinja drops the last newline
start_engine --chat-template "$work/own.jinja" --name "as clients say"
"$tessera" status --socket "$socket" | grep -q '^Model *as clients say' || fail "the model is not called as --name says"
own=$("$tessera" generate --socket "$socket" --tokens 12 "all files") || fail "generate"
raw=$("$tessera" generate --socket "$socket" --tokens 12 --raw --special $'<|im_start|>user\nlist all files<|im_end|>\n<|im_start|>assistant\n')
[ -n "$own" ] && [ "$own" = "$raw" ] || fail "the template is not the file's: '$own' is not '$raw'"
stop_engine
