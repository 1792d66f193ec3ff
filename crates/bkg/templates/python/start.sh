#!/bin/sh
# Runs the plugin in place of this script, so that signals reach it.
set -eu
cd -P -- "$(dirname -- "$0")"
venv=${BKG_PLUGIN_CACHE_DIR:-$PWD}/.venv
[ -x "$venv/bin/python" ] || ./prepare.sh >&2

# The SDK is imported from its sources; nothing is written into this folder.
export PYTHONPATH="$PWD/vendor/bkg-sdk/src" PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" plugin.py
