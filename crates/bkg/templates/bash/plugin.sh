#!/usr/bin/env bash
# The plugin's side of the bus: registers, beats, and answers one request at a time.
#
# What it answers stands in capabilities.sh. This speaks the base contract, which has no streams, no
# cancels and no routes; it rarely needs a change.
set -uo pipefail
# shellcheck source=/dev/null # The client's side of a WebSocket: `bus_dial`, `bus_send`, `bus_receive`.
source vendor/websocket.sh
# shellcheck source-path=SCRIPTDIR
source ./capabilities.sh

greeting=$(jq -r '.settings.greeting // "hello"' "$BKG_PLUGIN_CONFIG_PATH") || exit 1

# Answers exactly once, whatever happens to the function.
answer() { # request id as JSON, capability as JSON, payload as JSON
    local name function said
    name=$(jq -r . <<<"$2")
    function=${capabilities[$name]:-}
    if [[ -z $function ]]; then
        said='{"code": "not_found", "message": "this plugin does not offer it"}'
    elif said=$("$function" "$3"); then
        # What is not one JSON value would break the frame; jq says so in the log.
        if said=$(jq -cs 'if length == 1 then first else error("not one JSON value") end' <<<"$said"); then
            bus_send "{\"type\": \"response\", \"requestId\": $1, \"success\": true, \"data\": $said}"
            return
        fi
        said="the answer of $name is not JSON"
    fi
    said=$(jq -cs 'if length == 1 then first else error end' <<<"$said" 2>/dev/null || jq -Rs . <<<"$said")
    bus_send "{\"type\": \"response\", \"requestId\": $1, \"success\": false, \"error\": $said}"
}

bus_dial "$BKG_PLUGIN_BUS_PORT"
bus_send "$(jq -cn --arg plugin "$BKG_PLUGIN_NAME" \
    '{type: "register", $plugin, port: "internal", version: "0.1.0", capabilities: $ARGS.positional}' \
    --args "${!capabilities[@]}")"

next_beat=$SECONDS
while true; do
    if ((SECONDS >= next_beat)); then
        bus_send "{\"type\": \"health\", \"plugin\": \"$BKG_PLUGIN_NAME\", \"status\": \"up\"}"
        next_beat=$((SECONDS + 10))
    fi
    bus_receive $((next_beat - SECONDS > 0 ? next_beat - SECONDS : 1)) || continue
    # One line for each: `jq -c` puts a payload on one line, and JSON text has no line breaks.
    # shellcheck disable=SC2154 # `bus_receive` sets it.
    { read -r type && read -r id && read -r capability && read -r payload; } < <(
        jq -c '.type, .requestId, .capability, .payload' <<<"$message"
    ) || continue
    if [[ $type == '"request"' ]]; then
        answer "$id" "$capability" "$payload"
    fi
done
