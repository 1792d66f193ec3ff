"""One session with the host, shared by the connection that carries it and the tasks that work in it.

The protocol's plugin half, and whom to wake; no socket. Touched on the event loop's thread alone. The
invariant: a request stays bound to the session that it came in; its answer cannot reach another one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from .json import RawJson
from .protocol import message as m
from .protocol.error import WireError
from .protocol.exchange import (
    Answered,
    Broken,
    ChunkCame,
    Dropped,
    MayStream,
    Outcome,
    Refusal,
    Released,
    RequestCancelled,
)
from .protocol.inbound import ChunkRefused
from .protocol.plugin import PluginSession, UpdateDecided

logger = logging.getLogger("bkg_sdk")

FULL = 1 << 20
"""How many bytes may wait for the socket before chunks and calls wait too. Answers do not: there is one per
request, and they free what the host holds."""
ROOM_AGAIN = FULL // 2
"""How many bytes may be left when those who wait go on."""
FULL_FOR_LOGS = FULL // 4
"""How many bytes may wait before log lines are kept back: work goes before words."""


class Ticket:
    """A request that is being worked on."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        """Set when nobody wants the answer any more."""
        self.credit = asyncio.Event()
        """Set when the host has granted further chunks."""
        self.task: asyncio.Task[None] | None = None
        """Who works on it."""
        self.on_cancel: Callable[[], None] = lambda: None
        """Answers the request."""

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if not self.cancelled.is_set():
            self.cancelled.set()
            # Whoever waits for credit looks again.
            self.credit.set()
            self.on_cancel()
            if self.task is not None:
                self.task.cancel()


class Waiter:
    """Who waits for the answer to a request of the plugin's own."""

    def __init__(self, *, streams: bool) -> None:
        self.chunks: asyncio.Queue[RawJson | None] | None = asyncio.Queue() if streams else None
        """Bounded by the credit that was given; `None` after the last one."""
        self.answer: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        """The outcome; `None` where the session ended before it."""

    def finish(self, outcome: Outcome | None) -> None:
        """Nothing more will come."""
        if self.chunks is not None:
            self.chunks.put_nowait(None)
        if not self.answer.done():
            self.answer.set_result(outcome)


Incoming: TypeAlias = (
    m.Registered | m.Rejected | tuple[m.Request, Ticket] | m.Event | m.Config | m.Drain | None
)
"""What came from the host and is for the plugin to act on; `None` where the session dealt with it."""


class Session:
    """One session with the host."""

    def __init__(self, register: m.Register) -> None:
        self._began = time.monotonic()
        self._half: PluginSession[Waiter] = PluginSession(random.getrandbits(64), register)
        self._tickets: dict[str, Ticket] = {}
        # Who waits for an `updated`, in the order of the `update`s.
        self._updates: deque[asyncio.Future[WireError | None]] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._is_over = False
        self.wake: Callable[[], None] = lambda: None
        """Tells the connection that there is something to write."""

    def receive(self, frame: bytes) -> Incoming:
        """Takes in one frame."""
        match self._half.receive(frame, self._now()):
            case m.Request() as request:
                ticket = self._tickets[request.request_id] = Ticket()
                return request, ticket
            case MayStream(request_id):
                if ticket_with_credit := self._tickets.get(request_id):
                    ticket_with_credit.credit.set()
            case Answered(waiter, outcome):
                waiter.finish(outcome)
            case ChunkCame(waiter, data):
                if waiter.chunks is not None:
                    waiter.chunks.put_nowait(data)
            case Broken(waiter, error):
                waiter.finish(error)
            case RequestCancelled(request_id, _):
                if cancelled := self._tickets.get(request_id):
                    cancelled.cancel()
            case UpdateDecided(refusal):
                if self._updates and not (asked := self._updates.popleft()).done():
                    asked.set_result(refusal)
            case Released():
                pass
            case Dropped() as dropped:
                logger.debug("frame without effect", extra={"reason": dropped.name.lower()})
            case told:
                return told
        # What was heard may have to be answered: a stream that broke is cancelled at once.
        self.wake()
        return None

    def answer(self, request_id: str, outcome: Outcome) -> bool:
        """Sends the one answer to a request; answers whether it was open."""
        self._tickets.pop(request_id, None)
        was_open = self._half.answer(request_id, outcome)
        self.wake()
        return was_open

    def chunk(self, request_id: str, data: RawJson) -> ChunkRefused | None:
        """Sends a part of a streamed answer, or says why not. Wait for `room` before."""
        refused = self._half.send_chunk(request_id, data)
        if refused is None:
            self.wake()
        return refused

    def has_room(self) -> bool:
        """Whether chunks, calls and events can be taken now; if not, `room` says when."""
        if self._half.waiting_bytes > FULL and not self._is_over:
            self._room.clear()
            return False
        return True

    async def room(self) -> None:
        """Waits until the socket has caught up."""
        while not self.has_room():
            await self._room.wait()

    def has_room_for_logs(self) -> bool:
        """Whether log lines can be taken now."""
        return self._half.waiting_bytes <= FULL_FOR_LOGS

    def start(self, request: m.Request, waiter: Waiter) -> str | Refusal:
        """Asks the host to have a capability answered; answers the request's id, or why it was not sent."""
        started = self._half.start(request, waiter)
        self.wake()
        return started

    def give_up(self, request_id: str, reason: m.CancelReason) -> None:
        """Gives up on a request of the plugin's own; nothing happens if it is over."""
        self._half.cancel(request_id, reason, self._now())
        self.wake()

    def grant(self, request_id: str, n: int) -> None:
        """Allows further chunks of a stream that the plugin asked for."""
        self._half.credit(request_id, n)
        self.wake()

    @property
    def granted(self) -> m.GrantedLimits:
        """What the host accepts."""
        return self._half.granted

    def say(self, message: m.Message) -> None:
        """Says anything that is neither question nor answer."""
        if not self._is_over:
            self._half.say(message)
            self.wake()

    async def update(self, update: m.Update) -> WireError | None:
        """Says an `update`, and answers why the host refuses it, if it does.

        Raises `ConnectionError` where the session ends before the verdict.
        """
        verdict: asyncio.Future[WireError | None] = asyncio.get_running_loop().create_future()
        if self._is_over:
            raise ConnectionError
        # What has no JSON form raises here, and takes nobody else's verdict.
        self.say(update)
        self._updates.append(verdict)
        return await verdict

    def next_frame(self) -> bytes | None:
        """The next frame to write."""
        frame = self._half.next_frame()
        if not self._room.is_set() and self._half.waiting_bytes <= ROOM_AGAIN:
            self._room.set()
        return frame

    def is_idle(self) -> bool:
        """Whether nothing is left to answer or to write."""
        return self._half.owed == 0 and self._half.waiting_bytes == 0

    def cancel_all(self) -> None:
        """Cancels all work: each request is answered `cancelled` by the task that has it."""
        for ticket in list(self._tickets.values()):
            ticket.cancel()

    def end(self) -> None:
        """The socket is gone: work for it is cancelled, and whoever waits for an answer hears of it."""
        self._is_over = True
        self.wake = lambda: None
        lost, _ = self._half.end()
        for each in lost:
            each.waiter.finish(None)
        for verdict in self._updates:
            if not verdict.done():
                verdict.set_exception(ConnectionError())
        self._updates.clear()
        self.cancel_all()
        self._tickets.clear()
        self._room.set()

    def _now(self) -> float:
        return time.monotonic() - self._began
