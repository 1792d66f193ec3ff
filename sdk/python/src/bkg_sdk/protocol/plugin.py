"""The plugin's half of a session with the host.

Feed it frames, write what `next_frame` returns. Without sockets, clocks or tasks: the golden conversations
are replayed against it. The invariant: `register` is the first frame, and each request is answered once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw

from . import message as m
from .error import ErrorCode, WireError, error_of_raw
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
from .frame import HOST_MESSAGES, FrameError, UnknownType, encode
from .inbound import ChunkRefused
from .limits import Limits

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class UpdateDecided:
    """Whether an `update` holds; if not, why."""

    refusal: WireError | None


PluginEvent: TypeAlias = (
    m.Registered
    | m.Rejected
    | m.Request
    | m.Event
    | m.Config
    | m.Drain
    | UpdateDecided
    | RequestCancelled
    | MayStream
    | Answered[W]
    | ChunkCame[W]
    | Broken[W]
    | Released[W]
    | Dropped
)
"""Something that happened in a session, for the plugin to act on."""


class _Phase(Enum):
    REGISTERING = auto()
    OPEN = auto()
    DRAINING = auto()
    CLOSED = auto()


class PluginSession(Generic[W]):
    """The plugin's half of a session; `W` is whoever waits for an answer."""

    def __init__(self, seed: int, register: m.Register) -> None:
        """A session that says `register` first; `seed` is 64 random bits that make its ids unique."""
        limits = Limits()
        self._phase = _Phase.REGISTERING
        self.granted = m.GrantedLimits(limits.frame_from_plugin, limits.chunk, limits.stream_credit)
        """What the host accepts."""
        self._exchange: Exchange[W] = Exchange(seed)
        # Urgent, so that no early beat overtakes it: it must be the first frame.
        self._exchange.outbox.push_urgent(
            encode(msgspec.structs.replace(register, protocol=m.PROTOCOL_VERSION))
        )

    def receive(self, frame: bytes, now: float) -> PluginEvent[W]:
        """Takes in one frame; `now` is the time since the session began, in seconds."""
        if self._phase is _Phase.CLOSED:
            return Dropped.OUT_OF_PLACE
        try:
            message = HOST_MESSAGES.decode(frame)
        except FrameError as problem:
            if self._phase is _Phase.REGISTERING:
                return Dropped.UNREADABLE
            return self._exchange.hear_unreadable(problem, now, tell=True)
        if isinstance(message, UnknownType):
            return Dropped.UNKNOWN_TYPE
        if self._phase is _Phase.REGISTERING:
            return self._hear_verdict(message)
        return self._hear(message, now)

    def _hear_verdict(self, message: m.Message) -> PluginEvent[W]:
        match message:
            case m.Registered():
                self._phase = _Phase.OPEN
                self.granted = message.limits
                return message
            case m.Rejected():
                self._phase = _Phase.CLOSED
                return message
            case _:
                return Dropped.OUT_OF_PLACE

    def _hear(self, message: m.Message, now: float) -> PluginEvent[W]:
        exchange = self._exchange
        match message:
            case m.Request():
                dropped = exchange.hear_request(
                    message, most=None, default_credit=self.granted.stream_credit
                )
                return message if dropped is None else dropped
            case m.Credit():
                return exchange.hear_credit(message)
            case m.Cancel():
                return exchange.hear_cancel(message)
            case m.Response():
                return exchange.hear_response(message.request_id, message.outcome())
            case m.Chunk():
                return exchange.hear_chunk(message, self.granted.max_frame_bytes, now, tell=True)
            case m.Updated():
                return UpdateDecided(None if message.success else _refusal(message))
            case m.Drain():
                self._phase = _Phase.DRAINING
                return message
            case m.Event() | m.Config():
                return message
            case _:
                return Dropped.OUT_OF_PLACE

    def answer(self, request_id: str, outcome: Outcome) -> bool:
        """Answers a request of the host; answers whether it was open.

        An answer that is larger than the host takes becomes a `payload_too_large` error.
        """
        return self._exchange.answer(request_id, outcome, self.granted.max_frame_bytes)

    def send_chunk(self, request_id: str, data: Raw) -> ChunkRefused | None:
        """Sends a part of a streamed answer, or says why it must not be sent now, or ever."""
        return self._exchange.send_chunk(request_id, data, self.granted.max_chunk_bytes)

    def start(self, request: m.Request, waiter: W) -> str | Refusal:
        """Asks the host to have a capability answered; answers the request's id, or why it was not sent."""
        if not self.is_open:
            return NotOpen()
        if request.stream and request.credit is None:
            request = msgspec.structs.replace(request, credit=self.granted.stream_credit)
        return self._exchange.start(request, waiter, self.granted.max_frame_bytes)

    def cancel(self, request_id: str, reason: m.CancelReason, now: float) -> GivenUp | Retracted[W]:
        """Gives up on a request of the plugin's own."""
        return self._exchange.give_up(request_id, reason, now, tell=True)

    def credit(self, request_id: str, n: int) -> None:
        """Allows `n` more chunks of a stream that the plugin asked for."""
        self._exchange.grant(request_id, n)

    def say(self, message: m.Message) -> None:
        """Says anything that is neither question nor answer: health, telemetry, logs, updates, topics.

        Health overtakes data; the rest keeps its order.
        """
        if isinstance(message, m.Health):
            self._exchange.outbox.push_urgent(encode(message))
        else:
            self._exchange.outbox.push(encode(message))

    def next_frame(self) -> bytes | None:
        """The next frame to write."""
        return self._exchange.next_frame()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait to be written."""
        return self._exchange.outbox.waiting_bytes

    @property
    def is_open(self) -> bool:
        """Whether the registration holds and requests may be made."""
        return self._phase in (_Phase.OPEN, _Phase.DRAINING)

    @property
    def is_drained(self) -> bool:
        """Whether the host asked for an end, and nothing is left to answer or to write."""
        return self._phase is _Phase.DRAINING and self.owed == 0 and self.waiting_bytes == 0

    @property
    def owed(self) -> int:
        """How many answers the plugin owes."""
        return len(self._exchange.inbound)

    @property
    def asked(self) -> int:
        """How many answers the host owes."""
        return len(self._exchange.outbound)

    def end(self) -> tuple[list[Lost[W]], list[str]]:
        """The socket is gone: every waiter comes out, and the ids of requests whose answers nobody will
        read."""
        self._phase = _Phase.CLOSED
        return self._exchange.end()


def _refusal(updated: m.Updated) -> WireError:
    if updated.error is UNSET:
        return WireError(ErrorCode.INVALID_REQUEST, "the host refused the update")
    return error_of_raw(updated.error)
