"""Pings the host itself, and wants its own bytes back."""

from typing import Any

from base_plugin import PING, PONG, Bus


def ping(payload: Any) -> Any:
    bus.write(PING, payload.encode())
    opcode, said = bus.read()
    return said.decode() if opcode == PONG else None


bus = Bus()
bus.offer({"quirk.ping": ping})
bus.serve()
