"""Stops reading for ever when a ping comes, and goes on living."""

import signal

from base_plugin import Bus, note


class Wedging(Bus):
    def heed_ping(self, payload: bytes) -> None:
        note("ping")
        while True:
            signal.pause()


bus = Wedging()
bus.offer()
bus.serve()
