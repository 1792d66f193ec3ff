#!/bin/sh
# Runs the tests; at the first time it fills node_modules.
set -eu
cd -P -- "$(dirname -- "$0")"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --prefer-offline
exec npm test --silent
