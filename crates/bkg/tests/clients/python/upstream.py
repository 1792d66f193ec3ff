"""A scripted upstream: a real HTTP/1.1 server on a free port that answers like one, quirks included.

`Upstream` listens on loopback in a thread of its own. What it answers is chosen by the model that a
request names: a function of `plays.py`, or one that a test gives it with `play`. It writes bytes, not
objects, so that a test can cut them wherever it hurts; it is no mock of the OpenAI API, and knows
nothing of the daemon. It records when each socket was opened and closed, on CLOCK_MONOTONIC.
"""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

CREATED = 1_700_000_000
WORDS = ("Grüße ", "aus ", "Bern: ", "日本語 ", "🏔️")
PROMPT_TOKENS = 7


def now_ms() -> float:
    """The clock that all times here are of."""
    return time.monotonic_ns() / 1e6


@dataclass
class Connection:
    """One socket."""

    number: int
    opened_ms: float
    closed_ms: float | None = None
    requests: int = 0


@dataclass
class Seen:
    """One request, as it came."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: Connection
    at_ms: float
    # When the answer was written to its end; `None` where it was not.
    answered_ms: float | None = None

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body) if self.body else None

    @property
    def model(self) -> str:
        """The model that it names."""
        body = self.json
        return str(body.get("model", "")) if isinstance(body, dict) else ""


class Gone(Exception):
    """The client closed the socket."""


class Socket(asyncio.Protocol):
    """Reads requests from one socket, one after the other, and notices at once when it is closed."""

    def __init__(self, upstream: "Upstream") -> None:
        self.upstream = upstream
        self.buffer = bytearray()
        self.gone = asyncio.Event()
        self.arrived = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport
        self.connection: Connection
        self.serving: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connection = Connection(len(self.upstream.connections), now_ms())
        self.upstream.connections.append(self.connection)
        self.upstream.sockets.append(self)
        self.serving = asyncio.get_running_loop().create_task(self.serve())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.arrived.set()

    def eof_received(self) -> bool:
        self._close()
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        self._close()

    def _close(self) -> None:
        if self.connection.closed_ms is None:
            self.connection.closed_ms = now_ms()
        self.gone.set()
        self.arrived.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def take(self, found: Callable[[bytearray], int]) -> bytes:
        """Bytes up to where `found` says that they are whole."""
        while (end := found(self.buffer)) < 0:
            if self.gone.is_set():
                raise Gone
            self.arrived.clear()
            await self.arrived.wait()
        taken = bytes(self.buffer[:end])
        del self.buffer[:end]
        return taken

    async def exactly(self, size: int) -> bytes:
        """That many bytes."""
        return await self.take(lambda buffer: size if len(buffer) >= size else -1)

    async def line(self) -> bytes:
        """One line, without its end."""
        return (
            await self.take(lambda buffer: buffer.find(b"\r\n") + 2 or -1 if b"\r\n" in buffer else -1)
        )[:-2]

    async def request(self) -> Seen:
        """The next request."""
        method, path, _ = (await self.line()).decode().split(" ", 2)
        headers = []
        while line := await self.line():
            name, value = line.decode("latin-1").split(":", 1)
            headers.append((name, value.strip()))
        seen = Seen(method, path, headers, b"", self.connection, now_ms())
        if (seen.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(await self.line(), 16):
                seen.body += await self.exactly(size)
                await self.line()
            await self.line()
        else:
            seen.body = await self.exactly(int(seen.header("content-length") or 0))
        return seen

    async def serve(self) -> None:
        """Answers until the socket is closed."""
        try:
            while not self.transport.is_closing():
                seen = await self.request()
                self.connection.requests += 1
                self.upstream.requests.append(seen)
                exchange = Exchange(self.upstream, self, seen)
                await self.upstream.answer(exchange)
                seen.answered_ms = now_ms()
        except Gone:
            pass
        finally:
            self.transport.close()


class Exchange:
    """One request and the means to answer it, byte by byte."""

    def __init__(self, upstream: "Upstream", socket: Socket, seen: Seen) -> None:
        self.upstream = upstream
        self.socket = socket
        self.seen = seen

    async def raw(self, data: bytes) -> None:
        """Writes bytes as they are, and lets them leave."""
        if self.socket.gone.is_set():
            raise Gone
        self.socket.transport.write(data)
        await asyncio.sleep(0)
        await self.socket.writable.wait()

    async def head(self, status: int, *headers: tuple[str, str]) -> None:
        """Writes status and headers; the same name may come twice."""
        lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def whole(
        self, status: int, body: bytes, *headers: tuple[str, str], kind: str = "application/json"
    ) -> None:
        """A whole answer."""
        await self.head(status, ("Content-Type", kind), ("Content-Length", str(len(body))), *headers)
        for start in range(0, len(body), 1 << 16):
            await self.raw(body[start : start + (1 << 16)])

    async def json(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
        """A whole answer in JSON."""
        await self.whole(status, json.dumps(body).encode(), *headers)

    async def begin_stream(self, *headers: tuple[str, str], kind: str = "text/event-stream") -> None:
        """The head of an answer whose parts follow with `part`."""
        await self.head(200, ("Content-Type", kind), ("Transfer-Encoding", "chunked"), *headers)

    async def part(self, data: bytes) -> None:
        """One part of the answer, in one write."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data: Any, *, ends: str = "\n") -> None:
        """One server-sent event."""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        await self.part(f"data: {text}{ends}{ends}".encode())

    async def end(self, *, done: bool = True) -> None:
        """The end of a stream, with `[DONE]` unless said."""
        if done:
            await self.part(b"data: [DONE]\n\n")
        await self.raw(b"0\r\n\r\n")

    async def hang(self) -> None:
        """Says nothing more until the client leaves."""
        await self.socket.gone.wait()
        raise Gone

    async def hang_up(self, *, reset: bool = False) -> None:
        """Closes the socket, in order or with a reset."""
        if reset:
            self.socket.transport.abort()
        else:
            self.socket.transport.close()
        raise Gone

    @property
    def wants_usage(self) -> bool:
        """Whether the usage chunk was asked for."""
        options = self.seen.json.get("stream_options") or {}
        return bool(options.get("include_usage"))

    @property
    def wants_stream(self) -> bool:
        """Whether a stream was asked for."""
        return bool(self.seen.json.get("stream"))

    def usage(self, completion_tokens: int) -> dict[str, int]:
        """A usage, which the upstream's ledger counts as served."""
        self.upstream.served.append((PROMPT_TOKENS, completion_tokens))
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": completion_tokens,
            "total_tokens": PROMPT_TOKENS + completion_tokens,
        }

    def chunk(
        self, delta: Mapping[str, Any] | None, finish: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        """A chunk of a chat; without a delta one without choices."""
        choices = [] if delta is None else [{"index": 0, "delta": dict(delta), "finish_reason": finish}]
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.seen.model,
            "choices": choices,
            **fields,
        }

    def completion(
        self, message: Mapping[str, Any], finish: str = "stop", tokens: int = 5
    ) -> dict[str, Any]:
        """A whole chat completion."""
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": CREATED,
            "model": self.seen.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", **message},
                    "finish_reason": finish,
                    "logprobs": None,
                }
            ],
            "usage": self.usage(tokens),
        }

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks of an ordinary stream, the usage chunk included where it is wanted."""
        yield self.chunk({"role": "assistant", "content": ""})
        for word in WORDS:
            yield self.chunk({"content": word})
        yield self.chunk({}, "stop")
        if self.wants_usage:
            yield self.chunk(None, usage=self.usage(len(WORDS)))

    def embeddings(self, vector: Any) -> dict[str, Any]:
        """The same vector for every input."""
        given = self.seen.json["input"]
        inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(inputs))]
        self.upstream.served.append((PROMPT_TOKENS, 0))
        usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
        return {"object": "list", "data": data, "model": self.seen.model, "usage": usage}

    async def stream(self, *headers: tuple[str, str], ends: str = "\n", done: bool = True) -> None:
        """An ordinary stream."""
        await self.begin_stream(*headers)
        async for chunk in self.chunks():
            await self.event(chunk, ends=ends)
        await self.end(done=done)


Play = Callable[[Exchange], Awaitable[None]]
PLAYS: dict[str, Play] = {}


def plays(name: str) -> Callable[[Play], Play]:
    """Has every upstream answer a model in this way."""

    def keep(play: Play) -> Play:
        PLAYS[name] = play
        return play

    return keep


@dataclass
class Failure:
    """An answer that is given instead of the next ones."""

    status: int
    body: Any
    headers: tuple[tuple[str, str], ...]
    left: int


@dataclass
class Upstream:
    """One upstream; use it in a `with`."""

    # The models that it lists; it answers any that has a play.
    models: list[str] = field(default_factory=lambda: ["plain"])
    # "openai" lists at `/v1/models`, "ollama" at `/api/tags` alone.
    dialect: str = "openai"
    # The key that requests must show, if any.
    key: str | None = None
    # What it speaks TLS with, if it does.
    tls: ssl.SSLContext | None = None
    requests: list[Seen] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    # What it has served: tokens of prompt and completion of each answer with a usage.
    served: list[tuple[int, int]] = field(default_factory=list)
    # Set by a test to let plays go on that wait for it.
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.plays: dict[str, Play] = {}
        self.failures: list[Failure] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._listening = threading.Event()
        self._stop: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10), "the upstream listens"
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the upstream stops"

    @property
    def origin(self) -> str:
        """Where it listens, without a path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an operator writes into `baseUrl`."""
        return f"{self.origin}/v1"

    @property
    def open_connections(self) -> list[Connection]:
        """The sockets that are open now."""
        return [connection for connection in list(self.connections) if connection.closed_ms is None]

    def asked(self, model: str) -> list[Seen]:
        """The requests that named a model, so far."""
        return [seen for seen in list(self.requests) if seen.method == "POST" and seen.model == model]

    def play(self, model: str, play: Play) -> None:
        """Has this upstream answer a model in a way of the test's own."""
        self.plays[model] = play

    def fail(self, status: int, body: Any = None, *headers: tuple[str, str], times: int = 1) -> None:
        """Has the next requests for answers fail, whatever they name; the body is JSON, or bytes."""
        body = {"error": {"message": f"scripted {status}", "type": "scripted"}} if body is None else body
        self.failures.append(Failure(status, body, headers, times))

    def close_all(self) -> None:
        """Drops every socket that is open, as a server that restarts does."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def _abort_all(self) -> None:
        for socket in list(self.sockets):
            socket.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.sockets: list[Socket] = []

        def accept() -> Socket:
            self.sockets = [socket for socket in self.sockets if not socket.gone.is_set()]
            return Socket(self)

        server = await self._loop.create_server(accept, "127.0.0.1", self.port, ssl=self.tls, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for socket in self.sockets:
            socket.transport.abort()
        # Plays that wait for their client hear that it is gone, and end.
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def answer(self, exchange: Exchange) -> None:
        """Answers one request."""
        seen = exchange.seen
        if self.key is not None and seen.header("authorization") != f"Bearer {self.key}":
            message = f"Incorrect API key provided: {seen.header('authorization')}"
            await exchange.json(401, {"error": {"message": message, "code": "invalid_api_key"}})
            return
        if (seen.method, seen.path) == ("GET", "/v1/models") and self.dialect == "openai":
            listed = [
                {"id": id, "object": "model", "created": CREATED, "owned_by": "scripted"}
                for id in self.models
            ]
            await exchange.json(200, {"object": "list", "data": listed})
        elif (seen.method, seen.path) == ("GET", "/api/tags") and self.dialect == "ollama":
            await exchange.json(200, {"models": [ollama_tag(id) for id in self.models]})
        elif seen.method == "POST" and seen.path in ("/v1/chat/completions", "/v1/embeddings"):
            await self._complete(exchange)
        else:
            await exchange.whole(404, b"404 page not found", kind="text/plain")

    async def _complete(self, exchange: Exchange) -> None:
        if self.failures:
            failure = self.failures[0]
            failure.left -= 1
            if failure.left <= 0:
                self.failures.pop(0)
            body = failure.body if isinstance(failure.body, bytes) else json.dumps(failure.body).encode()
            await exchange.whole(failure.status, body, *failure.headers)
            return
        model = exchange.seen.model
        play = self.plays.get(model) or PLAYS.get(model)
        if play is None:
            message = f"The model `{model}` does not exist"
            error = {
                "message": message,
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
            await exchange.json(404, {"error": error})
        else:
            await play(exchange)


def ollama_tag(model: str) -> dict[str, Any]:
    """A model as Ollama's native list has it."""
    family = "nomic-bert" if "embed" in model else "llama"
    return {"name": model, "model": model, "size": 1, "details": {"family": family, "families": [family]}}
