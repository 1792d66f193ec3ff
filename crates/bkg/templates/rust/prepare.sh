#!/bin/sh
# Builds the plugin into the cache of the host. The host runs this before a start if one of the files
# under `prepare.inputs` in plugin.json changed since the last time.
set -eu
cd -P -- "$(dirname -- "$0")"

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust from https://rustup.rs, then start the plugin again" >&2
    exit 1
fi
# With the versions that are pinned in Cargo.lock; those that are on this machine are not fetched again.
target=${CARGO_TARGET_DIR:-$BKG_PLUGIN_CACHE_DIR/target}
cargo build --locked --target-dir "$target"
# A copy of its own, since others may build into the same place; renamed, since the old one may run.
cp "$target/debug/bkg-plugin-my-plugin" "$BKG_PLUGIN_CACHE_DIR/program.new"
mv -f "$BKG_PLUGIN_CACHE_DIR/program.new" "$BKG_PLUGIN_CACHE_DIR/program"
