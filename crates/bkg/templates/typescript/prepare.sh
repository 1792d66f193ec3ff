#!/bin/sh
# Builds the plugin in the cache of the host. The host runs this before a start if one of the files
# under `prepare.inputs` in plugin.json changed since the last time.
set -eu
cd -P -- "$(dirname -- "$0")"

if ! command -v npm >/dev/null; then
    echo "npm is missing: Node 20 or newer; on Debian or Ubuntu: sudo apt-get install nodejs npm" >&2
    exit 1
fi
build=$BKG_PLUGIN_CACHE_DIR/build
mkdir -p "$build/vendor/bkg-sdk"
rm -rf "$build/src" "$build/vendor/bkg-sdk/src"
cp -R package.json package-lock.json tsconfig.json src "$build"
cp -R vendor/bkg-sdk/package.json vendor/bkg-sdk/tsconfig.json vendor/bkg-sdk/src "$build/vendor/bkg-sdk"
cd "$build"
# Installed anew only for other versions.
if ! cmp -s package-lock.json installed.json; then
    npm ci --silent --no-audit --no-fund --prefer-offline
    cp package-lock.json installed.json
fi
npm run --silent build
