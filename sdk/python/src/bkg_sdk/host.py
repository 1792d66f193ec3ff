"""The handle to the host: everything that a plugin can do besides answering.

Good for the plugin's whole life: it speaks through whatever session there is, and says so where there is
none. Not for answers; those belong to the request's own session. What is not asynchronous here may be used
from any thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, overload

from msgspec import Struct

from . import call as calls
from .environment import Environment
from .error import CallFailed, Disconnected, NotConnected
from .events import Subscription, Topics
from .json import Json, raw
from .log import Logs
from .protocol import message as m
from .protocol.error import unicode_text
from .session import Session
from .telemetry import OwnProcess

T = TypeVar("T")

logger = logging.getLogger("bkg_sdk")


class Health(StrEnum):
    """How a plugin feels.

    >>> Health("degraded")
    <Health.DEGRADED: 'degraded'>
    """

    UP = "up"
    """It serves."""
    DEGRADED = "degraded"
    """It serves, but something is wrong: others are preferred."""
    DOWN = "down"
    """It cannot serve: no request is sent to it."""


class Authorization(Struct, frozen=True, rename="camel"):
    """Whether the holder of a credential may do something, as the host decided.

    >>> Authorization(allowed=False, reason="unknown credential").user is None
    True
    """

    allowed: bool
    """Whether they may."""
    user: str | None = None
    """Whose credential it is."""
    key_id: str | None = None
    """The API key, where it is one."""
    scopes: tuple[str, ...] = ()
    """What the credential grants."""
    reason: str | None = None
    """Why they may not."""


class Host:
    """The handle to the host. Handlers find it as `request.host`, work of the plugin's own is given it.

    >>> async def warm_up(host: Host) -> None:
    ...     host.set_health(Health.DEGRADED, "the index is loading")
    ...     host.log(m.LogLevel.INFO, "loading the index", documents=12_000)
    ...     host.set_health(Health.UP)
    ...     host.set_figure("indexed", 12_000)
    """

    def __init__(self, environment: Environment, logs: Logs, registration: m.Register) -> None:
        self.environment = environment
        """What the host said about this launch."""
        self.stopping = asyncio.Event()
        """Set when the plugin is to stop: take no new work of your own, and finish."""
        self._logs = logs
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._registration = registration
        self._session: Session | None = None
        self._topics = Topics(self.say)
        self._health, self._detail = Health.UP, ""
        # Why the settings are not in force: it outweighs what the plugin says of itself.
        self._settings_problem: str | None = None
        self._figures: dict[str, float] = {}
        self._process = OwnProcess()

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.environment.name

    @property
    def data_dir(self) -> Path:
        """The plugin's private directory, which persists. Raises where the host did not name one."""
        return self.environment.data_dir

    def log(self, level: m.LogLevel, message: str, **fields: object) -> None:
        """Writes a log line with further facts. Never waits; `logging` does as well."""
        self._logs.write(level, message, fields)

    def set_health(self, health: Health, detail: str = "") -> None:
        """Says how the plugin feels: at once, and with every beat from now on.

        `detail` is one sentence on why.
        """

        def change() -> None:
            self._health, self._detail = Health(health), unicode_text(detail)
            self.say_health()

        self._in_loop(change)

    def set_figure(self, name: str, value: float) -> None:
        """Sends a figure of the plugin's own with every telemetry from now on.

        Names that the host knows (`cpu`, `mem_bytes`) and those of the message itself (`type`, `plugin`)
        are not taken; figures that are not finite are left out.
        """
        if name in ("cpu", "mem_bytes", "type", "plugin"):
            return
        # At the door, since what fails in a beat would end the beats.
        try:
            self._figures[unicode_text(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            logger.warning("figure left out: it is not a number", extra={"figure": name})

    @overload
    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
    ) -> Json: ...

    @overload
    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
        read: type[T],
    ) -> T: ...

    async def call(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
        read: type[T] | None = None,
    ) -> T | Json:
        """Asks for a capability, as the plugin's own work, and waits for the answer.

        `Request.call` asks on behalf of the caller whose request is being answered. `timeout` is in
        seconds. `read` is a type for the answer. Raises `CallError` with why there is none.

        >>> async def embed(host: Host, text: str) -> list[float]:
        ...     return await host.call("llm.embed", {"input": text}, timeout=5, read=list[float])
        """
        return await calls.call(
            self._session, capability, payload, parent=None, timeout=timeout, read_as=read
        )

    def call_stream(
        self,
        capability: str,
        payload: object = None,
        *,
        timeout: float | timedelta = calls.DEFAULT_TIMEOUT,
    ) -> calls.CallStream:
        """Asks for an answer in chunks, as the plugin's own work.

        `timeout` is how long the next chunk may take, in seconds.
        """
        return calls.CallStream(self._session, capability, payload, parent=None, timeout=timeout)

    async def authorize(
        self, token: str, scope: str, *, timeout: float | timedelta = calls.DEFAULT_TIMEOUT
    ) -> Authorization:
        """Asks the host whether the holder of a credential may do something.

        For plugins that are reached other than through the host. Needs `host.authorize` in `calls` of the
        plugin's entry. Raises `CallError` where it cannot be found out; that is not a yes.

        >>> async def may_read(host: Host, token: str) -> bool:
        ...     return (await host.authorize(token, "repo.file.read")).allowed
        """
        asked = {"token": token, "scope": scope}
        return await self.call("host.authorize", asked, timeout=timeout, read=Authorization)

    def publish(self, topic: str, data: object = None) -> bool:
        """Sends an event to whoever subscribed to the topic; answers whether it was handed over.

        The topic is a dotted name that begins with this plugin's own: `clock.tick` of the plugin `clock`.
        The host drops any other, and says so in the log. At most once: without a session, or with a socket
        that is behind, the event is dropped.
        """
        written = raw(data)
        size = len(bytes(written))

        def hand_over() -> bool:
            session = self._session
            if session is None or not session.has_room():
                return False
            if len(topic.encode()) + size + 64 > session.granted.max_frame_bytes:
                logger.warning(
                    "event dropped: it exceeds the host's limit", extra={"topic": topic, "bytes": size}
                )
                return False
            session.say(m.Publish(topic=topic, data=written))
            return True

        return self._in_loop(hand_over)

    def subscribe(self, topic: str) -> Subscription:
        """Subscribes to the events of a topic.

        It is one of this plugin, or of another that the entry lists in `subscribes`. The host is told
        again after a broken link; events of the time between are gone, and so are the oldest of those
        that this process was too slow to read.
        """
        return self._in_loop(lambda: self._topics.subscribe(topic, self._in_loop))

    def auth_changed(self, changed: m.AuthChanged) -> None:
        """Says, as the plugin that answers `auth.*`, that what it said before `generation` no longer holds.

        To be said before it answers the request that made the change. Never dropped while there is a
        session; a host that comes back later asks about everybody again.
        """
        self._in_loop(lambda: self.say(changed))

    async def update(self, update: m.Update) -> None:
        """Replaces whole lists of the registration; what the update leaves out stays.

        Raises `CallFailed` with the host's refusal, in which case everything is as before, or another
        `CallError` where there is no session.
        """
        session = self._session
        if session is None:
            raise NotConnected
        try:
            refusal = await session.update(update)
        except ConnectionError:
            raise Disconnected from None
        if refusal is not None:
            raise CallFailed(refusal)
        self._registration = update.applied_to(self._registration)

    async def set_models(self, models: list[m.Model]) -> None:
        """Replaces the list of models. Raises as `update` does."""
        await self.update(m.Update(models=models))

    def from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """In a plain `def`, which runs in a thread: waits for something asynchronous.

        >>> from bkg_sdk import ChunkSink, Plugin, Request
        >>> plugin = Plugin()
        >>> @plugin.stream("disk.read")
        ... def read(request: Request, chunks: ChunkSink) -> None:
        ...     for line in open(request.read(str)):
        ...         request.host.from_thread(chunks.send(line))
        """
        if threading.get_ident() == self._thread:
            work.close()
            raise RuntimeError("this is the event loop's own thread: use `await` instead")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _in_loop(self, work: Callable[[], T]) -> T:
        """Does something on the loop's thread, from whatever thread, and waits for it."""
        if threading.get_ident() == self._thread:
            return work()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as problem:
                done.set_exception(problem)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    # What follows is for the rest of the package.

    @property
    def registration(self) -> m.Register:
        """What the next session says in `register`, token and resume apart."""
        return self._registration

    @property
    def session(self) -> Session | None:
        """The session whose registration holds."""
        return self._session

    def say(self, message: m.Message) -> None:
        """Says something where there is a session; without one it is void."""
        if self._session is not None:
            self._session.say(message)

    def attach(self, session: Session) -> None:
        """A registration holds: from now on this session carries everything."""
        self._session = session
        for topic in self._topics.names():
            session.say(m.Subscribe(topic=topic))
        self._logs.attach(self.name, session)

    def detach(self) -> None:
        """The session is over."""
        self._session = None
        self._logs.detach()

    def deliver(self, event: m.Event) -> None:
        """An event has come."""
        self._topics.deliver(event)

    def set_settings_problem(self, problem: str | None) -> None:
        """Notes whether the settings are in force."""
        if self._settings_problem != problem:
            self._settings_problem = problem
            self.say_health()

    def beat(self) -> None:
        """One heartbeat: health, telemetry, and the log lines that could not leave before."""
        self.say_health()
        self.say(self._telemetry())
        self._logs.flush()

    def say_health(self) -> None:
        """Says how the plugin feels; once it is to stop, that it is stopping: nothing new is sent then."""
        status, detail = self._health.value, self._detail
        if self.stopping.is_set():
            status, detail = "stopping", ""
        elif self._settings_problem is not None:
            status, detail = Health.DOWN.value, self._settings_problem
        self.say(m.Health(plugin=self.name, status=status, detail=detail or None))

    def _telemetry(self) -> m.Telemetry:
        usage = self._process.sample()
        return m.Telemetry(
            plugin=self.name,
            cpu=None if usage is None else usage.cpu,
            mem_bytes=None if usage is None else usage.resident,
            further={name: value for name, value in list(self._figures.items()) if math.isfinite(value)},
        )

    def close(self) -> None:
        """Nothing more will come."""
        self.stopping.set()
        self._topics.close()
