#!/bin/sh
# Twice away from its parent, in a session of its own, with its own descriptors: nothing but the
# environment and the subreaper still tell whose child it is.
setsid sh -c 'sleep 100000 & exec sleep 100000' </dev/null >/dev/null 2>&1 &
echo "the child is on its own now"
exit 0
