#!/usr/bin/env bash
# clients/rust without a network: lints, documentation, its own tests, and its examples against an engine.
set -uo pipefail
. "$(dirname "$0")/engine.sh"

cargo --version >"$work/version" 2>&1 || skip "no cargo (deploy/packages.sh test)"

# A copy, as cargo writes a lock file into the folder.
mkdir "$work/clone"
tar -C "$TESSERA_SOURCE" --exclude=target --exclude=Cargo.lock -c LICENSE shm clients/c clients/rust | tar -C "$work/clone" -x ||
    fail "the sources cannot be copied"
cd "$work/clone/clients/rust" || fail "no clients/rust"
export CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=$work/target RUSTFLAGS="-D warnings" RUSTDOCFLAGS="-D warnings" TMPDIR=$work

if [ -z "${TESSERA_SANITIZE:-}" ]; then
    if cargo clippy --version >/dev/null 2>&1; then
        cargo clippy -q --all-targets -- -D warnings || fail "clippy"
    fi
    cargo doc -q --no-deps || fail "cargo doc"
fi
cargo test -q -- --test-threads=2 || fail "cargo test"

start_engine
for example in examples/*.rs; do
    name=$(basename "$example" .rs)
    TESSERA_SOCKET=$socket patient 60 "$work/target/debug/examples/$name" >"$work/out" || fail "the example $name failed"
    [ -s "$work/out" ] || fail "the example $name printed nothing"
done
stop_engine
