"""A host in memory, to test a plugin without a daemon and without a port.

`TestHost` speaks through the protocol's host half, over a WebSocket inside the process: what it lets pass
the daemon lets pass, and what breaks a rule is counted here as there. It decides nothing about rights,
routes or restarts; those are the daemon's. Everything here waits at most ten seconds and then fails with
what it waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import socket
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from msgspec import UNSET

from .call import seconds
from .environment import Environment
from .json import Json, RawJson, raw, read
from .plugin import Plugin
from .protocol import message as m
from .protocol.error import ErrorCode, WireError, error_of_raw
from .protocol.exchange import (
    Answered,
    Broken,
    ChunkCame,
    Dropped,
    FrameTooLarge,
    MayStream,
    NotOpen,
    Outcome,
    RequestCancelled,
)
from .protocol.frame import PLUGIN_MESSAGES, FrameError
from .protocol.host import HostSession
from .protocol.inbound import ChunkRefused
from .protocol.limits import Limits
from .protocol.message import CancelReason
from .wire import Closed, Gone, Wire

__all__ = ["CancelReason", "Limits", "Seen", "TestHost", "TestRequest"]

T = TypeVar("T")

PATIENCE = 10.0
"""How long anything here waits, in seconds."""
TOKEN = "test-launch-token"
"""The launch token of a plugin under test."""

Answerer = Callable[[m.Request], object]
"""Answers what the plugin under test asks for: with a value, by raising `WireError`, or by something to
await."""


@dataclass
class Seen:
    """What a plugin has said so far."""

    registrations: list[m.Register] = field(default_factory=list)
    """Its registrations: one, and one more for each time it came back."""
    logs: list[m.Log] = field(default_factory=list)
    """Its log lines."""
    health: list[m.Health] = field(default_factory=list)
    """Its beats."""
    telemetry: list[m.Telemetry] = field(default_factory=list)
    """Its figures."""
    published: list[tuple[str, Json]] = field(default_factory=list)
    """The events that it published: topic and data."""
    topics: list[str] = field(default_factory=list)
    """The topics that it wants now."""
    auth_changes: list[m.AuthChanged] = field(default_factory=list)
    """What it said about credentials that changed."""
    answers_before_auth_changes: list[int] = field(default_factory=list)
    """How many `answers` had come when each of `auth_changes` did."""
    answers: list[tuple[str, Json | WireError]] = field(default_factory=list)
    """Its answers by request id, also those that nobody waited for."""
    asked: list[m.Request] = field(default_factory=list)
    """What it asked for."""
    gave_up: list[str] = field(default_factory=list)
    """What it gave up of what it had asked for."""
    dropped: list[Dropped] = field(default_factory=list)
    """Why frames had no effect: they broke a rule or came too late."""
    closed: list[int] = field(default_factory=list)
    """The close codes of its sessions, where it closed them in order."""


class _Waiter:
    """Who waits in the test."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[RawJson | None] = asyncio.Queue()
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def finish(self, outcome: Outcome) -> None:
        self.chunks.put_nowait(None)
        if not self.answer.done():
            self.answer.set_result(outcome)


class TestHost:
    """A host in memory with one plugin.

    `settings` are what the plugin gets when it registers, `limits` the bounds of the session, `name` its
    name, `data_dir` where it may keep data. `answering` answers capabilities that the plugin asks for,
    `streaming` answers them with a list of chunks, `silent` takes them and never answers. `rejecting`, a
    code and a message, refuses every registration: entering raises `Rejected` then. `refusing_updates`
    refuses every `update`. While it is entered, what is logged with `logging` at `log_level` and above goes
    to it.

    >>> from bkg_sdk import Plugin, Request
    >>> plugin = Plugin()
    >>> @plugin.answer("math.double")
    ... async def double(request: Request) -> int:
    ...     return 2 * request.read(int)
    >>> async def main() -> None:
    ...     async with TestHost(plugin) as host:
    ...         print(await host.request("math.double", 21))
    ...         try:
    ...             await host.request("math.double", "x")
    ...         except WireError as error:
    ...             print(error.code)
    >>> asyncio.run(main())
    42
    invalid_request
    """

    __test__ = False

    def __init__(
        self,
        plugin: Plugin,
        *,
        settings: object = None,
        limits: Limits | None = None,
        name: str = "test",
        data_dir: Path | str | None = None,
        answering: Mapping[str, Answerer] | None = None,
        streaming: Mapping[str, Callable[[m.Request], Iterable[object]]] | None = None,
        silent: Sequence[str] = (),
        rejecting: tuple[ErrorCode | str, str] | None = None,
        refusing_updates: WireError | None = None,
        log_level: int = logging.INFO,
    ) -> None:
        self.seen = Seen()
        """What the plugin has said so far."""
        self._plugin = plugin
        self._limits = limits or Limits()
        self._environment = Environment(
            "memory", name, TOKEN, data_dir=None if data_dir is None else Path(data_dir)
        )
        self._settings = raw(settings)
        self.answering = dict(answering or {})
        """Who answers what the plugin asks for; may change while it runs, like the next two."""
        self.streaming = dict(streaming or {})
        """Who answers it in chunks."""
        self.silent = set(silent)
        """What is never answered."""
        self._rejecting = rejecting
        self._refusing_updates = refusing_updates
        self._log_level = log_level
        self._revision = 1
        self._applied: dict[tuple[int, bool], m.ConfigApplied] = {}
        self._resume: str | None = None
        self._backlogs: dict[str, tuple[deque[RawJson], Outcome]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wire: Wire | None = None
        self._half: HostSession[_Waiter] = HostSession(0, self._limits)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> TestHost:
        self._began = time.monotonic()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._handler = self._plugin.log_handler()
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(self._handler)
        root.setLevel(min(root.level, self._log_level))
        self._running = asyncio.create_task(self._plugin.serve_over(self, self._environment, self._stop))
        self._running.add_done_callback(lambda _: self._changed.set())
        try:
            await self.until("the plugin registers", lambda seen: bool(seen.registrations))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level_before)
        for task in (self._running, *self._tasks):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        if self._wire is not None:
            self._wire.abort()
            await self._wire.ended()

    # The plugin's side dials here.

    url = "memory"
    """Where the plugin dials, for messages."""

    async def dial(self) -> Wire:
        """Opens a link in memory."""
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        for each in (near, far):
            each.setblocking(False)
        _, plugins = await loop.create_connection(lambda: Wire.without_upgrade(is_server=False), sock=near)
        _, ours = await loop.create_connection(lambda: Wire.without_upgrade(is_server=True), sock=far)
        self._half = HostSession(random.getrandbits(64), self._limits)
        self._wire = ours
        ours.attend(
            heard=self._hear,
            lost=lambda gone: self._lose(ours, gone),
            next_frame=self._half.next_frame,
            written=self._close_if_told,
        )
        return plugins

    def _lose(self, wire: Wire, gone: Gone) -> None:
        if wire is not self._wire:
            return
        if isinstance(gone, Closed):
            self.seen.closed.append(gone.code)
        disconnected = WireError(ErrorCode.PLUGIN_DISCONNECTED, "the session ended before the answer")
        lost, _ = self._half.end()
        for each in lost:
            each.waiter.finish(disconnected)
        self._backlogs.clear()
        self.seen.topics.clear()
        wire.abort()
        self._changed.set()

    def _close_if_told(self) -> None:
        closing = self._half.closing
        if closing is not None and self._wire is not None:
            self._spawn(self._wire.close(closing.code, closing.reason))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        if self._wire is not None:
            self._wire.wake()
        self._changed.set()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _hear(self, frame: bytes) -> None:
        seen = self.seen
        self._note_answer(frame)
        match self._half.receive(frame, self._now()):
            case m.Register() as register:
                self._register(register)
            case Answered(waiter, outcome):
                waiter.finish(outcome)
            case ChunkCame(waiter, data):
                waiter.chunks.put_nowait(data)
            case Broken(waiter, error):
                waiter.finish(error)
            case m.Request() as request:
                seen.asked.append(request)
                self._answer(request)
            case RequestCancelled(request_id, _):
                self._backlogs.pop(request_id, None)
                self._half.answer(request_id, WireError(ErrorCode.CANCELLED, "the request was cancelled"))
                seen.gave_up.append(request_id)
            case MayStream(request_id):
                self._stream(request_id)
            case m.Health() as health:
                seen.health.append(health)
            case m.Telemetry() as telemetry:
                seen.telemetry.append(telemetry)
            case m.Log() as log:
                seen.logs.append(log)
            case m.Update() as update:
                if self._refusing_updates is None:
                    seen.registrations[-1] = update.applied_to(seen.registrations[-1])
                self._half.updated(self._refusing_updates)
            case m.Subscribe(topic=topic):
                seen.topics.append(topic)
            case m.Unsubscribe(topic=topic):
                seen.topics.remove(topic)
            case m.Publish(topic=topic, data=data):
                seen.published.append((topic, read(data, Any)))
            case m.ConfigApplied() as applied:
                self._applied[applied.revision, applied.dry_run] = applied
            case m.AuthChanged() as changed:
                seen.auth_changes.append(changed)
                seen.answers_before_auth_changes.append(len(seen.answers))
            case Dropped() as dropped:
                seen.dropped.append(dropped)
            case _:
                pass
        self._wake()

    def _note_answer(self, frame: bytes) -> None:
        try:
            message = PLUGIN_MESSAGES.decode(frame)
        except FrameError:
            return
        if isinstance(message, m.Response):
            outcome = message.outcome()
            told = outcome if isinstance(outcome, WireError) else read(outcome, Any)
            self.seen.answers.append((message.request_id, told))

    def _register(self, register: m.Register) -> None:
        """The first registration shows the launch token, the next ones what the last one gave."""
        is_right = register.token == TOKEN if self._resume is None else register.resume == self._resume
        if self._rejecting is not None:
            self._half.reject(*self._rejecting)
        elif not is_right:
            self._half.reject(ErrorCode.UNAUTHORIZED, "the secret is not the one that was given")
        else:
            self._resume = f"resume-{len(self.seen.registrations)}"
            self._half.accept(
                instance=str(uuid.uuid4()),
                resume=self._resume,
                config=self._settings,
                config_revision=self._revision,
            )
            self.seen.registrations.append(register)

    def _answer(self, request: m.Request) -> None:
        if request.capability in self.silent:
            return
        if request.capability in self.streaming:
            chunks = deque(raw(chunk) for chunk in self.streaming[request.capability](request))
            self._backlogs[request.request_id] = (chunks, m.NULL)
            self._stream(request.request_id)
        elif request.capability in self.answering:
            self._spawn(self._answer_by(self.answering[request.capability], request))
        else:
            problem = f"no plugin answers `{request.capability}`"
            self._half.answer(request.request_id, WireError(ErrorCode.PLUGIN_UNAVAILABLE, problem))

    async def _answer_by(self, answerer: Answerer, request: m.Request) -> None:
        try:
            answer = answerer(request)
            outcome: Outcome = raw(await answer if inspect.isawaitable(answer) else answer)
        except WireError as error:
            outcome = error
        self._half.answer(request.request_id, outcome)
        self._wake()

    def _stream(self, request_id: str) -> None:
        if request_id not in self._backlogs:
            return
        chunks, outcome = self._backlogs[request_id]
        while chunks:
            refused = self._half.send_chunk(request_id, chunks[0])
            if refused is ChunkRefused.NO_CREDIT:
                return
            if refused is not None:
                outcome = WireError(ErrorCode.PLUGIN_ERROR, f"a chunk was refused: {refused.name}")
                break
            chunks.popleft()
        del self._backlogs[request_id]
        self._half.answer(request_id, outcome)

    # What a test does.

    async def request(
        self,
        capability: str,
        payload: object = None,
        *,
        http: m.HttpRequest | None = None,
        caller: m.Caller | None = None,
        timeout: float | timedelta | None = None,
        correlation_id: str | None = None,
        token: str | None = None,
    ) -> Json:
        """Asks for one answer. Raises the `WireError` that the plugin answered."""
        return await self.start_request(
            capability,
            payload,
            http=http,
            caller=caller,
            timeout=timeout,
            correlation_id=correlation_id,
            token=token,
        ).outcome()

    def start_request(
        self,
        capability: str,
        payload: object = None,
        *,
        http: m.HttpRequest | None = None,
        caller: m.Caller | None = None,
        timeout: float | timedelta | None = None,
        correlation_id: str | None = None,
        token: str | None = None,
    ) -> TestRequest:
        """Asks for one answer and does not wait for it yet."""
        return self.send(
            m.Request(
                request_id="",
                capability=capability,
                payload=raw(payload),
                http=http,
                caller=caller,
                timeout_ms=None if timeout is None else round(seconds(timeout) * 1000),
                correlation_id=correlation_id,
                token=token,
            )
        )

    def stream(
        self, capability: str, payload: object = None, *, http: m.HttpRequest | None = None
    ) -> TestRequest:
        """Asks for an answer in chunks, and grants credit as they are taken."""
        request = self.send(
            m.Request(request_id="", capability=capability, payload=raw(payload), stream=True, http=http)
        )
        request.grants = True
        return request

    def stream_with_credit(self, capability: str, payload: object = None, *, credit: int) -> TestRequest:
        """Asks for an answer in chunks with so much credit; further credit is the test's affair."""
        return self.send(
            m.Request(
                request_id="", capability=capability, payload=raw(payload), stream=True, credit=credit
            )
        )

    def send(self, request: m.Request) -> TestRequest:
        """Sends a request with every member as the test wants it; its id is assigned here."""
        waiter = _Waiter()
        started = self._half.start(request, waiter)
        if isinstance(started, (NotOpen, FrameTooLarge)):
            raise AssertionError(f"the plugin takes no request now: {started}")
        self._wake()
        return TestRequest(self, started, waiter)

    async def configure(self, settings: object) -> None:
        """Pushes settings and waits for the verdict. Raises the `WireError` with why the plugin refuses."""
        self._settings = raw(settings)
        await self._send_settings(self._settings, dry_run=False)

    async def dry_run(self, settings: object) -> None:
        """Asks what the plugin thinks of settings, as the host does before it saves them.

        Raises the `WireError` with why the plugin would refuse them.
        """
        await self._send_settings(raw(settings), dry_run=True)

    async def _send_settings(self, settings: RawJson, *, dry_run: bool) -> None:
        self._revision += 1
        asked = (self._revision, dry_run)
        self._half.config(m.Config(revision=self._revision, config=settings, dry_run=dry_run))
        self._wake()
        await self.until("the plugin answers the settings", lambda _: asked in self._applied)
        verdict = self._applied[asked]
        if not verdict.success:
            assert verdict.error is not UNSET, "a refusal has a reason"
            raise error_of_raw(verdict.error)

    def event(self, topic: str, data: object = None) -> None:
        """Sends an event of a topic."""
        self._half.event(m.Event(topic=topic, data=read(raw(data), Any)))
        self._wake()

    def say_raw(self, *frames: bytes) -> None:
        """Writes frames as they stand, in one packet: texts that are UTF-8 or not, messages or none."""
        if self._wire is not None:
            self._wire.write_raw(*frames)

    def drain(self, *, within: float | timedelta) -> None:
        """Asks the plugin to finish what it has; `within` is in seconds."""
        self._half.drain(round(seconds(within) * 1000))
        self._wake()

    def signal(self) -> None:
        """Gives the plugin the signal to stop, as SIGTERM would."""
        self._stop.set()

    def break_link(self) -> None:
        """Breaks the link without a word."""
        if self._wire is not None:
            self._wire.abort()

    async def ended(self) -> None:
        """Waits for the plugin's end. Raises the `RunError` with why it could not go on."""
        assert self._running is not None, "the host was entered"
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self._running)
        except TimeoutError:
            raise AssertionError("waited 10 s in vain: the plugin ends") from None

    async def until(self, what: str, condition: Callable[[Seen], bool]) -> None:
        """Waits until what the plugin has said fulfils a condition; `what` says in the failure which."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition(self.seen):
                    if self._running is not None and self._running.done() and not self.seen.registrations:
                        self._running.result()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited 10 s in vain: {what}; seen: {self.seen}") from None

    @property
    def in_flight(self) -> int:
        """How many requests the plugin has yet to answer."""
        return self._half.in_flight

    # What a request does.

    def grant(self, request_id: str, n: int) -> None:
        """Allows `n` more chunks of a stream."""
        self._half.credit(request_id, n)
        self._wake()

    def cancel(self, request_id: str, reason: CancelReason) -> None:
        """Gives up on a request."""
        self._half.cancel(request_id, reason, self._now())
        self._wake()


class TestRequest:
    """A request that a test has sent; iterating over it takes its chunks."""

    __test__ = False

    def __init__(self, host: TestHost, request_id: str, waiter: _Waiter) -> None:
        self.id = request_id
        """Its id."""
        self.grants = False
        """Whether credit is granted as chunks are taken."""
        self._host = host
        self._waiter = waiter

    async def next(self) -> Json:
        """The next chunk. Raises `StopAsyncIteration` after the last one."""
        try:
            async with asyncio.timeout(PATIENCE):
                chunk = await self._waiter.chunks.get()
        except TimeoutError:
            raise AssertionError("waited 10 s in vain: a chunk comes") from None
        if chunk is None:
            self._waiter.chunks.put_nowait(None)
            raise StopAsyncIteration
        if self.grants:
            self.grant(1)
        return read(chunk, Any)

    def chunks_here(self) -> int:
        """How many chunks are here that were not taken."""
        return self._waiter.chunks.qsize() - int(self._waiter.answer.done())

    def __aiter__(self) -> AsyncIterator[Json]:
        return self

    async def __anext__(self) -> Json:
        return await self.next()

    async def collect(self) -> list[Json]:
        """All chunks that are left. Raises the `WireError` that the plugin answered after them."""
        chunks = [chunk async for chunk in self]
        await self.outcome()
        return chunks

    def grant(self, n: int) -> None:
        """Allows `n` more chunks."""
        self._host.grant(self.id, n)

    def cancel(self, reason: CancelReason = CancelReason.CALLER_GONE) -> None:
        """Gives up on it. Its answer shows in `Seen.answers` only."""
        self._host.cancel(self.id, reason)

    async def outcome(self) -> Json:
        """The outcome.

        Raises the `WireError` that the plugin answered, or `plugin_disconnected` where the session ended
        first.
        """
        return read(await self.raw_outcome(), Any)

    async def raw_outcome(self) -> RawJson:
        """The outcome as the text that it is. Raises as `outcome` does."""
        try:
            async with asyncio.timeout(PATIENCE):
                outcome = await asyncio.shield(self._waiter.answer)
        except TimeoutError:
            raise AssertionError("waited 10 s in vain: an answer comes") from None
        if isinstance(outcome, WireError):
            raise outcome
        return outcome
