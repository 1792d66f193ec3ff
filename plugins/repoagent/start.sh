#!/bin/sh
# Runs the plugin with the environment that `prepare.sh` made, or makes now: the cache may have been deleted, and
# the interpreter may be another one since.
#
# The SDK is taken from its sources, in a checkout as in an installation. Nothing is written beside them.
set -eu
cd -P -- "$(dirname -- "$0")"
sdk=$PWD/../../sdk/python/src

if [ ! -d "$sdk/bkg_sdk" ]; then
  echo "the SDK is not in $sdk: install the plugin again" >&2
  exit 78
fi
python=$(sh ./prepare.sh)
export PYTHONPATH="$PWD/src:$sdk" PYTHONPYCACHEPREFIX="$BKG_PLUGIN_CACHE_DIR/pycache"
exec "$python" -m repoagent
