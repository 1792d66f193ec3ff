"""Runs a command by its arguments, never through a shell, and takes its outputs in bounded memory.

The command runs below a minder (`minder.py`), so that when `run` ends in whatever way, nothing of it is
left. Knows nothing of requests and settings: `command.py` and `git.py` say what is run.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from repoagent.refusal import Refusal

_PIECE = 64 << 10
_MARK = "BKG_REPOAGENT_RUN"
_READING_SECONDS = 2.0
_KILLING_ROUNDS = 1_000
# More than the minder takes to ask, and then to kill.
_MINDER_SECONDS = 15.0


@dataclass(frozen=True)
class Output:
    """The beginning and the end of what was written, and how much that was."""

    text: str
    size: int
    truncated: bool


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    `exit` is negative if a signal ended it; `left` counts the processes that it had left running and that
    were ended; `seconds` is how long all of it took.
    """

    exit: int
    timed_out: bool
    left: int
    stdout: Output
    stderr: Output
    seconds: float

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it."""
        if self.exit >= 0:
            return None
        with contextlib.suppress(ValueError):
            return signal.Signals(-self.exit).name
        return f"signal {-self.exit}"


async def run(
    argv: Sequence[str | bytes],
    *,
    directory: int,
    environment: dict[str, str],
    seconds: float,
    output_bytes: int,
) -> Outcome:
    """Runs `argv` in the open `directory` for at most `seconds`; each output keeps `output_bytes`.

    If it is cancelled, the command is ended before the cancellation goes on.
    """
    began = time.monotonic()
    mark = uuid.uuid4().hex
    report, reporting = os.pipe2(os.O_CLOEXEC)
    order = {
        "argv": [os.fsdecode(argument) for argument in argv],
        "environment": {**environment, _MARK: mark},
        "directory": directory,
        "report": reporting,
    }
    try:
        try:
            running = await _Running.start(order, report, output_bytes)
        finally:
            os.close(reporting)
        timed_out = await running.until_over(order, seconds)
    finally:
        os.close(report)
    answer = running.answer
    if not answer:
        raise Refusal(
            "internal", "what watched over the command was killed; the command has been killed too"
        )
    told = json.loads(answer)
    if "error" in told:
        raise Refusal("conflict", f"`{os.fsdecode(argv[0])}` cannot be run: {told['error'].lower()}")
    out, err = running.out.output(), running.err.output()
    # Nothing is told of one that even a kill did not end.
    exit = -signal.SIGKILL if told["exit"] is None else told["exit"]
    return Outcome(exit, timed_out, told["left"], out, err, time.monotonic() - began)


class _Running:
    """A minder and what comes out of its command."""

    def __init__(
        self, minder: asyncio.subprocess.Process, report: int, mark: str, output_bytes: int
    ) -> None:
        self._minder = minder
        self._report = report
        self._mark = mark
        self.answer = b""
        self.out = _Kept(output_bytes)
        self.err = _Kept(output_bytes)

    @classmethod
    async def start(cls, order: dict[str, Any], report: int, output_bytes: int) -> Self:
        try:
            minder = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(Path(__file__).with_name("minder.py"))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(order["directory"], order["report"]),
                env={},
                start_new_session=True,
            )
        except OSError as error:
            raise Refusal("overloaded", f"no process can be started: {error.strerror}") from error
        return cls(minder, report, order["environment"][_MARK], output_bytes)

    async def until_over(self, order: dict[str, Any], seconds: float) -> bool:
        """Gives the order and waits for the end; whether the end had to be forced."""
        assert self._minder.stdin is not None
        ending = asyncio.create_task(self._ended())
        try:
            self._minder.stdin.write(json.dumps(order).encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await self._minder.stdin.drain()
            await asyncio.wait({ending}, timeout=seconds)
            timed_out = not ending.done()
        finally:
            # Also when the request was cancelled: nothing of the command outlives it.
            self._minder.stdin.close()
            await asyncio.shield(self._end(ending))
        return timed_out

    async def _end(self, ending: asyncio.Task[None]) -> None:
        """Waits for the minder, which the command may have stopped: then it is woken, or killed."""
        with contextlib.suppress(ProcessLookupError):
            self._minder.send_signal(signal.SIGCONT)
        await asyncio.wait({ending}, timeout=_MINDER_SECONDS)
        if not ending.done():
            with contextlib.suppress(ProcessLookupError):
                self._minder.kill()
        await ending

    async def _ended(self) -> None:
        reading = [
            asyncio.create_task(kept.read(stream))
            for kept, stream in ((self.out, self._minder.stdout), (self.err, self._minder.stderr))
        ]
        await _readable(self._report)
        self.answer = os.read(self._report, _PIECE)
        if not self.answer:
            # Somebody killed the minder. What it minded carries the mark.
            await asyncio.to_thread(_kill_marked, self._mark)
        # An output stays open only where a process could not even be killed.
        _, unended = await asyncio.wait(reading, timeout=_READING_SECONDS)
        for task in unended:
            task.cancel()
        if not unended:
            await self._minder.wait()


class _Kept:
    """What is kept of an output: its beginning and its end, half of the bound each."""

    def __init__(self, bound: int) -> None:
        self._half = bound // 2
        self._first = bytearray()
        self._last: deque[bytes] = deque()
        self._last_size = 0
        self._size = 0

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        """Reads to the end, whatever comes."""
        assert stream is not None
        while piece := await stream.read(_PIECE):
            self._size += len(piece)
            room = self._half - len(self._first)
            self._first += piece[:room]
            if room < len(piece):
                self._last.append(piece[room:])
                self._last_size += len(self._last[-1])
            while self._last and self._last_size - len(self._last[0]) >= self._half:
                self._last_size -= len(self._last.popleft())

    def output(self) -> Output:
        """What is told of it."""
        last = b"".join(self._last)
        last = last[max(0, len(last) - self._half) :]
        left_out = self._size - len(self._first) - len(last)
        if not left_out:
            return Output((self._first + last).decode(errors="replace"), self._size, truncated=False)
        first, end = self._first.decode(errors="replace"), last.decode(errors="replace")
        return Output(f"{first}\n[{left_out} bytes left out]\n{end}", self._size, truncated=True)


async def _readable(descriptor: int) -> None:
    """Waits until there is something to read, or nobody left who could write."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def notice() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, notice)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _kill_marked(mark: str) -> None:
    """Kills every process whose environment carries the mark, until there is none."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(_KILLING_ROUNDS):
        found = False
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in entry.read_bytes().split(b"\0"):
                    found = True
                    os.kill(int(entry.parent.name), signal.SIGKILL)
        if not found:
            return
