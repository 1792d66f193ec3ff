#!/bin/sh
# A build that takes as long as the test wants: it ends when somebody opens the pipe for writing.
mkfifo "$BKG_PLUGIN_DATA_DIR/built"
cat "$BKG_PLUGIN_DATA_DIR/built"
exec python3 -uB echo.py
