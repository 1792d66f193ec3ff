#!/bin/sh
# Runs the plugin: the binary that was installed beside this file, else the latest build of the
# repository if no source is newer, else a new build.
set -eu
cd -P -- "$(dirname -- "$0")"
program=bkg-plugin-providers

if [ -x "bin/$program" ]; then
  exec "bin/$program"
fi

repository=$(cd ../.. && pwd)
if [ ! -f "$repository/Cargo.toml" ]; then
  echo "neither bin/$program nor the repository's Cargo.toml is there: install the plugin again" >&2
  exit 78
fi
target=${CARGO_TARGET_DIR:-$repository/target}

# shellcheck disable=SC2012 # the two names are known
binary=$(ls -t "$target/release/$program" "$target/debug/$program" 2>/dev/null | head -n 1)
if [ -n "$binary" ]; then
  newer=$(find src "$repository/crates/bkg-sdk/src" "$repository/crates/bkg-protocol/src" \
    -name '*.rs' -newer "$binary" | head -n 1)
  if [ -z "$newer" ]; then
    exec "$binary"
  fi
fi

# Built like the host that starts it, so that the two share their dependencies.
if [ -x "$target/release/bkg" ]; then
  cargo build --locked --release --manifest-path "$repository/Cargo.toml" --package "$program" >&2
  exec "$target/release/$program"
fi
cargo build --locked --manifest-path "$repository/Cargo.toml" --package "$program" >&2
exec "$target/debug/$program"
