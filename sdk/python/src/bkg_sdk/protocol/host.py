"""The host's half of a session with one plugin instance, as the test host needs it.

Feed it frames, write what `next_frame` returns, close when `closing` says so. The mirror of `plugin`, and
replayed against the same golden conversations. It decides nothing about rights, routes or restarts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw

from . import message as m
from .error import ErrorCode, WireError, error_to_raw
from .exchange import (
    Answered,
    Broken,
    ChunkCame,
    Dropped,
    Exchange,
    GivenUp,
    Lost,
    MayStream,
    NotOpen,
    Outcome,
    Refusal,
    Released,
    RequestCancelled,
    Retracted,
)
from .frame import PLUGIN_MESSAGES, FrameError, UnknownType, encode
from .inbound import ChunkRefused
from .limits import CHUNK_ENVELOPE, Limits

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Close:
    """Why the session closes, and with which WebSocket close code (RFC 6455, section 7.4.1)."""

    code: int
    reason: str


HostEvent: TypeAlias = (
    m.Message
    | RequestCancelled
    | MayStream
    | Answered[W]
    | ChunkCame[W]
    | Broken[W]
    | Released[W]
    | Dropped
    | Close
)
"""Something that happened in a session, for the host to act on; a message is what the plugin said."""


class _Phase(Enum):
    SILENT = auto()
    DECIDING = auto()
    OPEN = auto()
    DRAINING = auto()
    CLOSED = auto()


class HostSession(Generic[W]):
    """The host's half of a session; `W` is whoever waits for an answer."""

    def __init__(self, seed: int, limits: Limits) -> None:
        """A session that waits for `register`; `seed` is 64 random bits that make its ids unique."""
        self._limits = limits
        self._extended = False
        self._phase = _Phase.SILENT
        self._exchange: Exchange[W] = Exchange(seed)
        self._unreadable: deque[float] = deque()
        self.closing: Close | None = None
        """Why the session closes, if it does: write the frames that wait, then close."""

    def receive(self, frame: bytes, now: float) -> HostEvent[W]:
        """Takes in one frame; `now` is the time since the session began, in seconds.

        A `Register` is to be answered with `accept` or `reject` before the next frame.
        """
        if self._phase is _Phase.CLOSED:
            return Dropped.OUT_OF_PLACE
        try:
            message = PLUGIN_MESSAGES.decode(frame)
        except FrameError as problem:
            return self._hear_unreadable(problem, now)
        if self._phase is _Phase.SILENT and not isinstance(message, m.Register):
            return self._close(1008, "the first frame must be `register`")
        if isinstance(message, UnknownType):
            return Dropped.UNKNOWN_TYPE
        return self._hear(message, now)

    def _hear(self, message: m.Message, now: float) -> HostEvent[W]:
        exchange = self._exchange
        match message:
            case m.Register():
                if self._phase is not _Phase.SILENT:
                    return self._close(1008, "a session registers once: open a new one instead")
                self._phase = _Phase.DECIDING
                self._extended = message.protocol is not None
                return message
            case m.Response():
                return exchange.hear_response(message.request_id, message.outcome())
            case m.Chunk():
                return exchange.hear_chunk(message, self._limits.chunk, now, tell=self._extended)
            case m.Health() | m.Telemetry() | m.Log():
                return message
            case m.Request():
                if not self._extended:
                    # A base plugin cannot know what it would have to say about these.
                    message = msgspec.structs.replace(message, stream=False, parent_request_id=None)
                dropped = exchange.hear_request(
                    message,
                    most=self._limits.in_flight_from_plugin,
                    default_credit=self._limits.stream_credit,
                )
                return message if dropped is None else dropped
        if not self._extended:
            return Dropped.OUT_OF_PLACE
        match message:
            case m.Cancel():
                return exchange.hear_cancel(message)
            case m.Credit():
                return exchange.hear_credit(message)
            case _:
                return message

    def _hear_unreadable(self, problem: FrameError, now: float) -> HostEvent[W]:
        """Counted, and too many of it end the session; whoever waits for it hears of it at once."""
        if self._phase is _Phase.SILENT:
            reason = str(problem) if problem.kind == "register" else "the first frame must be `register`"
            return self._close(1008, reason)
        while self._unreadable and self._unreadable[0] < now - self._limits.unreadable_window:
            self._unreadable.popleft()
        self._unreadable.append(now)
        if len(self._unreadable) >= self._limits.unreadable_frames:
            return self._close(1007, "too many frames that cannot be read")
        return self._exchange.hear_unreadable(problem, now, tell=self._extended)

    def accept(self, *, instance: str, resume: str, config: Raw, config_revision: int) -> None:
        """The registration holds. An extended plugin is told so."""
        self._phase = _Phase.OPEN
        if not self._extended:
            return
        limits = self._limits
        # Urgent, so that no credit or drain overtakes it: nothing may come before it.
        self._exchange.outbox.push_urgent(
            encode(
                m.Registered(
                    protocol=m.PROTOCOL_VERSION,
                    instance=instance,
                    resume=resume,
                    heartbeat_ms=round(limits.heartbeat * 1000),
                    limits=m.GrantedLimits(limits.frame_from_plugin, limits.chunk, limits.stream_credit),
                    config=config,
                    config_revision=config_revision,
                )
            )
        )

    def reject(self, code: ErrorCode | str, message: str) -> None:
        """The registration is refused. An extended plugin is told why; either is closed with 1008."""
        if self._extended:
            self._say(m.Rejected(code=str(code), message=message))
        self._close(1008, message)

    def updated(self, refusal: WireError | None) -> None:
        """Answers an `update`."""
        error = UNSET if refusal is None else error_to_raw(refusal)
        self._say(m.Updated(success=refusal is None, error=error))

    def start(self, request: m.Request, waiter: W) -> str | Refusal:
        """Asks the plugin; answers the request's id, or why it was not sent."""
        if self._phase is not _Phase.OPEN:
            return NotOpen()
        if not self._extended:
            request = m.Request(
                request_id="",
                capability=request.capability,
                payload=request.payload,
                token=request.token,
            )
        elif request.stream and request.credit is None:
            request = msgspec.structs.replace(request, credit=self._limits.stream_credit)
        return self._exchange.start(request, waiter, self._frame_limit())

    def _frame_limit(self) -> int:
        return self._limits.frame_to_extended if self._extended else self._limits.frame_to_base

    def cancel(self, request_id: str, reason: m.CancelReason, now: float) -> GivenUp | Retracted[W]:
        """Gives up on a request. A base plugin is not told: its late `response` frees its place."""
        return self._exchange.give_up(request_id, reason, now, tell=self._extended)

    def credit(self, request_id: str, n: int) -> None:
        """Allows `n` more chunks of a stream."""
        self._exchange.grant(request_id, n)

    def answer(self, request_id: str, outcome: Outcome) -> bool:
        """Answers a request of the plugin; answers whether it was open."""
        return self._exchange.answer(request_id, outcome, self._frame_limit())

    def send_chunk(self, request_id: str, data: Raw) -> ChunkRefused | None:
        """Sends the plugin a part of the answer to its request, or says why not."""
        limit = min(self._limits.chunk, self._frame_limit() - CHUNK_ENVELOPE)
        return self._exchange.send_chunk(request_id, data, limit)

    def event(self, event: m.Event) -> None:
        """Sends an event of a topic that the plugin subscribed to."""
        if self._is_extended_and_open():
            self._say(event)

    def config(self, config: m.Config) -> None:
        """Pushes new settings."""
        if self._is_extended_and_open():
            self._say(config)

    def drain(self, deadline_ms: int) -> list[W]:
        """Takes the plugin out of service: no request is sent any more, what it has it may finish.

        The waiters of requests that had not been written come back, for another instance.
        """
        if self._phase is not _Phase.OPEN:
            return []
        self._phase = _Phase.DRAINING
        if self._extended:
            self._exchange.outbox.push_urgent(encode(m.Drain(deadline_ms=deadline_ms)))
        return self._exchange.retract_unsent()

    def shut(self, code: int, reason: str) -> None:
        """Ends the session from the host's side: the close code and reason to send after the frames."""
        self._close(code, reason)

    def _close(self, code: int, reason: str) -> Close:
        if self.closing is None:
            # A close reason may have 123 bytes (RFC 6455, section 5.5).
            self.closing = Close(code, reason.encode()[:123].decode(errors="ignore"))
        self._phase = _Phase.CLOSED
        return self.closing

    def _say(self, message: m.Message) -> None:
        self._exchange.outbox.push(encode(message))

    def _is_extended_and_open(self) -> bool:
        return self._extended and self._phase in (_Phase.OPEN, _Phase.DRAINING)

    def overdue(self, now: float) -> str:
        """Whether the plugin owes answers to requests that were given up: `no`, `degraded` or `replace`.

        A base plugin never heard of it and owes nothing.
        """
        since = self._exchange.outbound.longest_given_up(now) if self._extended else None
        if since is None or since < self._limits.cancel_degrades_after:
            return "no"
        return "degraded" if since < self._limits.cancel_replaces_after else "replace"

    def next_frame(self) -> bytes | None:
        """The next frame to write."""
        return self._exchange.next_frame()

    @property
    def in_flight(self) -> int:
        """How many requests the plugin has not answered yet."""
        return len(self._exchange.outbound)

    def end(self) -> tuple[list[Lost[W]], list[str]]:
        """The socket is gone: every waiter comes out, and the ids of what nobody needs to answer any
        more."""
        self._phase = _Phase.CLOSED
        return self._exchange.end()
