#!/bin/sh
echo "cannot start: the flux capacitor is missing" >&2
exit 3
