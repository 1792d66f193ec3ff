#!/bin/sh
exec yes "a line of a plugin that never stops talking, on and on and on and on and on and on"
