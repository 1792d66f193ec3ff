"""One change of several files while it is under way: its steps, and how they are taken back.

Decides nothing: `transaction.py` takes the steps, and has them undone when one fails; `recovery.py` does
that for a process that died. Undoing looks at what is there, never at what should be, so that it can be
done again after it was interrupted itself.
"""

import base64
import contextlib
import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any

from repoagent import confined
from repoagent.confined import Root
from repoagent.refusal import Refusal
from repoagent.relative import OWN_PREFIX, RelativePath

logger = logging.getLogger(__name__)

_OWN = re.compile(re.escape(OWN_PREFIX.decode()) + r"[0-9a-f]{32}-[0-9]+\.(new|old)")


@dataclass(frozen=True)
class Identity:
    """Which file it is and what is in it, as far as the file system tells without reading."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Identity":
        """Of what was looked at."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass
class Step:
    """A change with the names and descriptors that it needs."""

    path: RelativePath
    before: Identity | None
    new: bytes | None
    old: bytes
    placed: Identity | None = None
    directory: int = -1

    def json(self) -> dict[str, Any]:
        return {
            "path": base64.b64encode(self.path.raw).decode(),
            "new": None if self.new is None else self.new.decode(),
            "old": self.old.decode(),
        }

    @classmethod
    def read(cls, path: str, new: str | None, old: str, placed: Identity | None) -> "Step":
        """What `json` wrote; raises `ValueError` for what it cannot have written."""
        for name in (new, old):
            if name is not None and not _OWN.fullmatch(name):
                raise ValueError(f"`{name}` is no name that a change gives")
        return cls(read_path(path), None, None if new is None else new.encode(), old.encode(), placed)


def read_path(text: str) -> RelativePath:
    """A path of a record; raises `ValueError` for one that callers could not have named."""
    try:
        path = RelativePath.parse_base64(text)
    except Refusal as refusal:
        raise ValueError(refusal.message) from None
    if not path.parts:
        raise ValueError("a path is empty")
    return path


@dataclass
class Undertaking:
    """All steps in one root, with the directories that were missing."""

    root: Root
    steps: list[Step]
    missing: list[RelativePath] = field(default_factory=list)

    def close(self) -> None:
        for step in self.steps:
            if step.directory >= 0:
                os.close(step.directory)
                step.directory = -1


def flush(work: Undertaking) -> None:
    """Makes the names durable, those of new directories included."""
    for directory in {step.directory for step in work.steps}:
        os.fsync(directory)
    for path in {path.parent for path in work.missing}:
        with work.root.directory(path) as directory:
            os.fsync(directory)


def tidy(work: Undertaking) -> None:
    """Removes what was kept, now that every change is in."""
    for step in work.steps:
        if step.directory >= 0:
            _remove(step, step.old)
            if step.new is not None:
                _remove(step, step.new)


def undo(work: Undertaking) -> None:
    """Takes back whatever was done; may be done again after it was interrupted itself."""
    for step in reversed(work.steps):
        if step.directory >= 0:
            _undo_step(step)
    with work.root.opened() as root:
        for path in reversed(work.missing):
            # It was never made, or somebody else uses it by now.
            with contextlib.suppress(OSError, Refusal):
                above = confined.open_directory(root, path.parent)
                try:
                    os.rmdir(path.name, dir_fd=above)
                finally:
                    os.close(above)
    for directory in {step.directory for step in work.steps if step.directory >= 0}:
        os.fsync(directory)


def _undo_step(step: Step) -> None:
    here: dict[str, Any] = {"src_dir_fd": step.directory, "dst_dir_fd": step.directory}
    place = confined.look(step.directory, step.path)
    old = confined.look(step.directory, RelativePath((step.old,)))
    ours = place is not None and step.placed == Identity.of(place)
    if old is not None:
        if place is None or ours:
            os.rename(step.old, step.path.name, **here)
        elif (place.st_dev, place.st_ino) == (old.st_dev, old.st_ino) or _is_spare(step, old):
            _remove(step, step.old)
        else:
            logger.error(
                "`%s` was changed while a change of it was taken back; what it was before is kept"
                " beside it as `%s`",
                step.path.text,
                step.old.decode(),
            )
    elif ours:
        _remove(step, step.path.name)
    if step.new is not None:
        _remove(step, step.new)


def _is_spare(step: Step, old: os.stat_result) -> bool:
    """Whether the second name is one too many: nothing was put into the place, and the file has its own."""
    waiting = step.new is None or confined.look(step.directory, RelativePath((step.new,))) is not None
    return waiting and old.st_nlink > 1


def _remove(step: Step, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=step.directory)
