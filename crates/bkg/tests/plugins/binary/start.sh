#!/bin/sh
# Every byte value, a line without an end, and an escape sequence that would clear a terminal.
head -c 65536 /dev/urandom
printf '\033[2J\033]0;title\007\000\377\376'
exec sleep 100000
