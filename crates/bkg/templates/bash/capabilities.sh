#!/usr/bin/env bash
# What `my-plugin` answers: one function for each capability, and nothing about the bus.
#
# A function gets the payload as its argument and prints the answer, both as JSON on one line. If it
# fails, what it printed is the error: a text, or an object with `code` and `message`. Standard error
# is the plugin's log. plugin.sh and test.sh source this.
#
# shellcheck disable=SC2016,SC2034 # Backticks are text here; the table is read by plugin.sh.

# The setting that an operator can change: `config.json` holds its default, `plugin.json` the schema.
greeting=hello

# Which function answers which capability.
declare -A capabilities=(
    [my-plugin.greet]=greet
    [my-plugin.add]=add
)

# {"name": "Ada"} is answered with {"greeting": "hello Ada"}.
greet() { # payload
    if ! jq -e '(.name? | type) == "string" and .name != ""' <<<"$1" >/dev/null; then
        invalid name '`name` is no text, or empty: say whom to greet'
        return 1
    fi
    jq -c --arg greeting "$greeting" '{greeting: "\($greeting) \(.name)"}' <<<"$1"
}

# {"numbers": [1, 2]} is answered with {"sum": 3}.
add() { # payload
    if ! jq -e '.numbers? | type == "array" and all(type == "number")' <<<"$1" >/dev/null; then
        invalid numbers '`numbers` is no list of numbers'
        return 1
    fi
    jq -c '{sum: (.numbers | add // 0)}' <<<"$1"
}

# The error for a payload that does not fit: its caller sees a 400.
invalid() { # member, message
    jq -cn --arg param "$1" --arg message "$2" '{code: "invalid_request", $message, $param}'
}
