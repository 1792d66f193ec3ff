"""One session with the host, from `register` to the end of its socket.

Hears, hands requests to their handlers, beats, and ends in order when it is told to. It does not dial and
does not decide whether to dial again: `reconnect` does. The invariant: after a `drain` or a stop signal the
socket closes with 1000 as soon as nothing is owed, and at the deadline the work that is left is cancelled
and answered so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from .protocol import message as m
from .session import Session
from .wire import Closed, Gone, Wire

if TYPE_CHECKING:
    from .plugin import Running

logger = logging.getLogger("bkg_sdk")

REGISTERED_WITHIN = 15.0
"""How long `registered` may take, in seconds."""
STOP_GRACE = 5.0
"""How long work may go on after a stop signal that no `drain` announced, in seconds."""
LAST_CALL = 0.5
"""How long work that was cancelled at the end may take to notice, in seconds."""
POLICY = 1008
"""The close code of a refusal: RFC 6455, section 7.4.1."""


@dataclass(frozen=True)
class Finished:
    """It ended as it should: everything is answered."""


@dataclass(frozen=True)
class Refused:
    """The host will not have this plugin."""

    code: str
    message: str


@dataclass(frozen=True)
class Dropped:
    """The socket went."""

    reason: str


Ended: TypeAlias = Finished | Refused | Dropped
"""How a session ended."""


class _Phase(Enum):
    """How far the session is."""

    REGISTERING = auto()
    """The host has yet to answer `register`."""
    SERVING = auto()
    FINISHING = auto()
    """What is in hand may be finished."""
    LAST_CALL = auto()
    """The work was cancelled; what does not notice in time is left."""


class Conversation:
    """Carries one session; `keep_secret` is given the secret for the next one."""

    def __init__(
        self, wire: Wire, session: Session, running: Running, keep_secret: Callable[[str], None]
    ) -> None:
        self._wire = wire
        self._session = session
        self._running = running
        self._keep_secret = keep_secret
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ended] = self._loop.create_future()
        self._phase = _Phase.REGISTERING
        self._until: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._next_beat: asyncio.TimerHandle | None = None

    async def run(self, stop: asyncio.Event) -> Ended:
        """Carries the session to its end."""
        self._enter(_Phase.REGISTERING, within=REGISTERED_WITHIN)
        self._session.wake = self._wire.wake
        self._wire.attend(
            heard=self._hear,
            lost=self._lose,
            next_frame=self._session.next_frame,
            written=self._finish_if_idle,
        )
        stopping = asyncio.create_task(self._stop_when(stop))
        try:
            ended = await self._ended
        finally:
            stopping.cancel()
            for timer in (self._alarm, self._next_beat):
                if timer is not None:
                    timer.cancel()
            self._running.host.detach()
            self._session.end()
            if not self._ended.done() or not isinstance(self._ended.result(), Finished):
                self._wire.abort()
        if isinstance(ended, Finished):
            # Whether the host still answers or not: what was owed has been sent.
            await self._wire.close(1000, "finished")
        return ended

    def _end(self, ended: Ended) -> None:
        if not self._ended.done():
            self._ended.set_result(ended)

    def _enter(self, phase: _Phase, within: float | None = None) -> None:
        self._phase = phase
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._until = None if within is None else self._loop.time() + within
        if self._until is not None:
            self._alarm = self._loop.call_at(self._until, self._time_is_up)
        if self._is_last:
            self._wire.flush_eagerly()
            self._finish_if_idle()

    @property
    def _is_last(self) -> bool:
        return self._phase in (_Phase.FINISHING, _Phase.LAST_CALL)

    def _finish_if_idle(self) -> None:
        is_idle = self._session.is_idle() and self._wire.is_flushed()
        if self._is_last and is_idle and self._running.is_quiet():
            self._end(Finished())

    def _lose(self, gone: Gone) -> None:
        # Nothing was to come after this session.
        if self._is_last:
            self._end(Finished())
        elif isinstance(gone, Closed) and gone.code == POLICY:
            self._end(Refused(str(POLICY), gone.reason))
        elif isinstance(gone, Closed):
            self._end(Dropped(f"the host closed with {gone.code}: {gone.reason}"))
        else:
            self._end(Dropped(gone.reason))

    def _hear(self, frame: bytes) -> None:
        if self._ended.done():
            return
        match self._session.receive(frame):
            case None:
                # A frame that cannot be read may end what was owed.
                self._finish_if_idle()
            case (request, ticket):
                self._running.dispatch(request, ticket, self._session)
            case m.Registered() as registered:
                self._register(registered)
            case m.Rejected(code=code, message=message):
                self._end(Refused(code, message))
            case m.Event() as event:
                self._running.host.deliver(event)
            case m.Config() as config:
                self._running.take_config(config, self._session)
            case m.Drain(deadline_ms=deadline_ms):
                self._drain(deadline_ms / 1000)

    def _register(self, registered: m.Registered) -> None:
        self._keep_secret(registered.resume)
        self._enter(_Phase.SERVING)
        self._running.host.attach(self._session)
        logger.info("registered with the host", extra={"instance": registered.instance})
        # The first beat is due at once.
        self._beat(max(0.001, registered.heartbeat_ms / 1000))
        self._running.registered(registered.config_revision, registered.config)

    def _beat(self, period: float) -> None:
        self._running.host.beat()
        self._next_beat = self._loop.call_later(period, self._beat, period)

    def _drain(self, within: float) -> None:
        self._running.wind_down(self._finish_if_idle)
        if self._phase is _Phase.LAST_CALL:
            return
        # A deadline that holds already is not put off.
        if self._until is not None:
            within = min(within, max(0.0, self._until - self._loop.time()))
        self._enter(_Phase.FINISHING, within=within)

    async def _stop_when(self, stop: asyncio.Event) -> None:
        """The signal to stop: alone it leaves some time, after a `drain` it says that the time is over."""
        await stop.wait()
        match self._phase:
            case _Phase.REGISTERING:
                self._end(Finished())
            case _Phase.SERVING:
                self._running.wind_down(self._finish_if_idle)
                self._running.host.say_health()
                self._enter(_Phase.FINISHING, within=STOP_GRACE)
            case _Phase.FINISHING:
                self._call_last()
            case _Phase.LAST_CALL:
                pass

    def _time_is_up(self) -> None:
        match self._phase:
            case _Phase.REGISTERING:
                self._end(Dropped(f"the host did not answer `register` in {REGISTERED_WITHIN:g} s"))
            case _Phase.FINISHING:
                self._call_last()
            case _Phase.LAST_CALL:
                self._end(Finished())
            case _Phase.SERVING:
                pass

    def _call_last(self) -> None:
        self._session.cancel_all()
        self._enter(_Phase.LAST_CALL, within=LAST_CALL)
