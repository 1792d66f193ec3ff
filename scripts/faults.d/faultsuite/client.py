"""The ledger client: asks, gives every call an id of its own, and writes down how each one ended.

HTTP/1.1 over sockets that are kept, parsed by h11; no retry of any kind, since that is what hides faults.
An outcome is what a client can know: what the host owes is judged in `oracle`.
"""

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import h11

READ = 64 << 10


def now_ms() -> float:
    """Milliseconds on CLOCK_MONOTONIC, which plugins read too."""
    return time.monotonic_ns() / 1e6


class Outcome(StrEnum):
    """How a call ended. The first four are definite; a client that left asked for nothing more."""

    ANSWERED = "answered"
    COMPLETE = "complete"
    REFUSED = "refused"
    BROKEN = "broken"  # A stream that ended with an error event.
    LEFT = "left"  # The client's own doing.
    LOST = "lost"  # The connection ended without an outcome.
    SILENT = "silent"  # Nothing came while the client had patience.
    GARBLED = "garbled"  # Something that no outcome may look like; `detail` says what.


DEFINITE = {Outcome.ANSWERED, Outcome.COMPLETE, Outcome.REFUSED, Outcome.BROKEN}
ACKNOWLEDGED = {Outcome.ANSWERED, Outcome.COMPLETE}


@dataclass
class Call:
    """One call, from its first byte to its outcome. Times are in milliseconds on CLOCK_MONOTONIC."""

    id: str
    plugin: str
    sent: float
    idempotent: bool = False
    ended: float | None = None
    outcome: Outcome | None = None
    status: int = 0
    code: str = ""
    retry_after: str | None = None
    chunks: int = 0
    detail: str = ""
    data: Any = None
    first_byte: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def __str__(self) -> str:
        said = " ".join(part for part in (str(self.outcome), self.code, self.detail) if part)
        return f"{self.id}: {self.status or 'no status'}, {self.chunks} chunks, {said}"

    @property
    def took(self) -> float:
        """From the first byte of the request to the outcome."""
        assert self.ended is not None, f"call {self.id} has not ended"
        return self.ended - self.sent

    def end(self, outcome: Outcome, detail: str = "") -> None:
        """Writes the outcome down; there is one."""
        assert self.outcome is None, f"call {self.id} ended as {self.outcome} already"
        self.ended, self.outcome, self.detail = now_ms(), outcome, detail
        self.first_byte.set()

    def end_unless_ended(self, outcome: Outcome, detail: str = "") -> None:
        """The same, for what may come while the outcome is being read."""
        if self.outcome is None:
            self.end(outcome, detail)


class Socket:
    """One kept connection to the host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.CLIENT)
        self.idle_since = now_ms()

    async def send(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Writes one request."""
        head = [("host", "localhost"), ("content-length", str(len(body))), *headers]
        request = self.http.send(h11.Request(method=method, target=path, headers=head))
        assert request is not None
        self.writer.write(request + (self.http.send(h11.Data(data=body)) or b""))
        self.http.send(h11.EndOfMessage())
        await self.writer.drain()

    async def events(self) -> AsyncIterator[h11.Event]:
        """What comes back, up to the end of the message. `ConnectionError` if it ends before."""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                try:
                    self.http.receive_data(await self.reader.read(READ))
                except h11.RemoteProtocolError as problem:
                    raise ConnectionError(str(problem)) from problem
                continue
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise ConnectionError("the host closed the connection")
            assert isinstance(event, h11.Event)
            yield event
            if isinstance(event, h11.EndOfMessage):
                return

    def close(self) -> None:
        """Leaves without a word."""
        self.writer.transport.abort()


class LedgerClient:
    """Calls and what became of them."""

    # Below what the host lets a kept connection be silent: it is not to race with the host's close.
    IDLE_MS = 2_000

    def __init__(self, port: int, key: str, *, patience: float = 60.0) -> None:
        self.port, self.key, self.patience = port, key, patience
        self.calls: list[Call] = []
        self.ways: list[LedgerClient] = []
        self.idle: list[Socket] = []
        self.numbers = itertools.count()
        self.run = uuid.uuid4().hex[:8]

    def by_way_of(self, port: int) -> "LedgerClient":
        """The same client through something in between; its calls are in the same list."""
        other = LedgerClient(port, self.key, patience=self.patience)
        other.calls, other.numbers, other.run = self.calls, self.numbers, self.run
        self.ways.append(other)
        return other

    async def call(
        self,
        plugin: str = "ledger",
        *,
        capability: str = "ledger.write",
        idempotent: bool = False,
        timeout_ms: int | None = None,
        leave_after: float | None = None,
        call: Call | None = None,
        **payload: Any,
    ) -> Call:
        """Asks for one execution. `idempotent` asks by the name that the host may try again."""
        call = call or self.new(plugin, idempotent=idempotent)
        capability = "ledger.again" if idempotent else capability
        body: dict[str, Any] = {"capability": capability, "payload": {"call": call.id, **payload}}
        if timeout_ms is not None:
            body["timeoutMs"] = timeout_ms
        await self._follow(call, f"/api/plugins/{plugin}/invoke", body, leave_after)
        return call

    async def stream(
        self,
        model: str = "ledger",
        *,
        leave_after: float | None = None,
        call: Call | None = None,
        **fields: Any,
    ) -> Call:
        """Asks for one streamed answer, and reads it to its end unless it leaves after seconds."""
        call = call or self.new(model)
        message = {"role": "user", "content": "go"}
        body = {"model": model, "messages": [message], "stream": True, "call": call.id, **fields}
        await self._follow(call, "/v1/chat/completions", body, leave_after)
        return call

    def new(self, plugin: str = "ledger", *, idempotent: bool = False) -> Call:
        """A call that is about to be sent, for who wants to know its id before or to watch it."""
        call = Call(f"{self.run}-{next(self.numbers)}", plugin, now_ms(), idempotent)
        self.calls.append(call)
        return call

    def close(self) -> None:
        """Closes what is kept."""
        for other in self.ways:
            other.close()
        for socket in self.idle:
            socket.close()
        self.idle.clear()

    async def _follow(self, call: Call, path: str, body: Any, leave_after: float | None) -> None:
        call.sent = now_ms()
        patience = self.patience if leave_after is None else leave_after
        socket: Socket | None = None
        try:
            async with asyncio.timeout(patience):
                socket = await self._socket()
                headers = [
                    ("authorization", f"Bearer {self.key}"),
                    ("content-type", "application/json"),
                ]
                await socket.send("POST", path, headers, json.dumps(body).encode())
                await self._read(call, socket)
        except TimeoutError:
            # The moment is taken before the close: what follows is measured from it.
            call.end_unless_ended(Outcome.SILENT if leave_after is None else Outcome.LEFT)
            if socket:
                socket.close()
        except asyncio.CancelledError:
            call.end_unless_ended(Outcome.LEFT)
            if socket:
                socket.close()
            raise
        except OSError as problem:
            call.end_unless_ended(Outcome.LOST, repr(problem))
            if socket:
                socket.close()

    async def _socket(self) -> Socket:
        while self.idle:
            socket = self.idle.pop()
            if now_ms() - socket.idle_since < self.IDLE_MS and not socket.reader.at_eof():
                return socket
            socket.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Socket(reader, writer)

    async def _read(self, call: Call, socket: Socket) -> None:
        pieces: list[bytes] = []
        reading: Events | None = None
        async for event in socket.events():
            if isinstance(event, h11.Response):
                call.status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
                call.retry_after = headers.get("retry-after")
                if headers.get("content-type", "").startswith("text/event-stream"):
                    reading = Events(call)
            elif isinstance(event, h11.Data):
                call.first_byte.set()
                if reading:
                    reading.take(bytes(event.data))
                else:
                    pieces.append(bytes(event.data))
        if reading:
            reading.finish()
        else:
            judge_whole(call, b"".join(pieces))
        if socket.http.our_state is h11.DONE and socket.http.their_state is h11.DONE:
            socket.http.start_next_cycle()
            socket.idle_since = now_ms()
            self.idle.append(socket)
        else:
            socket.close()


class Events:
    """Reads a stream of events: the chunks of its call, in order, then one end."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.rest = b""
        self.done = False
        self.error: str | None = None
        self.wrong = ""

    def take(self, data: bytes) -> None:
        """Reads what has come whole."""
        self.rest += data
        *blocks, self.rest = self.rest.split(b"\n\n")
        for block in blocks:
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    self._event(line.removeprefix(b"data: "))

    def _event(self, data: bytes) -> None:
        if self.done or self.error is not None:
            self.wrong = self.wrong or f"after its end came {data[:80]!r}"
        elif data == b"[DONE]":
            self.done = True
        else:
            self._chunk(json.loads(data))

    def _chunk(self, event: dict[str, Any]) -> None:
        if "error" in event:
            self.error = str(event["error"].get("code") or event["error"]["type"])
            return
        for choice in event["choices"]:
            content = choice["delta"].get("content")
            if content is not None:
                wanted = f"{self.call.id}#{self.call.chunks} "
                if not content.startswith(wanted):
                    self.wrong = self.wrong or f"`{wanted}` was due and `{content[:40]}` came"
                self.call.chunks += 1

    def finish(self) -> None:
        """Writes down how the stream ended."""
        if self.wrong or self.rest:
            self.call.end(Outcome.GARBLED, self.wrong or f"it ends with {self.rest[:80]!r}")
        elif self.done:
            self.call.end(Outcome.COMPLETE)
        elif self.error is not None:
            self.call.code = self.error
            self.call.end(Outcome.BROKEN)
        else:
            self.call.end(Outcome.LOST, "the stream ended without an end")


def judge_whole(call: Call, body: bytes) -> None:
    """Writes down what a whole answer says."""
    try:
        answer = json.loads(body)
    except ValueError:
        call.end(Outcome.GARBLED, f"{call.status} {body[:80]!r}")
        return
    if call.status != 200:
        with contextlib.suppress(KeyError, TypeError):
            call.code = answer["error"]["code"] or answer["error"]["type"]
            call.end(Outcome.REFUSED)
            return
    elif isinstance(answer.get("data"), dict) and answer["data"].get("call") == call.id:
        call.data = answer["data"]
        call.end(Outcome.ANSWERED)
        return
    call.end(Outcome.GARBLED, f"{call.status} {body[:200]!r}")
