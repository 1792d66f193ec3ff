"""Asks the host for capabilities of others, naming nobody, and always under the same id.

It answers what it is asked while it waits, so that it can be asked by those whom it asks.
"""

from typing import Any

from base_plugin import Bus


def ask(payload: Any) -> Any:
    bus.say("request", requestId="1", **payload)
    while True:
        message = bus.receive()
        if message["type"] == "response":
            return message
        bus.answer(message)


bus = Bus()
bus.offer({"quirk.ask": ask})
bus.serve()
