"""Changes several files, all or none: whatever fails, and whenever this process dies.

New contents are written beside their places first, under names of the plugin's own. Then each is renamed
in, and what it replaces stays under a second name until all are in. If one step fails, those before it
are taken back. A file that somebody else changed meanwhile is never overwritten. `files.py` and
`patch.py` decide what is changed, `recovery.py` takes back what a dead process left.
"""

import base64
import contextlib
import errno
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from repoagent import confined
from repoagent.confined import Root
from repoagent.halt import Halt
from repoagent.journal import Journal
from repoagent.refusal import Refusal, from_os
from repoagent.relative import OWN_PREFIX, RelativePath
from repoagent.undertaking import Identity, Step, Undertaking, flush, tidy, undo

logger = logging.getLogger(__name__)

# File systems say in these ways that they have no hard links, or not for this file.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


@dataclass(frozen=True)
class Content:
    """What a file shall be; `mode` holds its permissions, and a new file without gets the usual ones."""

    data: bytes
    mode: int | None = None
    executable: bool = False


@dataclass(frozen=True)
class Change:
    """One place: what is there now, `None` for nothing, and what shall be there."""

    path: RelativePath
    before: Identity | None
    after: Content | None


def apply(
    root: Root,
    changes: Sequence[Change],
    journal: Journal,
    halt: Halt,
    *,
    after_step: Callable[[str], None] = lambda name: None,
) -> None:
    """Makes all changes, or raises `Refusal` and leaves everything as it was.

    The journal must be locked. `after_step` hears of each step that was taken; tests die there.
    """
    mark = OWN_PREFIX + uuid.uuid4().hex.encode()
    steps = [
        Step(
            change.path,
            change.before,
            None if change.after is None else b"%s-%d.new" % (mark, number),
            b"%s-%d.old" % (mark, number),
        )
        for number, change in enumerate(changes)
    ]
    work = Undertaking(root, steps, _missing_directories(root, changes))
    record = journal.begin()
    done = False
    try:
        record.write(
            {
                "state": "staging",
                "root": root.path,
                "steps": [step.json() for step in steps],
                "directories": [base64.b64encode(path.raw).decode() for path in work.missing],
            }
        )
        after_step("recorded")
        for step, change in zip(steps, changes, strict=True):
            halt.check()
            _stage(root, step, change.after)
            after_step("staged")
        record.write(
            {
                "state": "committing",
                "placed": [step.placed and asdict(step.placed) for step in steps],
            }
        )
        after_step("all staged")
        for step in steps:
            _check_unchanged(step)
        for step in steps:
            _place(step, after_step)
        flush(work)
        after_step("flushed")
        record.write({"state": "done"})
        done = True
        after_step("done")
    except OSError as error:
        raise from_os(error, "cannot make the change; nothing was changed") from error
    finally:
        # What fails here leaves the record, and is done before the next change.
        try:
            if _end(work, done=done):
                record.forget()
        finally:
            work.close()
            record.close()


def _end(work: Undertaking, *, done: bool) -> bool:
    """Cleans up after the change or takes it back; whether nothing of it is left to do."""
    if done:
        try:
            tidy(work)
        except OSError as error:
            logger.warning("what a change replaced cannot be removed yet: %s", error)
            return False
        return True
    try:
        undo(work)
    except (OSError, Refusal) as error:
        raise Refusal(
            "internal",
            f"the change failed, and cannot be taken back yet: {error}; it is tried again before the"
            " next change",
        ) from error
    return True


def _missing_directories(root: Root, changes: Sequence[Change]) -> list[RelativePath]:
    """The directories that have to be made, the upper ones first."""
    missing: dict[RelativePath, None] = {}
    with root.opened() as descriptor:
        for change in changes:
            if change.after is None:
                continue
            parts = change.path.parent.parts
            for depth in range(1, len(parts) + 1):
                path = RelativePath(parts[:depth])
                if path in missing:
                    continue
                try:
                    os.close(confined.open_directory(descriptor, path))
                except Refusal as refusal:
                    if refusal.code != "not_found":
                        raise
                    missing[path] = None
    return list(missing)


def _stage(root: Root, step: Step, content: Content | None) -> None:
    """Opens the directory, and writes the new content beside its place."""
    with root.opened() as descriptor:
        step.directory = confined.open_directory(descriptor, step.path.parent, make=content is not None)
    if content is None or step.new is None:
        return
    usual = 0o777 if content.executable else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(step.new, flags, usual, dir_fd=step.directory)
    try:
        left = memoryview(content.data)
        while left:
            left = left[os.write(descriptor, left) :]
        if content.mode is not None:
            os.fchmod(descriptor, content.mode)
        os.fsync(descriptor)
        step.placed = Identity.of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _check_unchanged(step: Step) -> None:
    found = confined.look(step.directory, step.path)
    if (None if found is None else Identity.of(found)) != step.before:
        raise Refusal(
            "conflict",
            f"`{step.path.text}` was changed by somebody else meanwhile; nothing was changed, ask again",
            param="path",
        )


def _place(step: Step, after_step: Callable[[str], None]) -> None:
    """Keeps what is there under a second name, and puts the new file there."""
    here: dict[str, Any] = {"src_dir_fd": step.directory, "dst_dir_fd": step.directory}
    if step.before is None:
        _place_new(step, here)
        after_step("placed")
        return
    try:
        os.link(step.path.name, step.old, follow_symlinks=False, **here)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(step.path.name, step.old, **here)
    after_step("kept")
    kept = os.stat(step.old, dir_fd=step.directory, follow_symlinks=False)
    if Identity.of(kept) != step.before:
        raise Refusal(
            "conflict", f"`{step.path.text}` was changed by somebody else meanwhile; nothing was changed"
        )
    if step.new is not None:
        os.rename(step.new, step.path.name, **here)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(step.path.name, dir_fd=step.directory)
    after_step("placed")


def _place_new(step: Step, here: dict[str, Any]) -> None:
    """Puts a file where nothing is; what somebody else made there in the meantime stays."""
    if step.new is None:
        return
    try:
        os.link(step.new, step.path.name, follow_symlinks=False, **here)
    except FileExistsError:
        raise Refusal(
            "conflict", f"`{step.path.text}` was made by somebody else meanwhile; nothing was changed"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _check_unchanged(step)
        os.rename(step.new, step.path.name, **here)
        return
    os.unlink(step.new, dir_fd=step.directory)
