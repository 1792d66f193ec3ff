#!/usr/bin/env bash
# A base plugin in bash and `jq`: registers, beats every 10 s, logs, and answers one request at a time.
#
# It is written from docs/protocol.md alone, sections 1 to 4. What does not fit one request at a time,
# streams and cancels, is the extended contract's and not here.
set -uo pipefail
# The host starts a plugin in its own folder.
# shellcheck source-path=SCRIPTDIR
source ./websocket.sh

name=$BKG_PLUGIN_NAME
greeting=$(jq -r '.settings.greeting // "Hello"' "$BKG_PLUGIN_CONFIG_PATH") || exit 1

# A capability is a function: its argument is the payload, what it prints is the answer, as JSON. If it
# fails, what it prints is the error: a text, or an object with `code` and `message`.
greet() { # payload
    if ! jq -e '(.name? | type) == "string" and .name != ""' <<<"$1" >/dev/null; then
        jq -cn '{code: "invalid_request", param: "name",
            message: "`name` is no text, or empty: send a payload such as {\"name\": \"Ada\"}"}'
        return 1
    fi
    jq -c --arg greeting "$greeting" '{greeting: "\($greeting), \(.name)!"}' <<<"$1"
}

# Answers exactly once, whatever happens to the function.
answer() { # request id as JSON, capability as JSON, payload as JSON
    local said
    case $2 in
    '"greeter.greet"') said=$(greet "$3") ;;
    *) said="{\"code\": \"not_found\", \"message\": \"this plugin does not offer it\"}" && false ;;
    esac
    case $? in
    0) bus_send "{\"type\": \"response\", \"requestId\": $1, \"success\": true, \"data\": ${said:-null}}" ;;
    *) bus_send "{\"type\": \"response\", \"requestId\": $1, \"success\": false, \"error\": ${said:-\"failed\"}}" ;;
    esac
}

log() { # level, message
    bus_send "$(jq -cn --arg plugin "$name" --arg level "$1" --arg message "$2" \
        '{type: "log", $plugin, $level, $message}')"
}

bus_dial "$BKG_PLUGIN_BUS_PORT"
bus_send "$(jq -cn --arg plugin "$name" \
    '{type: "register", $plugin, port: "internal", version: "1.0.0", capabilities: ["greeter.greet"]}')"
log info 'ready'

next_beat=$SECONDS
while true; do
    if ((SECONDS >= next_beat)); then
        bus_send "{\"type\": \"health\", \"plugin\": \"$name\", \"status\": \"up\"}"
        next_beat=$((SECONDS + 10))
    fi
    bus_receive $((next_beat - SECONDS > 0 ? next_beat - SECONDS : 1)) || continue
    # One line for each: an id and a name without line breaks, and a payload that `jq -c` put on one.
    # Numbers of more than 17 digits lose some in `jq`.
    { read -r type && read -r id && read -r capability && read -r payload; } < <(
        jq -c '.type, .requestId, .capability, .payload' <<<"$message"
    ) || continue
    if [[ $type == '"request"' ]]; then
        answer "$id" "$capability" "$payload"
    fi
done
