"""Text frames over one WebSocket: hands on what comes, and writes what waits, whenever the socket allows.

Knows nothing of the protocol. Reading never waits for writing, so two peers with full sockets cannot lock
each other. Frames are taken one by one, only while the socket takes them, so that urgent ones overtake;
many small ones leave in one packet. Used by the connection, and by the test host for the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import CLIENT, SERVER, Protocol
from websockets.uri import parse_uri

MAX_READ = 64 << 20
"""The largest frame that is read, in bytes. The host bounds what it sends far below; this guards against a
broken length."""
WRITE_BUFFER = 32 << 10
"""How many bytes are gathered before they are handed to the socket, and how many may wait there."""
CLOSE_WITHIN = 1.0
"""How long the peer may take to answer our close, in seconds."""

# What the library logs of frames would come round again as log lines, secrets included.
_silent = logging.getLogger("bkg_sdk.websocket")
_silent.disabled = True


@dataclass(frozen=True)
class Closed:
    """The peer closed it, with a code and a reason."""

    code: int
    reason: str


@dataclass(frozen=True)
class Lost:
    """It broke."""

    reason: str


Gone: TypeAlias = Closed | Lost
"""How a socket ended."""


class Wire(asyncio.Protocol):
    """One WebSocket; `attend` says who listens."""

    def __init__(self, websocket: Protocol) -> None:
        self._websocket = websocket
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._backlog: list[bytes] = []
        self._heard: Callable[[bytes], None] | None = None
        self._lost: Callable[[Gone], None] | None = None
        self._next_frame: Callable[[], bytes | None] = lambda: None
        self._written: Callable[[], None] = lambda: None
        self._is_paused = False
        self._is_awake = False
        self._gone: Gone | None = None
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._upgraded: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] = loop.create_future()

    @classmethod
    def client(cls, url: str) -> Wire:
        """The dialling side, which upgrades first."""
        return cls(ClientProtocol(parse_uri(url), max_size=MAX_READ, logger=_silent))

    @classmethod
    def without_upgrade(cls, *, is_server: bool) -> Wire:
        """One side of a link in memory, which is a WebSocket from its first byte."""
        return cls(Protocol(SERVER if is_server else CLIENT, max_size=MAX_READ, logger=_silent))

    def attend(
        self,
        *,
        heard: Callable[[bytes], None],
        lost: Callable[[Gone], None],
        next_frame: Callable[[], bytes | None],
        written: Callable[[], None],
    ) -> None:
        """Who hears of frames and of the end, who has frames to write, and who wants to know that they
        left."""
        self._heard, self._lost, self._next_frame, self._written = heard, lost, next_frame, written
        backlog, self._backlog = self._backlog, []
        for frame in backlog:
            heard(frame)
        if self._gone is not None:
            lost(self._gone)
        self.wake()

    async def upgrade(self) -> None:
        """Makes the TCP connection a WebSocket. Raises `ConnectionError` with one sentence."""
        websocket = cast("ClientProtocol", self._websocket)
        self._upgraded = self._loop.create_future()
        websocket.send_request(websocket.connect())
        self._flush()
        await self._upgraded

    def wake(self) -> None:
        """There may be something to write; it leaves with whatever else comes in this turn of the loop."""
        if not self._is_awake and not self._is_paused:
            self._is_awake = True
            self._loop.call_soon(self._write)

    def write_raw(self, *frames: bytes) -> None:
        """Writes frames past everything that waits: for the test host."""
        for frame in frames:
            self._websocket.send_text(frame)
        self._flush()

    def is_flushed(self) -> bool:
        """Whether everything that was taken has left."""
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def flush_eagerly(self) -> None:
        """From now on, tells when everything has left: the end waits for it."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)

    async def close(self, code: int, reason: str) -> None:
        """Closes with a code, and waits a moment for the peer to close too."""
        if self._gone is None:
            self._websocket.send_close(code, reason)
            self._flush()
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await asyncio.shield(self._ended)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Ends it without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def ended(self) -> None:
        """Waits until the socket is gone."""
        await asyncio.shield(self._ended)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._websocket.receive_data(data)
        self._take_events()

    def eof_received(self) -> bool:
        """The peer writes no more; neither do we."""
        self._websocket.receive_eof()
        self._take_events()
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        """The socket is gone."""
        self._transport = None
        reason = "the connection ended" if problem is None else str(problem)
        if self._upgraded is not None and not self._upgraded.done():
            self._upgraded.set_exception(ConnectionError(reason))
        self._end(Lost(reason))
        if not self._ended.done():
            self._ended.set_result(None)

    def pause_writing(self) -> None:
        """The socket is full."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._is_paused = False
        self.wake()

    def _take_events(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Response):
                self._take_upgrade()
            elif isinstance(event, Frame):
                self._take_frame(event)
        failure = self._websocket.parser_exc
        if failure is not None and not isinstance(failure, EOFError):
            self._end(Lost(str(failure)))
        self._flush()
        if self._websocket.close_expected() and self._transport is not None:
            self._transport.close()

    def _take_upgrade(self) -> None:
        refusal = self._websocket.handshake_exc
        if self._upgraded is None or self._upgraded.done():
            return
        if refusal is None:
            self._upgraded.set_result(None)
        else:
            self._upgraded.set_exception(ConnectionError(str(refusal)))

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = self._websocket.close_rcvd
            self._end(Closed(1005, "") if close is None else Closed(int(close.code), close.reason))
            return
        # The protocol has text frames only, and what it does not know it ignores.
        if frame.opcode is Opcode.TEXT:
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._parts:
            self._parts.append(bytes(frame.data))
        else:
            return
        if not frame.fin:
            return
        text, self._parts = b"".join(self._parts), []
        if self._gone is not None:
            return
        if self._heard is None:
            self._backlog.append(text)
        else:
            self._heard(text)

    def _end(self, gone: Gone) -> None:
        if self._gone is not None:
            return
        self._gone = gone
        if self._lost is not None:
            self._lost(gone)

    def _write(self) -> None:
        self._is_awake = False
        gathered = 0
        while not self._is_paused and self._gone is None:
            frame = self._next_frame()
            if frame is None:
                break
            self._websocket.send_text(frame)
            gathered += len(frame)
            if gathered >= WRITE_BUFFER:
                self._flush()
                gathered = 0
        self._flush()
        self._written()

    def _flush(self) -> None:
        data = self._websocket.data_to_send()
        if self._transport is None:
            return
        # An empty piece stands for the end of what is written.
        text = b"".join(data)
        if text and not self._transport.is_closing():
            self._transport.write(text)
        if b"" in data and self._websocket.close_sent is not None and self._gone is not None:
            with contextlib.suppress(OSError, NotImplementedError):
                self._transport.close()
