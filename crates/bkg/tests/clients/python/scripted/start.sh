#!/bin/sh
# No virtual environment: the interpreter of the tests has what the SDK needs.
export PYTHONPATH="${BKG_TEST_SDK:?the harness of the tests names the sources of the SDK}"
exec "${BKG_TEST_PYTHON:-python3}" -uB main.py
