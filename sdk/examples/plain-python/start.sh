#!/bin/sh
# Python 3.11 or newer, without any package.
exec python3 -uB plugin.py
