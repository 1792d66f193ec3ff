#!/bin/sh
exec python3 -uB echo.py
