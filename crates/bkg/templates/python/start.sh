#!/bin/sh
# Runs the plugin in place of this script, so that signals reach it, with the environment that prepare.sh made, or
# makes now: the cache may have been deleted, and the interpreter may be another one since.
set -eu
cd -P -- "$(dirname -- "$0")"
python=$(./prepare.sh)

# The SDK is imported from its sources; nothing is written into this folder.
export PYTHONPATH="$PWD/vendor/bkg-sdk/src" PYTHONDONTWRITEBYTECODE=1
exec "$python" plugin.py
