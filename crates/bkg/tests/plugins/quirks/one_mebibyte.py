"""Drops the link without a word when a frame is larger than 1 MiB, or than `limit` of the settings.

`quirk.ask` asks for another capability, so that a large answer comes its way.
"""

import sys
from typing import Any

from base_plugin import SETTINGS, Bus, note

LIMIT = SETTINGS.get("limit", 1 << 20)


class Limited(Bus):
    def heed_size(self, size: int) -> None:
        if size > LIMIT:
            note(f"a frame of {size} bytes")
            self.socket.close()
            sys.exit(1)


def ask(payload: Any) -> Any:
    bus.say("request", requestId="large", **payload)
    return bus.receive()


bus = Limited()
bus.offer({"quirk.ask": ask})
bus.serve()
