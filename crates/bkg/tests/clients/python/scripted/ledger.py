"""The file in which the plugin writes down what it served, for tests to compare totals with.

One JSON object per line, written whole and before the answer leaves, so that nothing is answered that
does not stand here. Not what the host believes: that is what tests compare it with.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


def now_ms() -> float:
    """Milliseconds on CLOCK_MONOTONIC, which tests read too."""
    return time.monotonic_ns() / 1e6


class Ledger:
    """The file `served.jsonl` in the plugin's data directory, which outlives its processes."""

    def __init__(self, directory: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(directory / "served.jsonl", flags, 0o600)

    def note(self, **members: Any) -> None:
        """Appends one line, with the time."""
        line = json.dumps({**members, "atMs": now_ms(), "pid": os.getpid()}) + "\n"
        os.write(self._file, line.encode())
