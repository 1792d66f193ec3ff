#!/bin/sh
# Runs the plugin as prepare.sh has built it, in place of this script, so that signals reach it.
set -eu
cd -P -- "$(dirname -- "$0")"
program=$BKG_PLUGIN_CACHE_DIR/program
[ -x "$program" ] || ./prepare.sh >&2
exec "$program"
