#!/bin/sh
# No exec: the shell stays as the parent, so that a stop must reach both processes.
sleep 100000
