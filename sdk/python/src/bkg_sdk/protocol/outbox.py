"""Frames that wait to be written, in two lanes.

Credits, cancels, health and drain overtake data, so that a full socket cannot keep a cancel from freeing
it. They never overtake the `request` that they are about: a `cancel` takes a `request` that still waits
back instead, and a `credit` queues behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Outbox:
    """The frames of one side, in the order in which they leave."""

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        # With the number of this side's own request, where the frame is one or is about one that waits.
        self._data: deque[tuple[bytes, int | None]] = deque()
        self.waiting_bytes = 0
        """How many bytes wait."""

    def push_urgent(self, frame: bytes) -> None:
        """Adds a frame that overtakes data."""
        self.waiting_bytes += len(frame)
        self._urgent.append(frame)

    def push(self, frame: bytes, request: int | None = None) -> None:
        """Adds a frame; `request` where it is a request, or is about one that still waits."""
        self.waiting_bytes += len(frame)
        self._data.append((frame, request))

    def pop(self) -> tuple[bytes, int | None] | None:
        """The next frame to write, with the number of the request that it is or is about."""
        if self._urgent:
            frame, request = self._urgent.popleft(), None
        elif self._data:
            frame, request = self._data.popleft()
        else:
            return None
        self.waiting_bytes -= len(frame)
        return frame, request

    def retract(self, is_meant: Callable[[int], bool]) -> list[int]:
        """Takes all requests back that are meant, and what queues behind them; answers their numbers."""
        taken: dict[int, None] = {}
        kept: deque[tuple[bytes, int | None]] = deque()
        for frame, request in self._data:
            if request is not None and is_meant(request):
                self.waiting_bytes -= len(frame)
                taken[request] = None
            else:
                kept.append((frame, request))
        self._data = kept
        return list(taken)

    def clear(self) -> None:
        """Drops everything."""
        self._urgent.clear()
        self._data.clear()
        self.waiting_bytes = 0
