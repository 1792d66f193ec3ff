"""Dials again without any delay when it was closed with a code of `redialsOn`; else it only stays.

It notes every code that it was closed with, and when. `offence` is what it does to be closed; with
`ignoresTerm` it outlives the request to end.
"""

import json
import signal
import time

from base_plugin import SETTINGS, TEXT, Bus, Closed, note

REDIALS_ON = SETTINGS.get("redialsOn", [1000, 1001])
OFFENCE = SETTINGS.get("offence")

if SETTINGS.get("ignoresTerm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def converse() -> None:
    bus = Bus()
    if OFFENCE == "first-frame":
        bus.say("health", status="up")
    if OFFENCE == "unlisted":
        bus.offer(capabilities=["not.listed"])
    else:
        bus.offer()
    if OFFENCE == "second-register":
        bus.offer()
    if OFFENCE == "garbage":
        for _ in range(200):
            bus.write(TEXT, b"{")
    if OFFENCE == "huge":
        bus.write(TEXT, json.dumps("x" * (17 << 20)).encode())
    if OFFENCE == "newer":
        newer = Bus()
        newer.offer()
    bus.serve()


while True:
    try:
        converse()
    except Closed as closed:
        note(f"{closed.code} {time.monotonic()}")
        while closed.code not in REDIALS_ON:
            signal.pause()
