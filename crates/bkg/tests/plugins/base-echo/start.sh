#!/bin/sh
# Needs the package `websockets`; the tests name an interpreter that has it.
exec "${BKG_TEST_PYTHON:-python3}" -uB base_echo.py
