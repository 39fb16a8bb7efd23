#!/usr/bin/env bash
# clients/python as a user installs it, from a clone and from an sdist, without a network; then its own tests.
set -uo pipefail
. "$(dirname "$0")/engine.sh"

needs="import cffi, ensurepip, numpy, pytest, setuptools, sys, venv, wheel; assert sys.version_info >= (3, 11)"
for python in python3 /usr/bin/python3 ""; do
    [ -n "$python" ] || skip "no Python 3.11 with cffi, numpy, pytest, setuptools, venv and wheel (deploy/packages.sh test)"
    "$python" -c "$needs" 2>/dev/null && break
done

# A copy, as pip builds in place.
mkdir "$work/clone"
tar -C "$TESSERA_SOURCE" --exclude=build --exclude='*.egg-info' --exclude=__pycache__ -c LICENSE shm clients/c clients/python |
    tar -C "$work/clone" -x || fail "the sources cannot be copied"
"$python" -m venv --system-site-packages "$work/venv" || fail "no virtual environment"
pip() { "$work/venv/bin/pip" --disable-pip-version-check --no-cache-dir "$@" >"$work/pip.log" 2>&1 || fail "pip $1: $(tail -n 30 "$work/pip.log")"; }
offline=(--no-index --no-build-isolation)

cd "$work/clone/clients/python" || fail "no clients/python"
if [ -z "${TESSERA_SANITIZE:-}" ]; then
    "$work/venv/bin/python" -c "from setuptools import build_meta; build_meta.build_sdist('$work/sdist')" >"$work/sdist.log" 2>&1 ||
        fail "no sdist: $(tail -n 30 "$work/sdist.log")"
    (cd "$work" && pip wheel "${offline[@]}" --no-deps -w "$work/wheel" "$work"/sdist/tessera-*.tar.gz) || exit 1
    compgen -G "$work/wheel/tessera-*-abi3-*.whl" >/dev/null || fail "the sdist made $(ls "$work/wheel")"
fi
pip install "${offline[@]}" "$work/clone/clients/python"

cd "$work/clone/clients/python/tests" || fail "no tests"
"$work/venv/bin/python" -m pytest -q -p no:cacheprovider . || fail "pytest"
