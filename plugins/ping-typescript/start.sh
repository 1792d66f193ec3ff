#!/bin/sh
# Runs what prepare.sh built.
set -eu
main=$BKG_PLUGIN_CACHE_DIR/build/dist/main.js
if [ ! -f "$main" ]; then
  echo "$main is not there: run prepare.sh, which the host does before a start" >&2
  exit 78
fi
exec node "$main"
