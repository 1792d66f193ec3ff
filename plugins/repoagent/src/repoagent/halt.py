"""When work in a thread has to end: its request was cancelled, or its time is over.

A thread cannot be interrupted, so every loop that can be long asks `Halt.check`. Not asked between the
first and the last step of something that must be whole.
"""

import threading
import time

from repoagent.refusal import Refusal


class Halt:
    """One request's stop signal; safe to use from any thread."""

    def __init__(self, seconds: float | None = None) -> None:
        self._stopped = threading.Event()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._seconds = seconds

    def stop(self) -> None:
        """Makes the next `check` raise."""
        self._stopped.set()

    def check(self) -> None:
        """Raises `Refusal` if the work should end."""
        if self._stopped.is_set():
            raise Refusal(
                "timeout", "the request was cancelled before it was finished; nothing more was done"
            )
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise Refusal(
                "timeout",
                f"not finished within {self._seconds:g} s; name a `path` further down, or ask for less",
            )

    def wait(self, seconds: float) -> None:
        """Sleeps, and raises as `check` does as soon as it would."""
        self._stopped.wait(seconds)
        self.check()
