"""A base plugin on the standard library alone: registers, beats every 10 s, logs, and answers.

Each request is answered in a thread of its own, so that a slow one keeps nobody waiting, and beats go
on meanwhile. It is written from docs/protocol.md alone, sections 1 to 4.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from websocket import Closed, WebSocket

NAME = os.environ["BKG_PLUGIN_NAME"]
SETTINGS = json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())["settings"]
BEAT_EVERY = 10  # seconds


class Failure(Exception):
    """What a capability raises: the caller is told this code and message."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **more}


class Bus:
    """The session with the host. A capability is a function from the payload to the answer."""

    def __init__(self, answers: dict[str, Callable[[Any], Any]]) -> None:
        self._answers = answers
        self._socket = WebSocket(int(os.environ["BKG_PLUGIN_BUS_PORT"]))
        self._say("register", port="internal", version="1.0.0", capabilities=list(answers))

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Writes a line into the plugin's log; the host adds the time."""
        self._say("log", level=level, message=message, fields=fields)

    def serve(self) -> None:
        """Reads what the host says until the session is over, which raises `Closed`."""
        threading.Thread(target=self._beat, daemon=True).start()
        with ThreadPoolExecutor(max_workers=16) as workers:
            while True:
                message = json.loads(self._socket.receive())
                # Any other type answers a question, and none is asked here, or is of a newer host.
                if message["type"] == "request":
                    workers.submit(self._answer, message)

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # The thread that reads says what became of the link.
            while True:
                self._say("health", status="up")
                time.sleep(BEAT_EVERY)

    def _answer(self, request: dict[str, Any]) -> None:
        """Answers exactly once, whatever happens to the function."""
        capability, answer = request["capability"], {"requestId": request["requestId"], "success": False}
        try:
            data = self._answers[capability](request["payload"])
            json.dumps(data)  # What is no JSON fails here, while it can still be said.
            answer.update(success=True, data=data)
        except Failure as failure:
            answer.update(error=failure.error)
        except Exception as bug:
            answer.update(error=f"`{capability}` failed: {bug!r}")
        self._say("response", **answer)

    def _say(self, kind: str, **members: Any) -> None:
        self._socket.send(json.dumps({"type": kind, "plugin": NAME, **members}))


def greet(payload: Any) -> dict[str, str]:
    name = payload.get("name") if isinstance(payload, dict) else None
    if not isinstance(name, str) or not name:
        message = '`name` is no text, or empty: send a payload such as {"name": "Ada"}'
        raise Failure("invalid_request", message, param="name")
    return {"greeting": f"{SETTINGS.get('greeting', 'Hello')}, {name}!"}


if __name__ == "__main__":
    try:
        bus = Bus({"greeter.greet": greet})
        bus.log("info", "ready", python=sys.version.split()[0])
        bus.serve()
    except (Closed, OSError) as problem:
        # The host starts a plugin again that ends with another code than 0.
        sys.exit(f"the bus is gone: {problem}")
