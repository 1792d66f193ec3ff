"""A terminal with `bkg` in it, for what only a person at a keyboard does.

Nothing here knows what is right on the screen: that is the tests' part. Every wait has a deadline, and a
program that outlives its test is killed.
"""

import contextlib
import os
import pty
import select
import signal
import termios
import time
from pathlib import Path
from typing import Self

from harness import BINARIES, Host, until

CTRL_C = "\x03"
CTRL_D = "\x04"


class Screen:
    """A program that believes a person is there; `screen` is all that it has written."""

    def __init__(
        self, command: list[str], environment: dict[str, str], directory: Path | None = None
    ) -> None:
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            if directory is not None:
                os.chdir(directory)
            os.execve(command[0], command, environment)
        self.screen = ""
        self.code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.file)

    def type(self, text: str) -> None:
        """Presses these keys."""
        os.write(self.file, text.encode())

    def type_hidden(self, text: str) -> None:
        """Presses these keys as soon as the terminal does not show them any more."""
        until(lambda: not termios.tcgetattr(self.file)[3] & termios.ECHO, "what is typed is hidden")
        self.type(text)

    def until(self, text: str, *, within: float = 20.0) -> str:
        """Waits until this is on the screen, and answers what stood before it; what follows stays."""
        deadline = time.monotonic() + within
        while text not in self.screen:
            assert self._read(deadline), f"not within {within:.0f} s: {text!r} in {self.screen!r}"
        before, _, self.screen = self.screen.partition(text)
        return before

    def end(self, *, within: float = 20.0) -> int:
        """Waits for the program's end, and answers its exit code."""
        deadline = time.monotonic() + within
        while self._read(deadline):
            pass
        assert time.monotonic() < deadline, f"it goes on: {self.screen!r}"
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def _read(self, deadline: float) -> bool:
        """Takes what comes next; false at the program's end, or when the time is over."""
        ready, _, _ = select.select([self.file], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.file, 65_536)
        except OSError:
            return False  # What Linux says once the last program has left the terminal.
        self.screen += data.decode(errors="replace")
        return bool(data)


class Terminal(Screen):
    """One `bkg` for a host of the tests."""

    def __init__(self, host: Host, *arguments: str, **variables: str) -> None:
        command = [str(BINARIES / "bkg"), "--data-dir", str(host.data), *arguments]
        # The colours of whoever runs the tests are none of a test's business.
        inherited = {name: value for name, value in host.environment.items() if name != "NO_COLOR"}
        super().__init__(command, {**inherited, "TERM": "xterm", **variables})
