"""Runs one command, and leaves no process of it behind. A program of its own, started by `process.py`.

It makes itself the parent of every orphan below it (a "subreaper"), so that nothing which the command
starts can leave its sight: not by another session, not by a double fork, not by an empty environment.
When the command has ended, or standard input says so or is closed, it ends what is left until the kernel
says that it has no child any more. Needs nothing but the standard library, and imports little, since it
starts with every command.

Standard input: one line of JSON, `{"argv": […], "environment": {…}, "directory": FD, "report": FD}`, and
nothing more; its end means stop. Standard output and error are the command's. To `report` it writes one
line of JSON: `{"exit": N, "left": M}` (negative: by that signal), or `{"error": "…"}` if the command
could not be started.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

GRACE_SECONDS = 2.0
_KILLING_SECONDS = 10.0
_PAUSE = 0.02
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Runs the command that standard input names."""
    control = _Control()
    order = json.loads(control.first_line())
    report = order["report"]
    os.set_inheritable(report, False)
    _adopt_orphans()
    # A signal to this process means the same as the end of its input.
    waking, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: control.stop())
    signal.signal(signal.SIGINT, lambda *_: control.stop())

    child, problem = _start(order)
    # From here on only the command and what it started keep the outputs open.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    if problem:
        _write(report, {"error": problem})
        return

    family = _Family(child)
    while family.exit is None and not control.stopped:
        with contextlib.suppress(InterruptedError):
            ready, _, _ = select.select([0, waking], [], [])
            if 0 in ready:
                control.read()
            _drain(waking)
        family.reap()
    finished = family.exit is not None
    ended = family.end(waking)
    _write(report, {"exit": family.exit, "left": ended if finished else 0})


class _Control:
    """Standard input."""

    def __init__(self) -> None:
        self.stopped = False

    def first_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = os.read(0, 65_536)
            if not piece:
                sys.exit(1)
            line += piece
        return bytes(line)

    def read(self) -> None:
        os.read(0, 65_536)
        self.stopped = True

    def stop(self) -> None:
        self.stopped = True


class _Family:
    """The command, and every process that came from it."""

    def __init__(self, child: int) -> None:
        self._child = child
        self._alive = True
        self.exit: int | None = None

    def reap(self) -> None:
        """Takes note of whoever has ended."""
        while self._alive:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._alive = False
                return
            if pid == 0:
                return
            if pid == self._child:
                self.exit = os.waitstatus_to_exitcode(status)

    def end(self, waking: int) -> int:
        """Ends all of it: asks first, then kills, until the kernel knows of none; how many those were."""
        ended: set[tuple[int, int]] = set()
        for how, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, _KILLING_SECONDS)):
            self.reap()
            deadline = time.monotonic() + seconds
            asked: set[tuple[int, int]] = set()
            while self._alive and time.monotonic() < deadline:
                for process in _descendants():
                    # Whoever was asked once has heard it.
                    if how == signal.SIGKILL or process not in asked:
                        _send(process, how)
                    asked.add(process)
                with contextlib.suppress(InterruptedError):
                    select.select([waking], [], [], _PAUSE)
                _drain(waking)
                self.reap()
            ended |= asked
        return len(ended)


def _start(order: dict[str, object]) -> tuple[int, str]:
    """Starts the command in a session of its own; its process, or why it could not be started."""
    argv, environment, directory = order["argv"], order["environment"], order["directory"]
    assert isinstance(argv, list)
    assert isinstance(environment, dict)
    assert isinstance(directory, int)
    failed, failing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.fchdir(directory)
            os.close(directory)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(argv[0], argv, environment)
        except BaseException as error:
            os.write(failing, str(getattr(error, "strerror", None) or error).encode())
        finally:
            os._exit(127)
    os.close(failing)
    os.close(directory)
    problem = b""
    while piece := os.read(failed, 4_096):
        problem += piece
    os.close(failed)
    if problem:
        os.waitpid(child, 0)
    return child, problem.decode()


def _adopt_orphans() -> None:
    """Where the kernel has no subreapers, processes that leave the command's session are not found."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants() -> list[tuple[int, int]]:
    """Every process below this one, as pid and start time."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (read := _parent_and_start(int(name))):
            children.setdefault(read[0], []).append((int(name), read[1]))
    found: list[tuple[int, int]] = []
    left = [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += [pid for pid, _ in below]
    return found


def _parent_and_start(pid: int) -> tuple[int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in brackets may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _send(process: tuple[int, int], number: int) -> None:
    """Sends a signal to this process and to no other that may have its number by now."""
    pid, start = process
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            read = _parent_and_start(pid)
            if read and read[1] == start:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4_096):
            pass


def _write(report: int, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
