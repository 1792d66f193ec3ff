#!/bin/sh
# Makes the Python environment of the plugin in the cache of the host, or where there is no host, in .venv, and
# prints its interpreter. The host runs this before a start if a file under `prepare.inputs` in plugin.json changed.
#
# It is keyed by the interpreter and the requirements: a change of either gets a new one. It is put in its place
# whole, so that one which is there is complete, and two that are made at once do not disturb each other.
set -eu
cd -P -- "$(dirname -- "$0")"
cache=${BKG_PLUGIN_CACHE_DIR:-$PWD/.venv}
python=${PYTHON:-python3}

if ! key=$("$python" -c '
import hashlib, sys
assert sys.version_info >= (3, 11)
print(hashlib.sha256(sys.version.encode() + open("requirements.txt", "rb").read()).hexdigest()[:16])
' 2>/dev/null); then
  echo "python3 3.11 or newer is missing; on Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
  exit 78
fi
environment=$cache/python-$key

if [ ! -x "$environment/bin/python" ]; then
  mkdir -p "$cache"
  building=$(mktemp -d "$cache/building-XXXXXX")
  trap 'rm -rf "$building"' EXIT
  # A shell that dies of a signal leaves its `EXIT` undone.
  trap 'exit 1' HUP INT TERM
  if ! "$python" -m venv "$building" >&2; then
    echo "cannot make a Python environment; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2
    exit 78
  fi
  "$building/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement requirements.txt >&2 || {
    echo "cannot install what requirements.txt names: is the package index within reach?" >&2
    exit 1
  }
  # One whose interpreter is gone, since the system's was moved, is of no use to anybody.
  [ -x "$environment/bin/python" ] || rm -rf "$environment"
  # A folder cannot be renamed onto one that holds something: somebody else was quicker then.
  if ! "$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$building" "$environment" 2>/dev/null; then
    [ -x "$environment/bin/python" ]
  fi
fi
echo "$environment/bin/python"
