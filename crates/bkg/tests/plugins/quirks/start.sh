#!/bin/sh
exec python3 -uB "$BKG_QUIRK.py"
