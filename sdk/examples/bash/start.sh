#!/bin/sh
# bash and jq are all that is needed; say so here rather than in the middle of an answer.
for program in bash jq; do
    command -v "$program" >/dev/null || {
        echo "\`$program\` is not installed: install it, then start the plugin again" >&2
        exit 1
    }
done
exec bash plugin.sh
