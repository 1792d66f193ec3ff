"""The witness: a client in a process of its own that asks another plugin, and notes how long that took.

Run as a program it asks at a steady pace and writes one line for each answer; imported, `Witness` starts
it and reads the lines. It also notes by how much its own timer was late: what the machine withholds from
a process that only sleeps is not the host's doing, and the figure is printed beside.
"""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .client import now_ms

PER_SECOND = 50


@dataclass(frozen=True)
class Sample:
    """One request of the witness, in milliseconds: when it was sent, what it took, how late the timer
    was."""

    at: float
    took: float
    late: float
    status: int


@dataclass(frozen=True)
class Window:
    """What the witness saw between two moments."""

    samples: list[Sample]

    def took(self, percent: float) -> float:
        """The percentile of the times, in milliseconds."""
        return percentile([sample.took for sample in self.samples], percent)

    def late(self, percent: float) -> float:
        """The percentile of the timer's lateness, in milliseconds."""
        return percentile([sample.late for sample in self.samples], percent)

    @property
    def failed(self) -> list[Sample]:
        """What was not answered well."""
        return [sample for sample in self.samples if sample.status != 200]


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that `percent` of all are not above."""
    ordered = sorted(values)
    place = max(0, -(-len(ordered) * percent // 100) - 1)
    return ordered[int(place)] if ordered else float("nan")


class Witness:
    """The process, and what it has written so far."""

    def __init__(self, port: int, key: str, plugin: str, directory: Path) -> None:
        self.path = directory / f"witness-{plugin}.txt"
        environment = {**os.environ, "WITNESS_KEY": key}
        command = [sys.executable, "-uB", "-m", "faultsuite.witness", str(port), plugin]
        with self.path.open("wb") as lines:
            self.process = subprocess.Popen(
                command, cwd=Path(__file__).parents[1], env=environment, stdout=lines
            )

    def samples(self) -> list[Sample]:
        """Everything so far; a line that is being written waits for the next time."""
        *lines, _ = self.path.read_text().split("\n")
        fields = (line.split() for line in lines)
        return [
            Sample(float(at), float(took), float(late), int(status)) for at, took, late, status in fields
        ]

    def between(self, begin: float, end: float) -> Window:
        """What was sent in between."""
        return Window([sample for sample in self.samples() if begin <= sample.at < end])

    async def watch(self, least: int, since: float) -> Window:
        """Waits until there are so many samples since then."""
        async with asyncio.timeout(120):
            while len((window := self.between(since, now_ms())).samples) < least:
                assert self.process.poll() is None, "the witness runs until it is stopped"
                await asyncio.sleep(0.1)
        return window

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def testify(port: int, plugin: str, key: str) -> None:
    """Asks until it is killed. A connection that is lost is a sample with status 0, and dialled again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    path, body = f"/api/plugins/{plugin}/invoke", json.dumps({"capability": "ping.ping"})
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    due = now_ms()
    while True:
        due = max(due + 1000 / PER_SECOND, now_ms())
        time.sleep(max(0.0, due - now_ms()) / 1000)
        sent = now_ms()
        try:
            connection.request("POST", path, body, head)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        print(f"{sent:.3f} {now_ms() - sent:.3f} {sent - due:.3f} {status}", flush=True)


if __name__ == "__main__":
    testify(int(sys.argv[1]), sys.argv[2], os.environ["WITNESS_KEY"])
