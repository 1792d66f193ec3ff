#!/usr/bin/env bash
# The client's side of a WebSocket (RFC 6455) in bash alone, as far as the plugin bus needs it.
#
# It dials, sends text frames of any length, puts fragments together, answers pings and reads the close
# frame. It knows nothing of plugins. One process alone reads and writes the socket, descriptor 3, so
# that frames stay whole. Whoever sources this calls `bus_dial`, `bus_send` and `bus_receive`.

# Every byte is one character: `${#text}` then counts bytes, as frames do, and `read -N` takes bytes.
export LC_ALL=C
# A socket that is gone makes a write fail; without this it would end the plugin without a word.
trap '' PIPE

# The last message that `bus_receive` put together, and the fragments of one that is not complete.
message='' fragments=''

# Says why the conversation is over and ends the plugin. The code is not 0: the host starts it again.
bus_lost() { # reason
    echo "the bus is gone: $1" >&2
    exit 1
}

# Opens the conversation with the host.
bus_dial() { # port
    local key line
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    key=$(head -c 16 /dev/urandom | base64)
    printf '%s\r\n' 'GET / HTTP/1.1' "Host: 127.0.0.1:$1" 'Upgrade: websocket' 'Connection: Upgrade' \
        "Sec-WebSocket-Key: $key" 'Sec-WebSocket-Version: 13' '' >&3
    IFS= read -r -t 10 line <&3 || bus_lost 'the upgrade was not answered within 10 s'
    # The answer also proves that it was made for this key, which tells a WebSocket server from a cache
    # in between. On loopback nothing is in between, so the status is enough.
    [[ $line == 'HTTP/1.1 101 '* ]] || bus_lost "the upgrade was answered with ${line%$'\r'}"
    while [[ $line != $'\r' ]]; do
        IFS= read -r -t 10 line <&3 || bus_lost 'the answer to the upgrade has no end'
    done
}

# Sends one text message in one frame.
#
# A client has to mask what it sends with a key of four bytes. This key is four zeros, which leave the
# text as it is: a server cannot tell, since it only undoes what the key says. Unpredictable keys keep
# a page in a browser from making a proxy read its bytes as HTTP; here is neither browser nor proxy.
bus_send() { # text
    local size=${#1} length
    if ((size < 126)); then
        printf -v length '\\x%02x' $((0x80 | size))
    elif ((size < 1 << 16)); then
        printf -v length '\\xfe\\x%02x\\x%02x' $((size >> 8)) $((size & 255))
    else
        printf -v length '\\xff\\0\\0\\0\\0\\x%02x\\x%02x\\x%02x\\x%02x' \
            $((size >> 24 & 255)) $((size >> 16 & 255)) $((size >> 8 & 255)) $((size & 255))
    fi
    printf '%b%s' "\\x81$length\\0\\0\\0\\0" "$1" >&3 || bus_lost 'nothing can be written'
}

# Reads one frame. Succeeds if it completed a message, which is then in `message`. Fails if nothing
# came within the seconds, or only a ping or a part of a message: ask again.
bus_receive() { # seconds, more than 0
    local first size octets byte part='' status=0
    read_byte "$1" || status=$?
    ((status <= 128)) || return 1 # `read` timed out.
    ((status == 0)) || bus_lost 'the host closed the socket'
    first=$byte
    # A server does not mask, so this byte is the length, or says how many bytes of length follow.
    read_byte || bus_lost 'a frame has no length'
    size=$byte octets=0
    ((byte != 126)) || size=0 octets=2
    ((byte != 127)) || size=0 octets=8
    for (( ; octets > 0; octets--)); do
        read_byte || bus_lost 'a frame has half a length'
        size=$((size << 8 | byte))
    done
    if ((first & 0x08)); then
        heed_control $((first & 0x0f)) "$size"
        return 1
    fi
    if ((size > 0)); then
        IFS= read -r -N "$size" part <&3 || bus_lost 'a frame is not complete'
    fi
    fragments+=$part
    ((first & 0x80)) || return 1 # More fragments follow.
    # shellcheck disable=SC2034 # Whoever sources this reads it.
    message=$fragments fragments=''
}

# Answers a ping, ends with a close; a pong means nothing, as nobody here pings.
heed_control() { # opcode, size
    local body='' code=0 index byte escaped
    for ((index = 0; index < $2; index++)); do
        read_byte || bus_lost 'a control frame is not complete'
        ((index > 1)) || code=$((code << 8 | byte))
        printf -v escaped '\\x%02x' "$byte"
        body+=$escaped
    done
    case $1 in
    8) # Answered in kind, with the code alone: 0x82 is the mask's bit and two bytes.
        printf '%b' "\\x88\\x82\\0\\0\\0\\0${body:0:8}" >&3
        printf -v body '%b' "${body:8}"
        bus_lost "the host closed with $code${body:+: $body}"
        ;;
    9)
        printf -v escaped '\\x%02x' $((0x80 | $2))
        printf '%b' "\\x8a$escaped\\0\\0\\0\\0$body" >&3
        ;;
    esac
}

# Reads one byte and puts its value into the caller's `byte`. No variable of bash holds a zero byte:
# here it is the delimiter, which reads as nothing at all.
read_byte() { # [seconds]
    local character
    IFS= read -r -d '' -n 1 ${1:+-t "$1"} character <&3 || return
    printf -v byte '%d' "'$character"
    byte=$((byte & 255)) # Some systems number the upper half otherwise.
}
