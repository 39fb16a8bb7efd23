#!/usr/bin/env bash
# Runs a test of this folder: run.sh FILE. The official clients are looked for in TESSERA_CLIENTS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
python=$TESSERA_CLIENTS/python/bin/python3
skip() {
    echo "skipped: $*: tests/door/setup.sh $TESSERA_CLIENTS"
    exit 77
}
case $1 in
*.mjs)
    command -v node >/dev/null || skip "there is no node"
    [ -d "$TESSERA_CLIENTS/node_modules/openai" ] || skip "the client is not there"
    exec python3 "$here/with_box.py" node --test "$1"
    ;;
*)
    if grep -qE '^(import|from) (aioquic|h3|openai|langchain)' "$1"; then
        [ -x "$python" ] || skip "the client is not there"
    else
        python=python3
    fi
    exec "$python" "$1"
    ;;
esac
