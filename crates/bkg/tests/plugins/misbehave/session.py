"""The plugin's side of the conversation: sessions, requests, and the tables that commands enter.

It is well behaved; what breaks the rules is in `commands.py` and `models.py`, except for a registration
that `settings.register` spoils. One session at a time; what was seen is kept across sessions.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faults
from websocket import Closed, Refused, WebSocket

Frame = dict[str, Any]
Behaviour = Callable[["Plugin", "Request"], Awaitable[None]]

# In seconds, between a session that was lost and the next attempt.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
# More cancels than there are before many race with the ends of their requests.
SEVERAL = 6

BEHAVIOURS: dict[str, Behaviour] = {}
MODELS: dict[str, Behaviour] = {}
STREAMING = {
    "llm.chat",
    "test.big_chunk",
    "test.chunk_after_response",
    "test.chunks",
    "test.crash",
    "test.fail_in_stream",
    "test.hang",
    "test.overrun",
    "test.stream",
    "test.wrong_seq",
}


def now_ms() -> float:
    """Milliseconds on CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.monotonic_ns() / 1e6


def capability(name: str) -> Callable[[Behaviour], Behaviour]:
    """Makes a function the answer to `name`."""
    return lambda behaviour: BEHAVIOURS.setdefault(name, behaviour)


def model(name: str) -> Callable[[Behaviour], Behaviour]:
    """Makes a function the answer to `llm.chat` for the model `name`."""
    return lambda behaviour: MODELS.setdefault(name, behaviour)


class Request:
    """One `request` of the host: what it asks, and the frames that answer it."""

    def __init__(self, plugin: "Plugin", frame: Frame, text: str) -> None:
        self.plugin = plugin
        self.frame = frame
        self.text = text
        self.id: str = frame["requestId"]
        self.payload: Any = frame.get("payload") or {}
        self.socket = plugin.socket
        self.credit: int = frame.get("credit", plugin.limits.get("streamCredit", 0))
        self.granted = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.seq = 0
        self.events_before = len(plugin.events)

    def option(self, name: str, default: Any) -> Any:
        """A field of the payload, or its default."""
        return self.payload.get(name, default) if isinstance(self.payload, dict) else default

    async def answer(self, data: Any = None) -> None:
        """Ends the request well, unless the answer is larger than the host takes."""
        frame = {"type": "response", "requestId": self.id, "success": True, "data": data}
        limit = self.plugin.limits.get("maxFrameBytes")
        if limit is None or self.plugin.plants("frame-size-kept") or len(json.dumps(frame)) <= limit:
            await self.send(**frame)
        else:
            await self.fail({"code": "payload_too_large", "message": "the answer is larger than a frame"})

    async def fail(self, error: Any) -> None:
        """Ends the request with `error`, whatever its shape."""
        await self.send(type="response", requestId=self.id, success=False, error=error)

    async def send(self, **frame: Any) -> None:
        """Writes one frame, if the session that asked is still there."""
        if self.plugin.socket is not self.socket:
            raise Closed(1006)
        await self.plugin.send(**frame)

    async def chunk(self, data: Any, *, heed_credit: bool = True) -> bool:
        """Sends one chunk as soon as there is credit; false once the request is cancelled."""
        heed_credit = heed_credit and not self.plugin.plants("credit-kept")
        while heed_credit and self.credit < 1 and not self.cancelled.is_set():
            if self.plugin.plants("stream-not-cut-short"):
                return False
            self.granted.clear()
            self.plugin.dry += 1
            await first_of(self.granted.wait(), self.cancelled.wait())
            self.plugin.dry -= 1
            if self.granted.is_set() and self.plugin.plants_once("stream-resumes"):
                raise ValueError("it has lost the thread")
        if heed_credit and self.cancelled.is_set():
            return False
        spoiled = faults.spoiled_chunk(self.plugin, self.seq, data)
        await self.send(type="chunk", requestId=self.id, **spoiled)
        self.seq += 1
        self.credit -= 1
        self.plugin.chunks += 1
        return True

    async def pause(self, milliseconds: float) -> None:
        """Waits, but no longer than until the request is cancelled."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.cancelled.wait(), milliseconds / 1000)

    async def answer_cancelled(self) -> None:
        """What a request owes after its `cancel`."""
        if self.plugin.plants("stream-not-cut-short") and not self.cancelled.is_set():
            await self.answer()
            return
        if self.plugin.plants_once("cancel-answered"):
            return
        await self.fail({"code": "cancelled", "message": "the caller gave up"})


def is_first_of_all() -> bool:
    """Whether no other instance of the plugin has asked this before."""
    try:
        (Path(os.environ["BKG_PLUGIN_DATA_DIR"]) / "first-of-all").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def readable(text: str) -> Frame | None:
    """The message in a frame, if it is one."""
    try:
        frame = json.loads(text)
    except ValueError:
        return None
    return frame if isinstance(frame, dict) and isinstance(frame.get("type"), str) else None


async def first_of(*waits: Awaitable[Any]) -> None:
    """Returns when the first of several waits does, and drops the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class Plugin:
    """The plugin's process: one session at a time, and what it has seen in all of them."""

    def __init__(self, entry: Frame) -> None:
        self.name: str = entry["name"]
        self.settings: Frame = entry.get("settings") or {}
        self.config: Frame = {"registered": None, "revision": None, "current": None}
        self.config |= {"pushed": [], "tried": []}
        self.socket: WebSocket | None = None
        self.resume: str | None = None
        self.heartbeat_ms = 10_000
        self.limits: dict[str, int] = {}
        self.fault: str = self.settings.get("fault", "")
        self.planted = False
        self.is_leaving = False
        self.is_registered = asyncio.Event()
        self.lost: list[str] = []
        self.beats = True
        self.status = "up"
        self.running: dict[str, Request] = {}
        self.finished = asyncio.Event()
        self.answers: dict[str, asyncio.Queue[Frame]] = {}
        self.chunks = 0
        self.dry = 0
        self.closes: list[int] = []
        self.cancels: list[Frame] = []
        self.cancel_seen = asyncio.Event()
        self.told: Frame = {"error": None, "asked": 0}
        self.events: list[Frame] = []
        self.event_seen = asyncio.Event()
        self.seen: dict[str, int] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def plants(self, rule: str) -> bool:
        """Whether the rule of this id is to be broken."""
        return self.fault == rule

    def plants_once(self, rule: str) -> bool:
        """The same, the first time only."""
        is_due = self.plants(rule) and not self.planted
        self.planted = self.planted or is_due
        return is_due

    async def run(self) -> None:
        """Serves one session after the other until the host refuses or retires this process."""
        pause = FIRST_PAUSE
        while True:
            resume = self.resume
            has_patience = not self.plants("redials-politely")
            try:
                await self.converse()
            except Closed as closed:
                print(f"session over: {closed}", file=sys.stderr)
                self.closes.append(closed.code)
                is_done = self.is_leaving or self.resume is None or closed.code in (1000, 1008)
                if self.is_leaving and self.plants("drain-exits"):
                    await asyncio.Event().wait()
                if closed.code == 1008 and self.plants("refusal-believed"):
                    has_patience = False
                elif is_done:
                    return
            except (OSError, Refused) as problem:
                print(f"the host cannot be reached: {problem}", file=sys.stderr)
                if self.settings.get("ignoreLostHost"):
                    await asyncio.Event().wait()
                return
            # A session that was lost is dialled again, with pauses that grow until one holds.
            pause = FIRST_PAUSE if self.resume != resume else min(2 * pause, LONGEST_PAUSE)
            if has_patience:
                await asyncio.sleep(pause)

    async def converse(self) -> None:
        """One session, from `register` to its close."""
        self.socket = await WebSocket.connect(os.environ["BKG_PLUGIN_BUS_URL"])
        self.socket.answers_pings = not self.plants("ping-answered")
        self.socket.answers_closes = not self.plants("close-answered")
        self.is_registered.clear()
        await self.register()
        beating = asyncio.create_task(self.beat())
        try:
            while True:
                text = await self.socket.receive_text()
                frame = readable(text)
                if frame is not None:
                    await self.take(frame, text)
                elif self.plants("garbage-survived"):
                    os._exit(9)
        finally:
            beating.cancel()
            # What was asked in this session is over with it.
            self.lost = list(self.running)
            self.socket = None
            for request in self.running.values():
                request.cancelled.set()

    def registration(self, **changes: Any) -> Frame:
        """A correct `register`, with some of its fields changed."""
        names = self.settings.get("offers", [*BEHAVIOURS, "llm.chat"])
        models = MODELS if "llm.chat" in names else []
        secret = {"resume": self.resume} if self.resume else {"token": os.environ.get("BKG_PLUGIN_TOKEN")}
        if self.resume and self.plants("reconnects-with-resume"):
            secret = {}
        if self.plants("register-within-entry"):
            names = [*names, "unlisted.thing"]
        return {
            "type": "register",
            **({} if self.plants("speaks-extended") else {"protocol": 1}),
            "plugin": "somebody-else" if self.plants("register-name") else self.name,
            "version": "1.0.0",
            "port": "internal",
            "capabilities": [
                {"id": name, "streaming": name in STREAMING, **self.settings.get("terms", {}).get(name, {})}
                for name in names
            ],
            "models": [{"id": name, "capability": "llm.chat", "ownedBy": "tests"} for name in models],
            "routes": self.settings.get("routes", []),
            **({"meta": self.meta()} if self.settings.get("hot") else {}),
            **secret,
            **changes,
        }

    def meta(self) -> Frame:
        """What it says of itself beside what it offers."""
        return {"hotConfig": True} | ({"configDryRun": True} if self.settings.get("dryRuns") else {})

    async def register(self) -> None:
        """Registers as `settings.register` says."""
        if self.plants("register-first"):
            await self.send(type="health", plugin=self.name, status="up")
        match self.settings.get("register", "once"):
            case "never":
                return
            case "foreign-name":
                await self.send(**self.registration(plugin="somebody-else"))
            case "unlisted-capability":
                await self.send(**self.registration(capabilities=["unlisted.thing"]))
            case "garbage":
                await self.socket_now().send_text("this is not JSON")
            case "twice":
                await self.send(**self.registration())
                await self.send(**self.registration())
            case _:
                await self.send(**self.registration())
        if self.plants("silent-until-registered"):
            await self.send(type="health", plugin=self.name, status="up")
        if self.plants("speaks-extended"):
            self.is_registered.set()

    async def beat(self) -> None:
        """Beats for as long as `test.silent` does not stop it."""
        is_first = self.resume is None
        await self.is_registered.wait()
        is_mute = self.plants("beats-keep-coming" if is_first else "beats-after-reconnect")
        with contextlib.suppress(Closed):
            while True:
                if self.beats and not is_mute:
                    await self.send(type="health", plugin=self.name, status=self.status)
                keeps = not self.plants("heartbeat-kept")
                await asyncio.sleep(self.heartbeat_ms / 1000 if keeps else 10)

    async def take(self, frame: Frame, text: str) -> None:
        """Does what one frame of the host asks."""
        kind = frame["type"]
        self.seen[kind] = self.seen.get(kind, 0) + 1
        request = self.running.get(frame.get("requestId", ""))
        match kind:
            case "registered":
                self.resume = frame.get("resume")
                self.heartbeat_ms = frame.get("heartbeatMs", self.heartbeat_ms)
                self.limits = frame.get("limits") or {}
                config, revision = frame.get("config"), frame.get("configRevision")
                self.config |= {"registered": config, "current": config, "revision": revision}
                self.is_registered.set()
                await faults.once_registered(self)
            case "config" if isinstance(frame.get("revision"), int):
                if frame.get("dryRun") is True:
                    await self.try_settings(frame["revision"], frame["config"])
                else:
                    await self.configure(frame["revision"], frame["config"])
            case "rejected":
                print(f"rejected: {frame.get('code')}: {frame.get('message')}", file=sys.stderr)
            case "request":
                self.start(Request(self, frame, text))
            case "credit" if request:
                request.credit += frame["n"]
                request.granted.set()
            case "cancel" if "requestId" in frame:
                self.note_cancel(frame, request)
                await self.answer_too_much(frame, request)
            case "event":
                self.events.append({"topic": frame["topic"], "data": frame["data"]})
                self.event_seen.set()
            case "response" | "chunk" if waiting := self.answers.get(frame["requestId"]):
                waiting.put_nowait(frame)
            case "response" | "chunk" if self.plants("stray-answers-ignored"):
                os._exit(9)
            case "drain" if not self.settings.get("ignoreDrain"):
                self.spawn(self.drain())
            case "fromTheFuture" if self.plants("unknown-type-ignored"):
                os._exit(9)

    async def answer_too_much(self, frame: Frame, request: Request | None) -> None:
        """Answers a `cancel` where nothing is owed, or before what is owed."""
        error = {"code": "cancelled", "message": "the caller gave up"}
        answer = {"type": "response", "requestId": frame["requestId"], "success": False, "error": error}
        is_late = self.plants("cancel-race-survived") and len(self.cancels) > SEVERAL
        if is_late if request else self.plants_once("stray-cancel-ignored"):
            await self.send(**answer)

    async def try_settings(self, revision: int, config: Frame) -> None:
        """Says what it would make of settings, as they themselves say."""
        self.config["tried"].append(revision)
        applies = config.get("applies", "yes")
        if applies == "never":
            return
        verdict: Frame = {"type": "configApplied", "revision": revision, "success": applies != "no"}
        if not self.plants("dry-runs-answered"):
            verdict["dryRun"] = True
        if applies == "no":
            message = "these settings would not be to its liking"
            verdict["error"] = {"code": "invalid_config", "message": message}
        elif self.plants("dry-run-changes-nothing"):
            self.config["current"] = config
        await self.send(**verdict)

    async def configure(self, revision: int, config: Frame) -> None:
        """Takes settings that were pushed, or does not, as they themselves say."""
        self.config["pushed"].append(revision)
        verdict: Frame = {"type": "configApplied", "revision": revision, "success": True}
        match config.get("applies", "yes"):
            case "never":
                return
            case "yes" if self.plants("good-settings-applied"):
                verdict["success"] = False
            case "no" if not self.plants("bad-settings-refused"):
                if self.plants("refused-settings-change-nothing"):
                    self.config["current"] = config
                error = {"code": "invalid_config", "message": "these settings are not to its liking"}
                verdict |= {"success": False, "error": error}
            case "not-after-all" | "one-no" as applies if applies != "one-no" or is_first_of_all():
                error = {"code": "invalid_config", "message": "not to its liking after all"}
                verdict |= {"success": False, "error": error}
            case "drop":
                await self.socket_now().close(1000)
                return
            case _:
                self.config |= {"current": config, "revision": revision}
        await self.send(**verdict)

    def start(self, request: Request) -> None:
        """Runs the behaviour that the request names, unless its id is that of another."""
        is_double = request.id in self.running and not self.plants("duplicate-id-harmless")
        if is_double or faults.swallows(self, request):
            return
        name = request.frame["capability"]
        behaviour = BEHAVIOURS.get(name)
        if name == "llm.chat":
            behaviour = MODELS.get(request.option("model", ""))
        self.running[request.id] = request
        self.spawn(self.answer(request, behaviour))

    async def answer(self, request: Request, behaviour: Behaviour | None) -> None:
        """Answers one request; a behaviour that trips over its payload is an ordinary error."""
        try:
            if behaviour is None and self.plants("unknown-capability-refused"):
                await request.answer()
            elif behaviour is None:
                await request.fail({"code": "not_found", "message": "there is no such command"})
            else:
                await behaviour(self, request)
        except Closed:
            pass  # The session is gone, and with it whoever waited.
        except (TypeError, ValueError, KeyError) as problem:
            await request.fail({"code": "invalid_request", "message": repr(problem)})
        finally:
            if self.running.get(request.id) is request:
                del self.running[request.id]
            self.finished.set()

    def note_cancel(self, frame: Frame, request: Request | None) -> None:
        """Records a `cancel` with the moment it was read, and tells the request."""
        self.cancels.append(
            {
                "requestId": frame["requestId"],
                "correlationId": request.frame.get("correlationId") if request else None,
                "reason": frame.get("reason"),
                "atMs": now_ms(),
            }
        )
        self.cancel_seen.set()
        if request:
            request.cancelled.set()

    async def drain(self) -> None:
        """Finishes what is running and leaves with 1000."""
        if self.plants("drain-finishes-work"):
            for request in self.running.values():
                request.cancelled.set()
        while self.running:
            self.finished.clear()
            await self.finished.wait()
        self.is_leaving = True
        if self.plants("drain-closes"):
            self.socket_now().abort()
        else:
            await self.socket_now().close(1000)

    async def send(self, **frame: Any) -> None:
        """Writes one message."""
        await self.socket_now().send_text(json.dumps(frame))

    def socket_now(self) -> WebSocket:
        """The open socket."""
        if self.socket is None:
            raise Closed(1006)
        return self.socket

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs `work` beside the reading of frames."""

        async def guarded() -> None:
            with contextlib.suppress(Closed):
                await work

        task = asyncio.create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
