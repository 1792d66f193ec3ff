"""Requests and answers in both directions, as either side keeps them.

Host and plugin ask each other with the same five messages, so both halves are this exchange plus their own
rules of registration. Pure: frames and times go in, frames and verdicts come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from . import message as m
from .error import ErrorCode, WireError
from .frame import FrameError, encode
from .inbound import Admission, ChunkRefused, Inbound
from .outbound import Outbound, Strayed
from .outbox import Outbox

W = TypeVar("W")

Outcome: TypeAlias = Raw | WireError
"""What a `response` carries: `data` as JSON text, or an error."""


class Dropped(Enum):
    """Why a frame had no effect."""

    LATE = auto()
    """Its request was given up before; nothing is wrong."""
    UNKNOWN_REQUEST = auto()
    """It names a request that is not open: answered twice, or never asked."""
    DUPLICATE_REQUEST = auto()
    """It asks under an id that is still open."""
    UNKNOWN_TYPE = auto()
    """Its `type` is not known to this version."""
    OUT_OF_PLACE = auto()
    """Its `type` is not for a plugin of the base contract, or not for this moment."""
    UNREADABLE = auto()
    """It cannot be read."""


@dataclass(frozen=True, slots=True)
class NotOpen:
    """A request was not sent: the session is not registered yet, drains, or is closed."""


@dataclass(frozen=True, slots=True)
class FrameTooLarge:
    """A request was not sent: its frame would be larger than the other side takes. In bytes."""

    size: int
    limit: int

    def __str__(self) -> str:
        return f"the request has {self.size} bytes, and its receiver takes frames of at most {self.limit}"


Refusal: TypeAlias = NotOpen | FrameTooLarge
"""Why a request was not sent."""


class GivenUp(Enum):
    """What giving a request up did, where its waiter does not come back."""

    TOLD = auto()
    """The other side was told; the waiter comes out with the `response`."""
    OVER = auto()
    """It was over, or given up before."""


@dataclass(frozen=True, slots=True)
class Retracted(Generic[W]):
    """The request had not been written yet: it never will be, and its waiter comes back."""

    waiter: W


@dataclass(frozen=True, slots=True)
class Answered(Generic[W]):
    """The answer to a request of this side's own."""

    waiter: W
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ChunkCame(Generic[W]):
    """A part of the streamed answer to a request of this side's own."""

    waiter: W
    data: Raw


@dataclass(frozen=True, slots=True)
class Broken(Generic[W]):
    """A stream broke the rules and was cut off: the waiter must be told."""

    waiter: W
    error: WireError


@dataclass(frozen=True, slots=True)
class Released(Generic[W]):
    """A request that had been given up is over."""

    waiter: W


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """Nobody wants the answer any more; the `response` is still owed."""

    request_id: str
    reason: m.CancelReason


@dataclass(frozen=True, slots=True)
class MayStream:
    """A stream that was out of credit can go on."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Lost(Generic[W]):
    """A waiter whose session ended, and whether its request had been handed over."""

    waiter: W
    handed_over: bool


class Exchange(Generic[W]):
    """Requests and answers of one session; `W` is whoever waits for an answer."""

    def __init__(self, seed: int) -> None:
        self.outbound: Outbound[W] = Outbound(seed)
        self.inbound = Inbound()
        self.outbox = Outbox()

    def start(self, request: m.Request, waiter: W, max_frame: int) -> str | Refusal:
        """Sends a request; answers its id."""
        request_id = self.outbound.next_id()
        request = msgspec.structs.replace(request, request_id=request_id)
        frame = encode(request)
        if len(frame) > max_frame:
            return FrameTooLarge(len(frame), max_frame)
        number = self.outbound.open(credit=(request.credit or 0) if request.stream else None, waiter=waiter)
        self.outbox.push(frame, number)
        return request_id

    def give_up(
        self, request_id: str, reason: m.CancelReason, now: float, *, tell: bool
    ) -> GivenUp | Retracted[W]:
        """Gives up on a request of this side's own."""
        number = self.outbound.number(request_id)
        if number is None:
            return GivenUp.OVER
        if not self.outbound.was_written(number):
            self.outbox.retract(lambda waiting: waiting == number)
            waiter = self.outbound.withdraw(number)
            return GivenUp.OVER if waiter is None else Retracted(waiter)
        if not self.outbound.give_up(request_id, now):
            return GivenUp.OVER
        if tell:
            self.outbox.push_urgent(encode(m.Cancel(request_id=request_id, reason=reason)))
        return GivenUp.TOLD

    def grant(self, request_id: str, n: int) -> None:
        """Allows `n` more chunks of a stream that this side asked for."""
        number = self.outbound.number(request_id)
        if number is None or not self.outbound.grant(request_id, n) or n == 0:
            return
        frame = encode(m.Credit(request_id=request_id, n=n))
        if self.outbound.was_written(number):
            self.outbox.push_urgent(frame)
        else:
            self.outbox.push(frame, number)

    def hear_response(self, request_id: str, outcome: Outcome) -> Answered[W] | Released[W] | Dropped:
        """Takes in a `response`."""
        settled = self.outbound.settle(request_id)
        if settled is None:
            return Dropped.UNKNOWN_REQUEST
        waiter, waits = settled
        return Answered(waiter, outcome) if waits else Released(waiter)

    def hear_chunk(
        self, chunk: m.Chunk, max_chunk: int, now: float, *, tell: bool
    ) -> ChunkCame[W] | Broken[W] | Dropped:
        """Takes in a `chunk`."""
        size = len(bytes(chunk.data))
        arrived = self.outbound.arrive(chunk.request_id, chunk.seq, size, max_chunk, now)
        if arrived is Strayed.LATE:
            return Dropped.LATE
        if isinstance(arrived, Strayed):
            return Dropped.UNKNOWN_REQUEST
        waiter, breach = arrived
        if breach is None:
            return ChunkCame(waiter, chunk.data)
        if tell:
            reason = m.CancelReason.FLOW_CONTROL if breach.overran else m.CancelReason.PROTOCOL
            self.outbox.push_urgent(encode(m.Cancel(request_id=chunk.request_id, reason=reason)))
        return Broken(waiter, WireError(ErrorCode.PLUGIN_ERROR, breach.message))

    def hear_unreadable(
        self, problem: FrameError, now: float, *, tell: bool
    ) -> Answered[W] | Released[W] | Broken[W] | Dropped:
        """Takes in a frame whose members cannot be read.

        Where it still names its request, whoever waits for that request hears of it now instead of at
        the deadline.
        """
        request_id = problem.request_id
        if request_id is None:
            return Dropped.UNREADABLE
        if problem.kind == "response":
            heard = self.hear_response(request_id, WireError(ErrorCode.PLUGIN_ERROR, str(problem)))
            return Dropped.UNREADABLE if isinstance(heard, Dropped) else heard
        if problem.kind == "chunk":
            arrived = self.outbound.arrive(request_id, None, 0, 0, now)
            if isinstance(arrived, Strayed):
                return Dropped.UNREADABLE
            waiter, breach = arrived
            if tell:
                reason = m.CancelReason.PROTOCOL
                self.outbox.push_urgent(encode(m.Cancel(request_id=request_id, reason=reason)))
            assert breach is not None, "a chunk without `seq` breaks a rule"
            return Broken(waiter, WireError(ErrorCode.PLUGIN_ERROR, breach.message))
        # Under an id that is still open, the answer would reach the request before it.
        if problem.kind == "request" and not self.inbound.knows(request_id):
            error = WireError(ErrorCode.INVALID_REQUEST, str(problem))
            self.outbox.push(encode(m.Response.of(request_id, error)))
        return Dropped.UNREADABLE

    def hear_request(self, request: m.Request, *, most: int | None, default_credit: int) -> Dropped | None:
        """Takes on a request, or says why not."""
        credit = None
        if request.stream:
            credit = default_credit if request.credit is None else request.credit
        admission = self.inbound.admit(request.request_id, credit=credit, most=most)
        if admission is Admission.DUPLICATE:
            return Dropped.DUPLICATE_REQUEST
        if admission is Admission.FULL:
            open_already = f"{most} requests of this session are open already: wait for answers first"
            error = WireError(ErrorCode.OVERLOADED, open_already)
            self.outbox.push(encode(m.Response.of(request.request_id, error)))
            return Dropped.OUT_OF_PLACE
        return None

    def hear_cancel(self, cancel: m.Cancel) -> RequestCancelled | Dropped:
        """Takes in a `cancel`."""
        if self.inbound.cancel(cancel.request_id):
            return RequestCancelled(cancel.request_id, cancel.reason)
        return Dropped.UNKNOWN_REQUEST

    def hear_credit(self, credit: m.Credit) -> MayStream | Dropped:
        """Takes in a `credit`. A reader that gives some as the answer ends has done nothing wrong."""
        if self.inbound.credit(credit.request_id, credit.n):
            return MayStream(credit.request_id)
        return Dropped.LATE

    def answer(self, request_id: str, outcome: Outcome, max_frame: int) -> bool:
        """Sends the one answer; answers whether the request was open.

        After a `cancel` nobody wants to know more than that it is over. An answer that is larger than the
        other side takes becomes an error.
        """
        was_cancelled = self.inbound.is_cancelled(request_id)
        if not self.inbound.finish(request_id):
            return False
        if was_cancelled:
            outcome = WireError(ErrorCode.CANCELLED, "the request was cancelled by its caller")
        frame = encode(m.Response.of(request_id, outcome))
        if len(frame) > max_frame:
            message = f"the answer has {len(frame)} bytes, the limit of a frame is {max_frame}"
            frame = encode(m.Response.of(request_id, WireError(ErrorCode.PAYLOAD_TOO_LARGE, message)))
        self.outbox.push(frame)
        return True

    def send_chunk(self, request_id: str, data: Raw, max_chunk: int) -> ChunkRefused | None:
        """Sends a part of a streamed answer, or says why not."""
        seq = self.inbound.chunk(request_id, len(bytes(data)), max_chunk)
        if isinstance(seq, ChunkRefused):
            return seq
        self.outbox.push(encode(m.Chunk(request_id=request_id, seq=seq, data=data)))
        return None

    def next_frame(self) -> bytes | None:
        """The next frame to write."""
        popped = self.outbox.pop()
        if popped is None:
            return None
        frame, request = popped
        if request is not None:
            self.outbound.mark_written(request)
        return frame

    def retract_unsent(self) -> list[W]:
        """Takes back what was not written; answers who waits for it."""
        numbers = self.outbox.retract(lambda number: not self.outbound.was_written(number))
        waiters = [self.outbound.withdraw(number) for number in numbers]
        return [waiter for waiter in waiters if waiter is not None]

    def end(self) -> tuple[list[Lost[W]], list[str]]:
        """Ends the session: waiters come out, and the ids of requests whose answers nobody will read."""
        self.outbox.clear()
        lost = [Lost(waiter, handed_over) for waiter, handed_over in self.outbound.end()]
        return lost, self.inbound.end()
