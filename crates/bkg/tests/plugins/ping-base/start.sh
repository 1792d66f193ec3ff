#!/bin/sh
# Needs the package `websockets`; the tests name an interpreter that has it.
set -eu
cd -P -- "$(dirname -- "$0")"
exec "${BKG_TEST_PYTHON:-python3}" -uB ping_base.py
