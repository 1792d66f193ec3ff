"""A plugin that appends every execution to a file before it answers: the other half of the ledger.

Without SDK, on `websockets` alone, so that no code of the product vouches for itself. `contract: "base"`
in its settings makes it a plugin of the base contract, which neither streams nor hears of cancels. One
file for each process, `DATA/PID-STARTED.ledger`; each line is one `write`, which outlives the process
however it ends. The loss of the machine is another matter, and the fault suite asks for no such thing of
a plugin.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]


def now_ms() -> float:
    """Milliseconds on CLOCK_MONOTONIC, which the client reads too."""
    return time.monotonic_ns() / 1e6


def launched_ms() -> float:
    """When the kernel started this process, on the same clock; a hundredth of a second exact."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    asleep_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) / 1e6
    return ticks * 1000 / os.sysconf("SC_CLK_TCK") - asleep_ms


class Ledger:
    """The file of this process."""

    def __init__(self) -> None:
        name = f"{os.getpid()}-{time.monotonic_ns()}.ledger"
        path = Path(os.environ["BKG_PLUGIN_DATA_DIR"]) / name
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.note("launched", at=launched_ms())

    def note(self, event: str, **more: Any) -> None:
        """Appends one line."""
        line = json.dumps({"event": event, "at": now_ms(), "pid": os.getpid(), **more}) + "\n"
        written = os.write(self.file, line.encode())
        assert written == len(line), "the file system takes a line whole or not at all"


class Request:
    """One request, with its credit and whether somebody still wants it."""

    def __init__(self, frame: Frame, default_credit: int) -> None:
        self.id: str = frame["requestId"]
        self.payload: Frame = frame.get("payload") or {}
        self.call: str = str(self.payload.get("call", "nobody's"))
        self.is_stream = bool(frame.get("stream"))
        self.credit: int = frame.get("credit", default_credit)
        self.granted = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def pause(self, milliseconds: float) -> None:
        """Waits, but no longer than until the request is cancelled."""
        if milliseconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.cancelled.wait(), milliseconds / 1000)

    async def spend_credit(self) -> None:
        """Waits until one more chunk may be sent, or nobody wants it."""
        while self.credit < 1 and not self.cancelled.is_set():
            self.granted.clear()
            waits = [asyncio.ensure_future(wait) for wait in (self.granted.wait(), self.cancelled.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        self.credit -= 1


class Plugin:
    """One process: its ledger, its session, and the requests that are open in it."""

    def __init__(self, entry: Frame) -> None:
        settings = entry.get("settings") or {}
        self.name: str = entry["name"]
        self.version: str = settings.get("version", "1.0.0")
        self.extended: bool = settings.get("contract", "extended") == "extended"
        self.terms: dict[str, Frame] = settings.get("terms", {})
        self.register_after_ms: float = settings.get("registerAfterMs", 0)
        self.ledger = Ledger()
        if settings.get("child"):
            child = subprocess.Popen(["sleep", "3600"])
            self.ledger.note("child", child=child.pid)
        self.resume: str | None = None
        self.heartbeat_ms = 10_000
        self.default_credit = 32
        self.bus: ClientConnection | None = None
        self.running: dict[str, Request] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_leaving = False
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self) -> None:
        """Serves sessions until the host retires this process."""
        if self.register_after_ms < 0:
            await asyncio.Event().wait()
        await asyncio.sleep(self.register_after_ms / 1000)
        while not self.is_leaving:
            try:
                async with connect(
                    os.environ["BKG_PLUGIN_BUS_URL"],
                    max_size=None,
                    compression=None,
                    ping_interval=None,
                    proxy=None,
                ) as bus:
                    await self.converse(bus)
            except ConnectionClosed:
                if bus.close_code in (1000, 1008, 1013) or not self.extended:
                    return
            except OSError:
                return
            for request in self.running.values():
                request.cancelled.set()
            await asyncio.sleep(0.05)

    async def converse(self, bus: ClientConnection) -> None:
        """One session."""
        self.bus = bus
        await self.send(type="register", **self.registration())
        beating = asyncio.create_task(self.beat())
        try:
            async for text in bus:
                self.take(json.loads(text))
        finally:
            beating.cancel()

    def registration(self) -> Frame:
        """What it says first."""
        plain = {"plugin": self.name, "port": "internal"}
        if not self.extended:
            return {**plain, "capabilities": ["ledger.write", "llm.chat"]}
        secret = {"resume": self.resume} if self.resume else {"token": os.environ.get("BKG_PLUGIN_TOKEN")}
        offers: list[Frame] = [
            {"id": "ledger.write", "sideEffect": True},
            {"id": "ledger.again", "idempotent": True},
            {"id": "llm.chat", "streaming": True},
        ]
        capabilities = [{**offer, **self.terms.get(offer["id"], {})} for offer in offers]
        model = self.name if self.name.startswith("ledger") else "ledger"
        models = [{"id": model, "capability": "llm.chat"}]
        return {
            **plain,
            "protocol": 1,
            "version": self.version,
            **secret,
            "capabilities": capabilities,
            "models": models,
        }

    async def beat(self) -> None:
        """Says that it is well, as often as it was told to."""
        while True:
            await self.send(type="health", plugin=self.name, status="up")
            await asyncio.sleep(self.heartbeat_ms / 1000)

    def take(self, frame: Frame) -> None:
        """Acts on one frame of the host; what it does not know it ignores."""
        request = self.running.get(frame.get("requestId", ""))
        match frame["type"]:
            case "registered":
                self.resume = frame["resume"]
                self.heartbeat_ms = frame["heartbeatMs"]
                self.default_credit = frame["limits"]["streamCredit"]
            case "request":
                # Entered before anything else is read: a `cancel` may be the very next frame.
                request = Request(frame, self.default_credit)
                self.running[request.id] = request
                self.idle.clear()
                self.spawn(self.serve(request))
            case "credit" if request:
                request.credit += frame["n"]
                request.granted.set()
            case "cancel":
                call = request.call if request else None
                self.ledger.note("cancelled", call=call, reason=frame.get("reason"))
                if request:
                    request.cancelled.set()
            case "drain":
                self.spawn(self.drain())

    async def serve(self, request: Request) -> None:
        """Executes one request: first the line, then the answer."""
        self.ledger.note("executed", call=request.call, version=self.version, request=request.id)
        try:
            await request.pause(request.payload.get("workMs", 0))
            if request.payload.get("stop"):
                os.kill(os.getpid(), signal.SIGSTOP)
            if request.payload.get("block"):
                block()
            if "flood" in request.payload:
                await self.answer(request, await asyncio.to_thread(flood, request))
                return
            if request.is_stream:
                await self.stream(request)
            elif not request.cancelled.is_set():
                await self.answer(request, self.whole(request))
            if request.cancelled.is_set() and self.extended:
                await self.fail(request, "cancelled", "the caller gave up")
            else:
                self.ledger.note("finished", call=request.call)
        finally:
            self.running.pop(request.id, None)
            if not self.running:
                self.idle.set()

    def whole(self, request: Request) -> Frame:
        """The answer in one piece."""
        if "messages" not in request.payload:
            filler = "x" * request.payload.get("bytes", 0)
            return {"call": request.call, "pid": os.getpid(), "version": self.version, "filler": filler}
        message = {"role": "assistant", "content": request.call}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {**self.head(request, "chat.completion"), "choices": [choice], "usage": usage}

    def head(self, request: Request, kind: str) -> Frame:
        """What a completion and each of its chunks begin with."""
        return {"id": f"chatcmpl-{request.call}", "object": kind, "created": 1, "model": self.name}

    async def stream(self, request: Request) -> None:
        """`chunks` pieces, each with the call and its number, then the end."""
        head = self.head(request, "chat.completion.chunk")
        filler = "x" * request.payload.get("bytes", 0)
        count = request.payload.get("chunks", 10)
        for number in range(count):
            if number:
                await request.pause(request.payload.get("delayMs", 0))
            await request.spend_credit()
            if request.cancelled.is_set():
                return
            if number == request.payload.get("dieAt"):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == request.payload.get("stopAt"):
                os.kill(os.getpid(), signal.SIGSTOP)
            delta = {"content": f"{request.call}#{number} {filler}"}
            if number == 0:
                delta["role"] = "assistant"
            reason = "stop" if number == count - 1 else None
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            data = {**head, "choices": [choice]}
            await self.send(type="chunk", requestId=request.id, seq=number, data=data)
        await self.answer(request, None)

    async def answer(self, request: Request, data: Any) -> None:
        """Ends a request well."""
        await self.send(type="response", requestId=request.id, success=True, data=data)

    async def fail(self, request: Request, code: str, message: str) -> None:
        """Ends a request otherwise."""
        error = {"code": code, "message": message}
        await self.send(type="response", requestId=request.id, success=False, error=error)

    async def drain(self) -> None:
        """Finishes what runs, and leaves."""
        self.is_leaving = True
        await self.idle.wait()
        if self.bus:
            await self.bus.close(1000)

    async def send(self, **frame: Any) -> None:
        """Writes one message."""
        assert self.bus is not None, "a session is open"
        await self.bus.send(json.dumps(frame))

    def spawn(self, work: Any) -> None:
        """Runs `work` beside the reading of frames."""

        async def guarded() -> None:
            with contextlib.suppress(ConnectionClosed):
                await work

        task = asyncio.create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def block() -> None:
    """A deadlock, as far as anybody else can see: the only thread that serves does nothing."""
    time.sleep(3600)


def flood(request: Request) -> Frame:
    """Writes so many MiB to standard output, at no more than a pace; says how the writes went."""
    wanted = request.payload["flood"]
    mib, pace = wanted["mib"], wanted["mibPerSecond"]
    match wanted["kind"]:
        case "lines":
            piece = (b"x" * 127 + b"\n") * 512
        case "line":
            piece = b"x" * (64 << 10)
        case _:
            piece = os.urandom(64 << 10)
    began, longest, written = time.monotonic(), 0.0, 0
    while written < mib << 20:
        before = time.monotonic()
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(1, rest) :]
        now = time.monotonic()
        longest = max(longest, now - before)
        written += len(piece)
        time.sleep(max(0.0, began + written / (pace << 20) - now))
    taken = time.monotonic() - began
    if wanted["kind"] != "lines":
        os.write(1, b"\n")
    return {"call": request.call, "mib": mib, "seconds": taken, "longestMs": longest * 1000}


asyncio.run(Plugin(json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())).run())
