#!/bin/sh
# Builds the plugin and the SDK that it stands on in the cache of the host; nothing is written here.
#
# The host runs this before a start if one of the files under `prepare.inputs` in plugin.json changed
# since the last time. `vendor/bkg-sdk` is a link to the SDK of the repository or the installation.
set -eu
cd -P -- "$(dirname -- "$0")"

for tool in node npm; do
  if ! command -v "$tool" >/dev/null; then
    echo "$tool is missing: install Node 20 or newer; on Debian or Ubuntu: sudo apt-get install nodejs npm" >&2
    exit 78
  fi
done
version=$(node --version)
major=${version#v}
if [ "${major%%.*}" -lt 20 ]; then
  echo "Node $version is too old: install Node 20 or newer" >&2
  exit 78
fi
if [ ! -f vendor/bkg-sdk/package.json ]; then
  echo "sdk/typescript is not there, two folders up from here: install the plugin again" >&2
  exit 78
fi

build=$BKG_PLUGIN_CACHE_DIR/build
sdk=$build/vendor/bkg-sdk
mkdir -p "$sdk"
# What comes out of a folder that may only be read is such a file itself.
chmod -R u+w "$build"
# What a build left is no part of the next: a file that was removed must not be found any more.
rm -rf "$build/src" "$build/dist" "$sdk/src" "$sdk/dist"
cp -R package.json package-lock.json tsconfig.json src "$build"
cp -R vendor/bkg-sdk/package.json vendor/bkg-sdk/tsconfig.json vendor/bkg-sdk/src "$sdk"

cd "$build"
# Packages are installed anew for other versions only, so that a change of a source needs no network.
if ! cmp -s package-lock.json installed.json; then
  rm -f installed.json
  npm ci --loglevel=error --no-audit --no-fund --prefer-offline >/dev/null
  cp package-lock.json installed.json
fi
npm run --silent build
