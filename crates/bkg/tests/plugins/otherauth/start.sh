#!/bin/sh
# No virtual environment: the plugin needs nothing but the standard library.
exec "${BKG_TEST_PYTHON:-python3}" -uB otherauth.py
