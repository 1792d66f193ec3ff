"""What a change of several files needs to be whole after a crash: a lock, and a record of how to undo it.

Says nothing about how files are written; `transaction.py` writes them, and calls this before each step
that it may have to take back. A record is a file of JSON lines in the plugin's data directory, flushed to
disk before the step that it speaks of. Whoever holds the lock knows that every record there is of a
process that died.
"""

import contextlib
import fcntl
import json
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repoagent.halt import Halt
from repoagent.refusal import Refusal

logger = logging.getLogger(__name__)

_SUFFIX = ".journal"
_PAUSE = 0.005


class Record:
    """One change that is under way."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line; it is on the disk when this returns."""
        text = memoryview(json.dumps(line).encode() + b"\n")
        while text:
            text = text[os.write(self._descriptor, text) :]
        os.fsync(self._descriptor)

    def forget(self) -> None:
        """Removes the record: the change is done, or undone."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Lets go of the file; without `forget` the record stays."""
        os.close(self._descriptor)


class Journal:
    """All records of one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def locked(self, halt: Halt) -> Iterator[None]:
        """Waits until nobody else changes anything; other instances of the plugin included."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    halt.wait(_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def begin(self) -> Record:
        """A new, empty record."""
        path = self._directory / f"{uuid.uuid4().hex}{_SUFFIX}"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            flush_directory(self._directory)
        except OSError as error:
            raise Refusal("internal", f"cannot write the journal of changes: {error.strerror}") from error
        return Record(path, descriptor)

    def left_behind(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """The records of processes that died, each with the lines that were written whole."""
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            whole = path.read_bytes().split(b"\n")[:-1]
            try:
                yield path, [json.loads(line) for line in whole]
            except ValueError:
                logger.error("`%s` is no record of a change, and left alone", path)


def flush_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
