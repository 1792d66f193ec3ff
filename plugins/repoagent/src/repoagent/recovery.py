"""Takes back what a process that died had begun to change, at the start and before the next change.

Reads the journal that `transaction.py` wrote, and has `undertaking.py` undo it or tidy up after it. A
change whose last line says that it is done is left as it is. A record that no change can have written is
left alone.
"""

import logging
from typing import Any, Literal

import msgspec

from repoagent import confined
from repoagent.confined import Root
from repoagent.journal import Journal
from repoagent.refusal import Refusal
from repoagent.undertaking import Identity, Step, Undertaking, read_path, tidy, undo

logger = logging.getLogger(__name__)


class _StepLine(msgspec.Struct):
    path: str
    new: str | None
    old: str


class _Staging(msgspec.Struct, tag_field="state", tag="staging"):
    root: str
    steps: list[_StepLine]
    directories: list[str]


class _Later(msgspec.Struct):
    state: Literal["committing", "done"]
    placed: list[Identity | None] = []


def recover(journal: Journal, root: Root | None = None) -> int:
    """Takes back, or tidies up after, what processes that died have left; how many changes that were.

    The journal must be locked. What cannot be taken back now stays for later, and is logged; raises
    `Refusal` if it is in `root`, which is about to be changed.
    """
    count = 0
    for path, lines in journal.left_behind():
        if not lines:
            path.unlink()
            continue
        try:
            work, done = _read(lines)
        except (ValueError, TypeError) as error:
            logger.error("`%s` is no record of a change, and left alone: %s", path, error)
            continue
        try:
            _finish(work, done=done)
            path.unlink()
            count += 1
        except (OSError, Refusal) as error:
            logger.error("an interrupted change (`%s`) cannot be taken back yet: %s", path.name, error)
            if root is not None and work.root.path == root.path:
                problem = (
                    f"an interrupted change in the root `{root.name}` cannot be taken back yet: {error}"
                )
                raise Refusal("conflict", f"{problem}; nothing was changed") from error
    return count


def _read(lines: list[Any]) -> tuple[Undertaking, bool]:
    """The change that a record speaks of, and whether it is done; raises `ValueError` if it is none."""
    staging = msgspec.convert(lines[0], _Staging)
    later = msgspec.convert(lines[1:], list[_Later])
    placed: list[Identity | None] = [None] * len(staging.steps)
    if later and later[0].state == "committing":
        placed = later[0].placed
    steps = [
        Step.read(line.path, line.new, line.old, identity)
        for line, identity in zip(staging.steps, placed, strict=True)
    ]
    missing = [read_path(path) for path in staging.directories]
    work = Undertaking(Root(staging.root, staging.root), steps, missing)
    return work, bool(later) and later[-1].state == "done"


def _finish(work: Undertaking, *, done: bool) -> None:
    try:
        with work.root.opened() as descriptor:
            for step in work.steps:
                _open(descriptor, step)
        if done:
            tidy(work)
        else:
            undo(work)
            logger.warning(
                "a change of %d files in `%s` was interrupted and has been taken back",
                len(work.steps),
                work.root.path,
            )
    finally:
        work.close()


def _open(root: int, step: Step) -> None:
    """Opens the step's directory, if it is there: without it nothing of the step is."""
    try:
        step.directory = confined.open_directory(root, step.path.parent)
    except Refusal as refusal:
        if refusal.code not in ("not_found", "invalid_request"):
            raise
