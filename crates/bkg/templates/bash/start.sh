#!/bin/sh
# Starts the plugin in place of this script, so that signals reach it.
set -eu
cd -P -- "$(dirname -- "$0")"
for program in bash jq base64; do
    command -v "$program" >/dev/null || {
        echo "\`$program\` is missing: install it, then start the plugin again" >&2
        exit 1
    }
done
exec bash plugin.sh
