"""Figures about the plugin's own process: processor time and resident memory.

Only of this process, not of what it starts: the host samples the whole launch itself.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a process uses."""

    cpu: float
    """Processor time since the last sample, in percent of one core."""
    resident: int
    """Resident memory in bytes."""


class OwnProcess:
    """Remembers the last sample, since processor time is a rate."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        found = _read()
        self._cpu_seconds = 0.0 if found is None else found[0]

    def sample(self) -> Usage | None:
        """The usage since the last sample; `None` where the system does not say."""
        found = _read()
        if found is None:
            return None
        cpu_seconds, resident = found
        now = time.monotonic()
        elapsed, used = now - self._at, cpu_seconds - self._cpu_seconds
        self._at, self._cpu_seconds = now, cpu_seconds
        return Usage(100.0 * used / elapsed if elapsed > 0 else 0.0, resident)


def _read() -> tuple[float, int] | None:
    """Processor time in seconds and resident memory in bytes: `proc_pid_stat(5)`."""
    if sys.platform != "linux":
        return None
    try:
        # The name in the second field may hold anything, parentheses and spaces included.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
