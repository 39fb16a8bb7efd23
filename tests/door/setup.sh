#!/usr/bin/env bash
# Fetches clients, the official ones of OpenAI for Python and JavaScript and aioquic, into a folder: setup.sh DIR. What is there is not fetched again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
mkdir -p "$dir"
if ! cmp -s "$here/requirements.txt" "$dir/requirements.txt"; then
    python3 -m venv "$dir/python"
    "$dir/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$dir/requirements.txt"
fi
if command -v npm >/dev/null && ! { cmp -s "$here/package.json" "$dir/package.json" && [ -d "$dir/node_modules/openai" ]; }; then
    cp "$here/package.json" "$dir/package.json"
    (cd "$dir" && npm install --silent --no-audit --no-fund --no-package-lock) || rm -f "$dir/package.json"
fi
