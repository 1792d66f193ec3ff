"""The client's side of a WebSocket (RFC 6455), as far as the plugin bus needs it; standard library alone.

It knows nothing of plugins. Messages are read and written whole; a thread that writes does not need to
be the one that reads.
"""

import base64
import hashlib
import os
import socket
import struct
import threading

CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
# Section 1.3 of the RFC: what both sides append to the key before they hash it.
ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Closed(Exception):
    """The conversation is over; the text says why."""


class WebSocket:
    """One conversation with the host, from the upgrade on."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._reader = self._socket.makefile("rb")
        self._writing = threading.Lock()
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        head = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", *upgrade, f"Sec-WebSocket-Key: {key}", "", ""]
        self._socket.sendall("\r\n".join(head).encode())
        status, *headers = [line.strip().decode("latin-1") for line in iter(self._reader.readline, b"\r\n")]
        accept = base64.b64encode(hashlib.sha1((key + ACCEPT_SUFFIX).encode()).digest()).decode()
        if " 101 " not in status or f"sec-websocket-accept: {accept}".lower() not in map(
            str.lower, headers
        ):
            raise Closed(f"the upgrade was answered with {status}")
        self._socket.settimeout(None)

    def send(self, text: str) -> None:
        """Sends one message in one frame."""
        self._write(TEXT, text.encode())

    def receive(self) -> str:
        """The next message, its fragments put together; pings are answered on the way."""
        message = b""
        while True:
            first, size = self._read(2)
            if size == 126:
                (size,) = struct.unpack("!H", self._read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._read(8))
            opcode, payload = first & 0x0F, self._read(size)
            if opcode == PING:
                self._write(PONG, payload)
            elif opcode == CLOSE:
                self._write(CLOSE, payload[:2])
                code = int.from_bytes(payload[:2], "big")
                raise Closed(f"the host closed with {code}: {payload[2:].decode()}")
            elif opcode in (TEXT, CONTINUATION):
                message += payload
                if first & 0x80:
                    return message.decode()

    def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        # A client masks with four bytes. Zeros leave the payload as it is; unpredictable ones keep a web
        # page from making a proxy read its bytes as HTTP, and here is neither page nor proxy.
        with self._writing:
            self._socket.sendall(head + bytes(4) + payload)

    def _read(self, size: int) -> bytes:
        read = self._reader.read(size)
        if len(read) < size:
            raise Closed("the host dropped the link")
        return read
