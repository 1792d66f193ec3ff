"""The requests that this side sent and that the other side still owes an answer.

Pure bookkeeping: which waiter stands behind which id, how many chunks may still come, and what was given
up. The invariant: every waiter that goes in comes out exactly once, and only for the id it went in under;
an id that this session did not give reaches nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from .name import numbered_id

W = TypeVar("W")


class Strayed(Enum):
    """Why an answer reaches nobody."""

    LATE = auto()
    """The request had been given up: the chunk crossed the `cancel` on its way."""
    UNKNOWN = auto()
    """No open request has this id: late, second or foreign."""


@dataclass(frozen=True, slots=True)
class Breach:
    """Which rule a `chunk` broke."""

    overran: bool
    """Whether more chunks came than there was credit for."""
    message: str
    """What the waiter is told."""


@dataclass(slots=True)
class _Open(Generic[W]):
    number: int
    waiter: W
    streams: bool
    credit: int
    next_seq: int = 0
    given_up: float | None = None


class Outbound(Generic[W]):
    """The open requests of one session, each with its waiter."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next = 0
        # Requests leave in the order of their numbers: all below this one were handed over.
        self._written_below = 0
        self._open: dict[str, _Open[W]] = {}

    def next_id(self) -> str:
        """The id that the next `open` takes."""
        return numbered_id(self._seed, self._next)

    def open(self, *, credit: int | None, waiter: W) -> int:
        """Enters a waiter under `next_id`; `credit` is given for a stream alone."""
        number = self._next
        self._open[self.next_id()] = _Open(number, waiter, streams=credit is not None, credit=credit or 0)
        self._next += 1
        return number

    def number(self, request_id: str) -> int | None:
        """Which open request an id names."""
        found = self._open.get(request_id)
        return None if found is None else found.number

    def mark_written(self, number: int) -> None:
        """Notes that a request was handed to the other side, and with it all before it."""
        self._written_below = max(self._written_below, number + 1)

    def was_written(self, number: int) -> bool:
        """Whether the other side can know of a request: nothing that it says of another one counts."""
        return number < self._written_below

    def _written(self, request_id: str) -> _Open[W] | None:
        found = self._open.get(request_id)
        return found if found is not None and self.was_written(found.number) else None

    def withdraw(self, number: int) -> W | None:
        """Takes a request out as if it had never been made."""
        found = self._open.pop(numbered_id(self._seed, number), None)
        return None if found is None else found.waiter

    def give_up(self, request_id: str, now: float) -> bool:
        """Marks a request as given up at `now`; its place stays taken until the `response`.

        Answers whether it was open and not given up before.
        """
        found = self._open.get(request_id)
        if found is None or found.given_up is not None:
            return False
        found.given_up = now
        return True

    def grant(self, request_id: str, n: int) -> bool:
        """Allows `n` more chunks; answers whether there is a live stream to allow them for."""
        found = self._open.get(request_id)
        if found is None or found.given_up is not None or not found.streams:
            return False
        found.credit += n
        return True

    def settle(self, request_id: str) -> tuple[W, bool] | None:
        """Takes in a `response`: its waiter and whether it still waits, or nobody."""
        found = self._written(request_id)
        if found is None:
            return None
        del self._open[request_id]
        return found.waiter, found.given_up is None

    def arrive(
        self, request_id: str, seq: int | None, size: int, limit: int, now: float
    ) -> tuple[W, Breach | None] | Strayed:
        """Takes in a `chunk` of `size` bytes, of at most `limit`: its waiter and the rule it broke, if any.

        Without `seq` it is a chunk of which nothing but the id could be read.
        """
        found = self._written(request_id)
        if found is None:
            return Strayed.UNKNOWN
        if found.given_up is not None:
            return Strayed.LATE
        breach: Breach | None = None
        if seq is None:
            breach = Breach(False, "the stream was cut off: a chunk could not be read")
        elif not found.streams:
            breach = Breach(False, "a chunk came for a request that did not ask for a stream")
        elif size > limit:
            breach = Breach(False, f"the stream was cut off: a chunk exceeds {limit} bytes")
        elif seq != found.next_seq:
            due = f"chunk {seq} came where chunk {found.next_seq} was due"
            breach = Breach(False, f"the stream was cut off: {due}")
        elif found.credit == 0:
            breach = Breach(True, "the stream was cut off: it sent more chunks than it had credit for")
        else:
            found.credit -= 1
            found.next_seq += 1
        if breach is not None:
            found.given_up = now
        return found.waiter, breach

    def longest_given_up(self, now: float) -> float | None:
        """How long ago the oldest request was given up that is still unanswered, in seconds."""
        since = [found.given_up for found in self._open.values() if found.given_up is not None]
        return now - min(since) if since else None

    def end(self) -> list[tuple[W, bool]]:
        """Ends the session: every waiter comes out, with whether its request had been handed over."""
        lost, self._open = list(self._open.values()), {}
        return [(found.waiter, self.was_written(found.number)) for found in lost]

    def __len__(self) -> int:
        return len(self._open)
