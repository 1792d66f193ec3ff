#!/usr/bin/env bash
# Calls the functions of capabilities.sh as the plugin does: no daemon, no socket. Ends with 1 if one
# of them answers something else.
#
# shellcheck disable=SC2016 # Backticks are text here.
set -uo pipefail
cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1
# shellcheck source-path=SCRIPTDIR
source ./capabilities.sh

failed=0
expect() { # what is shown, function, payload, the answer or the error
    local said
    said=$("$2" "$3")
    if [[ $said == "$4" ]]; then
        echo "ok    $1"
    else
        echo "FAILS $1: $said"
        failed=1
    fi
}

expect 'a guest is greeted' greet '{"name":"Ada"}' '{"greeting":"hello Ada"}'
greeting=salut
expect 'the word comes from the settings' greet '{"name":"Ada"}' '{"greeting":"salut Ada"}'
expect 'nobody is not greeted' greet '{}' \
    '{"code":"invalid_request","message":"`name` is no text, or empty: say whom to greet","param":"name"}'
expect 'numbers are added' add '{"numbers":[1,2.5]}' '{"sum":3.5}'
expect 'no numbers are nothing' add '{"numbers":[]}' '{"sum":0}'
expect 'a text is no number' add '{"numbers":["1"]}' \
    '{"code":"invalid_request","message":"`numbers` is no list of numbers","param":"numbers"}'
exit $failed
