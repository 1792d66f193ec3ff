#!/bin/sh
exec "${BKG_TEST_PYTHON:-python3}" -uB ledger.py
