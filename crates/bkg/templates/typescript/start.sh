#!/bin/sh
# Runs the plugin as prepare.sh has built it, in place of this script, so that signals reach it.
set -eu
cd -P -- "$(dirname -- "$0")"
program=$BKG_PLUGIN_CACHE_DIR/build/dist/main.js
[ -f "$program" ] || ./prepare.sh >&2
exec node "$program"
