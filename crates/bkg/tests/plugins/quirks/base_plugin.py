"""A base plugin on the standard library alone, for quirks to be added to; by itself it has none.

It is strictly serial. Every quirk is a file beside this one that makes a `Bus`, offers its own
capabilities and serves. Two are always there: `quirk.echo`, and `quirk.seen`, which tells what
the host has sent. Unlike a library it shows pings and closes, and never answers one unless told to.
"""

import base64
import json
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
DATA = Path(os.environ["BKG_PLUGIN_DATA_DIR"])
ENTRY = json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())
SETTINGS = ENTRY["settings"]
PLUGIN: str = os.environ["BKG_PLUGIN_NAME"]

Answer = Callable[[Any], Any]


class Closed(Exception):
    """The conversation is over; 1006 stands for a socket that was lost without a close frame."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Failure(Exception):
    """What a capability raises to fail with this as `error`."""


def note(line: str) -> None:
    """Writes a line where the test reads it."""
    with (DATA / "notes").open("a") as notes:
        notes.write(line + "\n")


class Bus:
    """One conversation, and the counts of what came in it."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}
        self.socket = socket.create_connection(("127.0.0.1", int(os.environ["BKG_PLUGIN_BUS_PORT"])))
        self.reader = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            "GET / HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        try:
            self.socket.sendall("\r\n".join([*head, "", ""]).encode())
            while self.reader.readline() not in (b"\r\n", b""):
                pass
        except ConnectionError:
            raise Closed(1006) from None

    def offer(self, answers: dict[str, Answer] | None = None, **fields: Any) -> None:
        """Registers with these capabilities, and with whatever else `register` is to hold."""
        always: dict[str, Answer] = {
            "quirk.echo": lambda payload: payload,
            "quirk.seen": lambda _: dict(self.types),
        }
        self.answers = {**always, **(answers or {})}
        register = {"plugin": PLUGIN, "port": "internal", "capabilities": list(self.answers), **fields}
        self.say("register", **register)

    def say(self, kind: str, **fields: Any) -> None:
        """Sends one message."""
        self.write(TEXT, json.dumps({"type": kind, **fields}).encode())

    def write(self, opcode: int, payload: bytes) -> None:
        """Sends one frame; its mask is zero, which leaves the payload as it is."""
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        try:
            self.socket.sendall(head + bytes(4) + payload)
        except ConnectionError:
            raise Closed(1006) from None

    def heed_size(self, size: int) -> None:
        """Called with the size of a frame before it is read."""

    def heed_ping(self, payload: bytes) -> None:
        """Called when the host pings, which it must not."""
        note("ping")

    def read(self) -> tuple[int, bytes]:
        """The next frame; a close raises `Closed`."""
        first, size = self._take(2)
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        self.heed_size(size)
        payload = self._take(size)
        opcode = first & 0x0F
        if opcode == PING:
            self.types["(ping)"] += 1
            self.heed_ping(payload)
        if opcode == CLOSE:
            raise Closed(struct.unpack("!H", payload[:2])[0] if payload else 1005)
        return opcode, payload

    def receive(self) -> dict[str, Any]:
        """The next message."""
        while True:
            opcode, payload = self.read()
            if opcode == TEXT:
                message: dict[str, Any] = json.loads(payload)
                self.types[message["type"]] += 1
                return message

    def serve(self) -> None:
        """Answers one request after the other until the conversation is over."""
        while True:
            message = self.receive()
            if message["type"] == "request":
                self.answer(message)

    def answer(self, request: dict[str, Any]) -> None:
        result: dict[str, Any]
        try:
            result = {"success": True, "data": self.answers[request["capability"]](request["payload"])}
        except Failure as failure:
            result = {"success": False, "error": failure.args[0]}
        self.say("response", requestId=request["requestId"], **result)

    def _take(self, size: int) -> bytes:
        try:
            taken = self.reader.read(size)
        except ConnectionError:
            taken = b""
        if len(taken) < size:
            raise Closed(1006)
        return taken
