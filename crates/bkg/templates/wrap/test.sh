#!/bin/sh
# Runs the tests; at the first time it makes .venv.
set -eu
cd -P -- "$(dirname -- "$0")"
unset BKG_PLUGIN_CACHE_DIR
python=$(./prepare.sh)
export PYTHONPATH="$PWD/vendor/bkg-sdk/src" PYTHONDONTWRITEBYTECODE=1
exec "$python" -m unittest "$@"
