"""The requests that the other side sent and that this side still owes an answer.

Pure bookkeeping. The invariant: each accepted request is answered exactly once, its chunks carry `seq`
without gaps and never exceed the credit that the asker gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Admission(Enum):
    """Whether an incoming request is taken on."""

    TAKEN = auto()
    """An answer is owed now."""
    DUPLICATE = auto()
    """Its id is that of a request still open: it is dropped, since an answer would reach the first."""
    FULL = auto()
    """There are as many open as are allowed."""


class ChunkRefused(Enum):
    """Why a chunk cannot be sent."""

    NO_CREDIT = auto()
    """The asker must drain first: wait for `credit`."""
    OVER = auto()
    """The asker has given up, or the request was answered: stop working."""
    NOT_STREAMING = auto()
    """The request did not ask for a stream."""
    TOO_LARGE = auto()
    """The `data` is larger than the limit."""


@dataclass(slots=True)
class _Owed:
    streams: bool
    credit: int = 0
    next_seq: int = 0
    cancelled: bool = False


class Inbound:
    """The requests to answer, by the id that the other side chose."""

    def __init__(self) -> None:
        self._open: dict[str, _Owed] = {}

    def admit(self, request_id: str, *, credit: int | None, most: int | None) -> Admission:
        """Takes on a request if fewer than `most` are open; `credit` is given for a stream alone."""
        if request_id in self._open:
            return Admission.DUPLICATE
        if most is not None and len(self._open) >= most:
            return Admission.FULL
        self._open[request_id] = _Owed(streams=credit is not None, credit=credit or 0)
        return Admission.TAKEN

    def knows(self, request_id: str) -> bool:
        """Whether an answer is owed under this id."""
        return request_id in self._open

    def is_cancelled(self, request_id: str) -> bool:
        """Whether the asker gave up on this request, and an answer is still owed."""
        owed = self._open.get(request_id)
        return owed is not None and owed.cancelled

    def cancel(self, request_id: str) -> bool:
        """Notes that the asker gave up; answers whether that is news."""
        owed = self._open.get(request_id)
        if owed is None or owed.cancelled:
            return False
        owed.cancelled = True
        return True

    def credit(self, request_id: str, n: int) -> bool:
        """Notes further credit; answers whether a stream can go on with it."""
        owed = self._open.get(request_id)
        if owed is None or owed.cancelled or not owed.streams:
            return False
        owed.credit += n
        return True

    def chunk(self, request_id: str, size: int, limit: int) -> int | ChunkRefused:
        """Uses one credit; answers the `seq` that the chunk carries, or why it must not be sent."""
        owed = self._open.get(request_id)
        if owed is None or owed.cancelled:
            return ChunkRefused.OVER
        if not owed.streams:
            return ChunkRefused.NOT_STREAMING
        if size > limit:
            return ChunkRefused.TOO_LARGE
        if owed.credit == 0:
            return ChunkRefused.NO_CREDIT
        owed.credit -= 1
        owed.next_seq += 1
        return owed.next_seq - 1

    def finish(self, request_id: str) -> bool:
        """Settles a request; answers whether it was open: if not, its answer must not be sent."""
        return self._open.pop(request_id, None) is not None

    def end(self) -> list[str]:
        """Ends the session: the ids whose answers nobody will read."""
        abandoned, self._open = list(self._open), {}
        return abandoned

    def __len__(self) -> int:
        return len(self._open)
