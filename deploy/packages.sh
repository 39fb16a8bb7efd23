#!/usr/bin/env bash
# Installs the Debian packages of the groups named (build, model, test; see packages.txt) that are not there yet.
#
#     deploy/packages.sh build model        installs (as root, or through sudo where that asks for nothing)
#     deploy/packages.sh --missing build    only prints what is missing
#
# Exit: 0 all there, 1 something is missing and could not be installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

only_print=no
if [ "${1:-}" = --missing ]; then
    only_print=yes
    shift
fi
[ $# -gt 0 ] || set -- build

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
is_known() { apt-cache show "$1" >/dev/null 2>&1; }

# Prints which of the alternatives a|b is to be installed: nothing where one is there already.
choose() {
    local alternatives package
    IFS='|' read -ra alternatives <<<"$1"
    for package in "${alternatives[@]}"; do
        if is_installed "$package"; then
            return
        fi
    done
    for package in "${alternatives[@]}"; do
        if is_known "$package"; then
            echo "$package"
            return
        fi
    done
    echo "${alternatives[0]}"
}

missing=()
for group in "$@"; do
    while read -r of packages; do
        [ "$of" = "$group" ] || continue
        package=$(choose "$packages")
        [ -z "$package" ] || missing+=("$package")
    done <"$here/packages.txt"
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$only_print" = yes ]; then
    echo "${missing[*]}"
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "packages: these Debian packages, or what your system calls them, are needed: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "packages: please run: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi
echo "Installing packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    "${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# Package lists that are missing or old are the usual reason for a failure: fetch them, and try once more.
# The alternatives are chosen anew then.
if ! install; then
    if [ -z "${TESSERA_UPDATED:-}" ]; then
        "${as_root[@]}" apt-get update -qq >/dev/null 2>&1 || true
        rm -f "$log"
        TESSERA_UPDATED=1 exec "$0" "$@"
    fi
    tail -n 20 "$log" >&2
    echo "packages: apt-get could not install ${missing[*]} (its last words are above)" >&2
    exit 1
fi
