#!/bin/sh
# The program is a child of this shell, which waits for it and passes no signal on. It stays where the link
# is lost, so that nothing but a signal ends it.
sh -c 'echo "$$" > "$BKG_PLUGIN_DATA_DIR/program.pid"; exec python3 -uB redials_at_once.py' &
wait "$!"
