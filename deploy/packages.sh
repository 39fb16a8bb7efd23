#!/usr/bin/env bash
# Installs the Debian packages of the groups named (see packages.txt) that are not there yet. What only Debian's backports
# have new enough comes from there: they are added to the system's sources, from its own mirror, and used for nothing else.
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
groups=("$@")

# A package is named as in packages.txt: NAME, or NAME>=VERSION.
name_of() { echo "${1%%>=*}"; }
# is_enough VERSION PACKAGE
is_enough() { [[ $2 != *">="* ]] || dpkg --compare-versions "$1" ge "${2#*>=}"; }
is_installed() {
    local status version
    read -r status version < <(dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$(name_of "$1")" 2>/dev/null)
    [ "$status" = installed ] && is_enough "$version" "$1"
}
is_known() { apt-cache show "$(name_of "$1")" >/dev/null 2>&1; }
# Is new enough where apt takes it from by itself.
is_at_hand() { is_enough "$(apt-cache policy "$(name_of "$1")" | sed -n 's/^ *Candidate: //p')" "$1"; }

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
for group in "${groups[@]}"; do
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
fail() {
    echo "packages: $*" >&2
    exit 1
}
command -v apt-get >/dev/null || fail "these Debian packages, or what your system calls them, are needed: ${missing[*]}"
as_root=()
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "${missing[*]} are missing; please run: sudo $0 ${groups[*]}"
    as_root=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Package lists that are missing or old are the usual reason for a failure: fetch them, and begin once more.
# The alternatives are chosen anew then.
begin_anew() {
    [ -z "${TESSERA_UPDATED:-}" ] || return 0
    "${as_root[@]}" apt-get update -qq >/dev/null 2>&1 || true
    rm -f "$log"
    TESSERA_UPDATED=1 exec "$0" "${groups[@]}"
}

# install OPTIONS... PACKAGES...
install() {
    echo "Installing packages: $*" >&2
    "${as_root[@]}" apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 && return
    begin_anew
    tail -n 20 "$log" >&2
    fail "apt-get could not install $* (its last words are above)"
}

# Makes $backports known to apt. Which mirror the system uses, apt says, whatever form its sources have.
enable_backports() {
    local mirror file=/etc/apt/sources.list.d/tessera-backports.sources
    [ -z "$(apt-get indextargets "Codename: $backports")" ] || return 0
    read -r mirror < <(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' "Codename: ${backports%-backports}" 'Component: main') ||
        fail "apt knows no mirror to take $backports from, and too old here are: $*"
    echo "Adding $backports to the package sources ($file), as only they have new enough: $*" >&2
    printf '%s\n' 'Types: deb' "URIs: $mirror" "Suites: $backports" 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' | "${as_root[@]}" tee "$file" >/dev/null
    if ! "${as_root[@]}" apt-get update -qq >"$log" 2>&1; then
        cat "$log" >&2
        "${as_root[@]}" rm -f "$file"
        fail "the mirror has no $backports (apt-get's words are above), and too old here are: $*"
    fi
}

plain=() newer=()
for package in "${missing[@]}"; do
    if is_at_hand "$package"; then plain+=("$(name_of "$package")"); else newer+=("$package"); fi
done
[ ${#newer[@]} = 0 ] || begin_anew
[ ${#plain[@]} = 0 ] || install "${plain[@]}"
if [ ${#newer[@]} -gt 0 ]; then
    backports=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)-backports
    enable_backports "${newer[@]}"
    install -t "$backports" "${newer[@]%%>=*}"
    for package in "${newer[@]}"; do
        is_installed "$package" || fail "also $backports has no $package"
    done
fi
