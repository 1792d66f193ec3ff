"""What the host's process costs: memory, descriptors, threads, and the requests it believes to be open.

Read from outside, from `/proc` and from the operator's HTTP, so that the host cannot flatter itself. Its
tasks cannot be counted from there; what a leaked one would hold can: a descriptor, a request, memory.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Vitals:
    """One look. Memory in bytes; descriptors without the logs of plugins, which stay open."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Vitals":
        """Looks at a process."""
        folder = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        memory = int(status["VmRSS"].split()[0]) << 10
        descriptors = [aim_of(descriptor) for descriptor in (folder / "fd").iterdir()]
        logs = [aim for aim in descriptors if aim.endswith(".jsonl") and "/logs/" in aim]
        return cls(memory, len(descriptors) - len(logs), int(status["Threads"]))


def aim_of(descriptor: Path) -> str:
    """What a descriptor is for; nothing if it was closed meanwhile."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


class Peak:
    """The most memory that a process had while it was watched, in bytes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory = 0

    def look(self) -> None:
        """Looks once."""
        self.memory = max(self.memory, Vitals.of(self.pid).memory)


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Peak]:
    """Looks fifty times a second while the block runs, and once more at its end."""
    peak = Peak(pid)

    async def look() -> None:
        while True:
            peak.look()
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    try:
        yield peak
        peak.look()
    finally:
        looking.cancel()
