"""Sends both `data` and `error`, whatever the outcome; an error is a bare text."""

from typing import Any

from base_plugin import Bus


class Both(Bus):
    def answer(self, request: dict[str, Any]) -> None:
        wanted = {"success": None, "data": None, "error": None, **request["payload"]}
        self.say("response", requestId=request["requestId"], **wanted)


bus = Both()
bus.offer()
bus.serve()
