"""The reference plugin in the base contract: a WebSocket, a JSON parser, and no SDK.

Behaves like the bundled `ping` as far as the base contract goes. What is missing is missing there: no
stream (a count is one answer), no routes and so no bodies, and settings are those of the start. Each
question is answered in a task of its own, so that one that waits holds up no other.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

NAME = os.environ.get("BKG_PLUGIN_NAME", "ping-base")
BEAT_S = 10.0
BEGAN = time.monotonic()
# The largest frame of the bus, towards a plugin and from it.
MOST_BYTES = 16 << 20


class Refused(Exception):
    """A failure that whoever asked is told: a code, a message, and which parameter was wrong."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"param": param} if param else {})}


class Failed(Exception):
    """What the host answered instead of what was asked for."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error


def resident_bytes() -> int:
    """The memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_percent() -> float:
    """How much of one core this process took since it began."""
    return 100.0 * time.process_time() / max(time.monotonic() - BEGAN, 1.0)


def member(payload: Any, name: str, kind: type, default: Any = None) -> Any:
    """A member of the payload; a bool is no number."""
    if not isinstance(payload, dict):
        raise Refused("invalid_request", "the payload cannot be read: it is no object")
    value = payload.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        message = f"the payload cannot be read: `{name}` is no {kind.__name__}"
        raise Refused("invalid_request", message, name)
    return value


class Ping:
    """One session: what it offers, and what it waits for."""

    def __init__(self, bus: ClientConnection, settings: dict[str, Any]) -> None:
        self.bus = bus
        self.greeting = settings.get("greeting", "hello")
        if not isinstance(self.greeting, str) or not self.greeting.strip():
            raise SystemExit("`greeting` of the settings is empty or no text")
        self.health, self.detail = "up", ""
        self.pings = 0
        self.asked: dict[str, asyncio.Future[Any]] = {}
        self.handlers: dict[str, Callable[[Any, str], Awaitable[Any]]] = {
            f"{NAME}.ping": self.ping,
            f"{NAME}.echo": self.echo,
            f"{NAME}.greet": self.greet,
            f"{NAME}.count": self.count,
            f"{NAME}.relay": self.relay,
            f"{NAME}.feel": self.feel,
        }

    async def ping(self, _: Any, __: str) -> Any:
        self.pings += 1
        await self.figures()
        return {"pong": True}

    async def echo(self, payload: Any, _: str) -> Any:
        return payload

    async def greet(self, payload: Any, request: str) -> Any:
        name = member(payload, "name", str)
        line = {"level": "info", "message": "greeting a guest", "fields": {"name": name}}
        moment = datetime.now(UTC).isoformat()
        await self.say("log", plugin=NAME, timestamp=moment, requestId=request, **line)
        return {"greeting": f"{self.greeting} {name}"}

    async def count(self, payload: Any, _: str) -> Any:
        n, delay_ms = member(payload, "n", int), member(payload, "delayMs", int, 0)
        for name, value in (("n", n), ("delayMs", delay_ms)):
            if not 0 <= value < 1 << 64:
                message = f"the payload cannot be read: `{name}` is out of range"
                raise Refused("invalid_request", message, name)
        numbers = []
        for number in range(n):
            # A wait of no time lets other questions be answered meanwhile.
            await asyncio.sleep(delay_ms / 1000)
            numbers.append({"number": number})
        return numbers

    async def relay(self, payload: Any, _: str) -> Any:
        capability = member(payload, "capability", str)
        question = f"asked-{time.monotonic_ns()}-{len(self.asked)}"
        answer = self.asked[question] = asyncio.get_running_loop().create_future()
        try:
            wanted = {"capability": capability, "payload": payload.get("payload")}
            await self.say("request", requestId=question, **wanted)
            return await answer
        finally:
            del self.asked[question]

    async def feel(self, payload: Any, _: str) -> Any:
        health, detail = member(payload, "health", str), member(payload, "detail", str, "")
        if health not in ("up", "degraded", "down"):
            message = f"`health` is `up`, `degraded` or `down`, not `{health}`"
            raise Refused("invalid_request", message, "health")
        self.health, self.detail = health, detail
        await self.beat()

    async def say(self, kind: str, **fields: Any) -> None:
        # What is no JSON, such as an infinite number, is a failure here and not a frame that nobody reads.
        await self.bus.send(json.dumps({"type": kind, **fields}, allow_nan=False))

    async def beat(self) -> None:
        await self.say("health", plugin=NAME, status=self.health, detail=self.detail)

    async def figures(self) -> None:
        own = {"cpu": cpu_percent(), "mem_bytes": resident_bytes(), "pings": self.pings}
        await self.say("telemetry", plugin=NAME, **own)

    async def beats(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_S)

    async def answer(self, frame: dict[str, Any]) -> None:
        """One question, and exactly one response."""
        outcome: dict[str, Any]
        try:
            handler = self.handlers.get(frame["capability"])
            if handler is None:
                raise Refused("not_found", f"`{frame['capability']}` is not offered")
            data = await handler(frame["payload"], frame["requestId"])
            outcome = {"success": True, "data": data}
        except (Refused, Failed) as refused:
            outcome = {"success": False, "error": refused.error}
        try:
            await self.say("response", requestId=frame["requestId"], **outcome)
        except ValueError as problem:
            failure = {"success": False, "error": f"the answer cannot be written: {problem}"}
            await self.say("response", requestId=frame["requestId"], **failure)

    async def run(self) -> None:
        """Registers, and works until the host closes the session."""
        offer = {"port": "internal", "capabilities": list(self.handlers), "version": "0.1.0"}
        await self.say("register", plugin=NAME, **offer)
        async with asyncio.TaskGroup() as tasks:
            working = {tasks.create_task(self.beats())}
            async for text in self.bus:
                frame = json.loads(text)
                if frame["type"] == "request":
                    answering = tasks.create_task(self.answer(frame))
                    working.add(answering)
                    answering.add_done_callback(working.discard)
                elif frame["type"] == "response" and (waiting := self.asked.get(frame["requestId"])):
                    if frame["success"]:
                        waiting.set_result(frame.get("data"))
                    else:
                        waiting.set_exception(Failed(frame["error"]))
            for task in list(working):
                task.cancel()


async def main(entry: dict[str, Any]) -> None:
    # The host sends pings to nobody in the base contract, and needs none.
    # A goodbye that it does not answer is not waited for beyond the time that a plugin has to end.
    terms: dict[str, Any] = {
        "max_size": MOST_BYTES,
        "ping_interval": None,
        "close_timeout": 2.0,
        "proxy": None,
    }
    async with connect(os.environ["BKG_PLUGIN_BUS_URL"], **terms) as bus:
        for ending in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(
                ending, lambda: asyncio.ensure_future(bus.close())
            )
        try:
            await Ping(bus, entry.get("settings") or {}).run()
        except* ConnectionClosed:
            # Whoever was still to be answered is told by the host.
            pass
    # An end that nobody asked for must not look like work that is done.
    raise SystemExit(0 if bus.close_code in (1000, 1013) else 1)


asyncio.run(main(json.loads(Path(os.environ["BKG_PLUGIN_CONFIG_PATH"]).read_text())))
