"""A WebSocket client (RFC 6455) of the standard library alone, for plugins that must not use a library.

It is not a good citizen by itself: `send_frame` writes any opcode, masked or not, so that a test can
put bytes on the wire that no library would. It answers pings unless told otherwise, and it keeps one
invariant: frames are written whole, one after the other, by whichever task writes first.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import struct
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
# Section 1.3 of the RFC: what both sides append to the key before hashing it.
ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """The upgrade was answered with something other than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the upgrade was answered with status {status}")
        self.status = status


class Closed(Exception):
    """The conversation is over; 1006 stands for a socket that was lost without a close frame."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket:
    """One open conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answers_pings = True
        self.answers_closes = True

    @classmethod
    async def connect(cls, url: str, headers: dict[str, str] | None = None) -> "WebSocket":
        """Dials `ws://host:port/path` and upgrades; raises `Refused` with the status otherwise."""
        target = urlsplit(url)
        if target.scheme != "ws" or target.hostname is None:
            raise ValueError(f"`{url}` is not a ws:// address")
        reader, writer = await asyncio.open_connection(target.hostname, target.port or 80)
        key = base64.b64encode(os.urandom(16))
        lines = {
            "Host": target.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"GET {target.path or '/'} HTTP/1.1\r\n{head}\r\n".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(answer.split(" ", 2)[1])
        expected = base64.b64encode(hashlib.sha1(key + ACCEPT_SUFFIX).digest()).decode()
        if status != 101 or expected not in answer:
            writer.close()
            raise Refused(status)
        return cls(reader, writer)

    async def send_frame(self, opcode: int, payload: bytes, *, masked: bool = True) -> None:
        """Writes one final frame and waits until the socket takes more."""
        head = _head(opcode, len(payload), masked=masked)
        if masked:
            mask = os.urandom(4)
            head += mask
            payload = _exclusive_or(payload, mask)
        self.writer.write(head + payload)
        try:
            await self.writer.drain()
        except ConnectionError:
            raise Closed(1006) from None

    async def send_text(self, text: str) -> None:
        """Writes one text frame."""
        await self.send_frame(TEXT, text.encode())

    async def receive_text(self) -> str:
        """The next text message; pings are answered on the way, a close raises `Closed`."""
        message = b""
        while True:
            final, opcode, payload = await self._read_frame()
            if opcode == PING:
                if self.answers_pings:
                    await self.send_frame(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                if self.answers_closes:
                    with contextlib.suppress(Closed):
                        await self.send_frame(CLOSE, payload[:2])
                    self.writer.close()
                else:
                    self.abort()
                raise Closed(code, payload[2:].decode(errors="replace"))
            elif opcode != PONG:
                message += payload
                if final:
                    return message.decode()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye with `code` and drops the socket without waiting for the answer."""
        try:
            await self.send_frame(CLOSE, struct.pack("!H", code) + reason.encode())
        except Closed:
            return  # The other side was faster.
        finally:
            self.writer.close()

    def abort(self) -> None:
        """Drops the socket without a word."""
        self.writer.transport.abort()

    async def _read_frame(self) -> tuple[bool, int, bytes]:
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return bool(first & 0x80), first & 0x0F, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(1006) from None


def masked_with_zero(opcode: int, payload: bytes) -> bytes:
    """A whole final frame whose mask is zero, for floods: the payload stays as it is."""
    return _head(opcode, len(payload), masked=True) + bytes(4) + payload


def _head(opcode: int, size: int, *, masked: bool) -> bytes:
    """The head of a final frame, up to its mask."""
    flag = 0x80 if masked else 0
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, flag | size)
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, flag | 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, flag | 127, size)


def _exclusive_or(payload: bytes, mask: bytes) -> bytes:
    """The payload under the mask; as one big number, because a byte at a time takes seconds for 16 MiB."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
