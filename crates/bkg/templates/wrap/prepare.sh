#!/bin/sh
# Makes the virtual environment: in the cache of the host, or where there is none, in .venv. The host
# runs this before a start if a file under `prepare.inputs` in plugin.json changed since the last time.
set -eu
cd -P -- "$(dirname -- "$0")"
venv=${BKG_PLUGIN_CACHE_DIR:-$PWD}/.venv

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is missing; on Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
